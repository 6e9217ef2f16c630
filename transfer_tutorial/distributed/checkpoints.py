"""Checkpoints of whole epochs, of which a half-written one does no harm."""

import hashlib
import io
import os
import warnings
from pathlib import Path

import numpy as np


class EpochCheckpoints:
    """The newest checkpoints of a training, one file for each epoch.

    A file gets its name only when all of it is on the disk, so that a process killed
    while it writes leaves the older files as they were. Where a file is damaged all the
    same, it is skipped with a warning. One process may write; put the folder where it
    outlives that machine.

    Args:
        folder: Where the files `epoch_00001.npz`, ... are; made when needed.
        keep: How many of the newest to keep, at least 1.

    Raises:
        ValueError: If `keep` is below 1.
    """

    def __init__(self, folder, *, keep=3):
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1. Received: keep={keep}.")
        self.folder = Path(folder)
        self.keep = keep

    def save(self, epoch, arrays):
        """Write one file and delete those that are too old.

        Args:
            epoch: How many epochs are done, at most 99,999.
            arrays: Dict of arrays.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"epoch_{epoch:05d}.tmp"
        with open(temporary, "wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())  # `np.load` reads past it
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, temporary.with_suffix(".npz"))
        too_old = sorted(self.folder.glob("epoch_*.npz"))[: -self.keep]
        for path in [*too_old, *self.folder.glob("epoch_*.tmp")]:
            path.unlink()

    def load_newest(self):
        """Read the newest file that is whole.

        Returns:
            Dict of arrays, or None where there is no such file.
        """
        for path in sorted(self.folder.glob("epoch_*.npz"), reverse=True):
            content = path.read_bytes()
            if hashlib.sha256(content[:-32]).digest() == content[-32:]:
                with np.load(io.BytesIO(content)) as stored:
                    return {name: stored[name] for name in stored.files}
            warnings.warn(
                f"The checkpoint {path} is damaged and is skipped: its "
                f"{len(content)} bytes do not match their checksum.",
                stacklevel=2,
            )
        return None
