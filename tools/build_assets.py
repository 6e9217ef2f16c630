"""Vendor MathJax and TensorFlow.js into `assets/`: the website needs no network.

    python tools/build_assets.py        # needs npm

Only what the site loads is kept. Of MathJax, the TeX reader with its extensions, the
HTML writer and its fonts, 2 MB of 24; of TensorFlow.js, the one file that the
playground loads, 1.5 MB of 150.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "assets" / "vendor"
# Apache-2.0: TensorFlow.js names it in its `package.json` and packs no copy of it.
APACHE = ROOT / "transfer_tutorial" / "weights" / "LICENSE-Apache-2.0.txt"
# Folder in `assets/vendor/`: the npm package, its version, the SHA-256 of its archive,
# and what is kept of it.
PACKAGES = {
    "mathjax": (
        "mathjax",
        "3.2.2",
        "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09",
        (
            "LICENSE",
            "es5/tex-chtml.js",
            "es5/input/tex/extensions/",
            "es5/output/chtml/fonts/woff-v2/",
        ),
    ),
    "tfjs": (
        "@tensorflow/tfjs",
        "4.22.0",
        "56505c191e24116787477b3bb5bb1cc0cf1c2bdce8112b9c402a8a2d31cf2f00",
        ("dist/tf.min.js",),
    ),
}


def fetch(package, version, sha256, folder):
    """The archive of an npm package, checked."""
    command = ["npm", "pack", "--silent", f"{package}@{version}"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    name = package.removeprefix("@").replace("/", "-")
    path = Path(folder) / f"{name}-{version}.tgz"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise SystemExit(f"Error: {path.name} has the wrong SHA-256, {digest}")
    return path


def unpack(archive, target, kept):
    """Write the `kept` files of an archive to `target`, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    with tarfile.open(archive) as package:
        for member in package:
            name = member.name.removeprefix("package/")
            folder = any(name.startswith(k) for k in kept if k.endswith("/"))
            if member.isfile() and (folder or name in kept):
                path = target / name.removeprefix("dist/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(package.extractfile(member).read())


def main():
    for folder, (package, version, sha256, kept) in PACKAGES.items():
        target = VENDOR / folder
        with tempfile.TemporaryDirectory() as cache:
            unpack(fetch(package, version, sha256, cache), target, kept)
        if not (target / "LICENSE").exists():
            shutil.copyfile(APACHE, target / "LICENSE")
        files = [path for path in target.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"{len(files)} files, {size / 1e6:.1f} MB in {target}")


if __name__ == "__main__":
    main()
