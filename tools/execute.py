"""Run notebook sources and store their outputs: `x.md` becomes the `x.ipynb` beside it.

    python tools/execute.py                   # what has changed, or never ran
    python tools/execute.py book/code/x.md    # this one
    python tools/execute.py --force           # all of them

What is written depends on the source and the outputs alone, so running again what has
not changed changes no byte. The metadata say with which versions a notebook ran, and
when its outputs last changed. Where only prose has changed, nothing is run: the stored
outputs are those of the same code.
"""

import argparse
import base64
import datetime
import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from kernel_variables import KERNEL_VARIABLES

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
# Converted but not run: it needs data that is not bundled.
NOT_EXECUTED = {"book/code/cifar10_to_cifar100.md"}
README_PICTURE = ROOT / "assets" / "learning_curves.png"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# TensorFlow's C++ log: oneDNN, CPU features, absl. It carries times and process ids.
LOG_LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWEF] .*"
    r"|[IWEF]\d{4} \d\d:\d\d:\d+\.\d+ .*"
    r"|WARNING: All log messages before absl::InitializeLog\(\) .*"
    r"|To enable (the following instructions|them in other operations).*"
)
SHOWN_VERSIONS = ("tensorflow", "keras", "scikit-learn", "numpy")
CELL_TIMEOUT = 600  # seconds, as in `make test`


def find_sources(folder=BOOK):
    """Paths of the Markdown files in `folder` that are notebooks, sorted."""
    return sorted(
        path
        for path in folder.rglob("*.md")
        if path.read_text(encoding="utf-8").startswith("---\njupytext:")
    )


def convert(source):
    """The notebook that the Markdown file `source` describes, without outputs."""
    notebook = jupytext.read(source, fmt="md:myst")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen = Counter()
    for cell in notebook.cells:  # jupytext's own ids are random
        key = f"{cell.cell_type}\n{cell.source}"
        seen[key] += 1
        cell.id = hashlib.sha256(f"{seen[key]}\n{key}".encode()).hexdigest()[:12]
    return notebook


def outline(notebook):
    """All that the source decides: ids, sources and metadata."""
    cells = [(c.cell_type, c.id, c.source, c.metadata) for c in notebook.cells]
    return cells, {k: v for k, v in notebook.metadata.items() if k != "executed"}


def read_stored(path):
    """The stored notebook, or None where there is none that can be read."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError):
        return None


def find_code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_executed(notebook):
    return all(cell.execution_count for cell in find_code(notebook))


def is_stored(source):
    """Whether the notebook beside `source` is in step with it, and was run."""
    stored = read_stored(source.with_suffix(".ipynb"))
    if stored is None or outline(stored) != outline(convert(source)):
        return False
    return name_of(source) in NOT_EXECUTED or is_executed(stored)


def name_of(path):
    return path.resolve().relative_to(ROOT).as_posix()


def clean_outputs(outputs):
    """Drop TensorFlow's log, join stream parts, refuse any other stderr."""
    cleaned = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                lines = output.text.splitlines(keepends=True)
                output.text = "".join(x for x in lines if not LOG_LINE.match(x))
                if output.text.strip():
                    raise ValueError(f"a cell wrote to stderr:\n{output.text.strip()}")
                continue
            # How a stream is cut into parts is a matter of timing.
            if cleaned and cleaned[-1].get("name") == output.name:
                cleaned[-1].text += output.text
                continue
        cleaned.append(output)
    return cleaned


def run(notebook, folder):
    """Execute `notebook` in place, with `folder` as the working directory."""
    os.environ.update(KERNEL_VARIABLES, TF_CPP_MIN_LOG_LEVEL="3", PYTHONHASHSEED="0")
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # the kernel's own chatter
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(stderr=subprocess.DEVNULL)  # it repeats what the cells store
    for cell in find_code(notebook):
        cell.outputs = clean_outputs(cell.outputs)
    notebook.metadata = nbformat.from_dict(METADATA)  # the kernel adds its version
    notebook.metadata["executed"] = describe_run()


def find_version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return version(f"{name}-cpu")


def describe_run():
    """Today's date and the versions in use, by name."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    versions = {name: find_version(name) for name in SHOWN_VERSIONS}
    return {"date": today, "python": platform.python_version(), **versions}


def take_outputs(notebook, stored):
    """Copy the outputs of `stored` if it ran the same code; whether it did."""
    if stored is None or not is_executed(stored):
        return False
    new, old = find_code(notebook), find_code(stored)
    if [(c.source, c.metadata) for c in new] != [(c.source, c.metadata) for c in old]:
        return False
    for to, origin in zip(new, old, strict=True):
        to.outputs, to.execution_count = origin.outputs, origin.execution_count
    if "executed" in stored.metadata:
        notebook.metadata["executed"] = stored.metadata["executed"]
    return True


def keep_wall_times(notebook, stored):
    """Take over the outputs of cells that show seconds: they differ in every run."""
    for new, old in zip(notebook.cells, stored.cells, strict=True):
        if "wall-time" in new.metadata.get("tags", []):
            new.outputs = old.outputs


def keep_date(notebook, stored):
    """Take over the date of a run that had the same versions and the same outputs."""
    new, old = notebook.metadata["executed"], stored.metadata.get("executed", {})
    if notebook.cells == stored.cells and new | {"date": old.get("date")} == old:
        new["date"] = old["date"]


def write_atomically(path, content):
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def find_readme_picture(notebook):
    """The PNG that a cell tagged `readme-picture` shows, as bytes, or None."""
    for cell in notebook.cells:
        if "readme-picture" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output.data["image/png"])
    return None


def execute(source, *, force=False):
    """Run one source, if its code has changed, and store it; say what happened."""
    target = source.with_suffix(".ipynb")
    stored = read_stored(target)
    notebook = convert(source)
    unchanged = stored is not None and outline(stored) == outline(notebook)
    start = time.perf_counter()
    prose_only = not force and not unchanged and take_outputs(notebook, stored)
    if name_of(source) not in NOT_EXECUTED and not prose_only:
        run(notebook, source.parent)
        if unchanged and is_executed(stored):
            keep_wall_times(notebook, stored)
            keep_date(notebook, stored)
    text = nbformat.writes(notebook) + "\n"
    same = target.exists() and target.read_text(encoding="utf-8") == text
    if not same:
        write_atomically(target, text.encode())
    if picture := find_readme_picture(notebook):
        write_atomically(README_PICTURE, picture)
    seconds = time.perf_counter() - start
    result = (
        "same bytes" if same else "written, only prose" if prose_only else "written"
    )
    print(f"{seconds:6.1f} s  {result}")


def shorten(error):
    """What went wrong, in a few lines and without colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return "\n".join(text.splitlines()[-30:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="x.md or x.ipynb")
    parser.add_argument("--force", action="store_true", help="run unchanged ones too")
    arguments = parser.parse_args()

    every = find_sources()
    chosen = [path.resolve().with_suffix(".md") for path in arguments.notebooks]
    for path in chosen:
        if path not in every:
            sys.exit(f"Error: {path} is not a notebook source below {BOOK}")
    sources = chosen or [p for p in every if arguments.force or not is_stored(p)]
    if not sources:
        print(f"All {len(every)} notebooks are in step with their sources.")

    failed = []
    for source in sources:
        print(f"{name_of(source):48}", end=" ", flush=True)
        try:
            execute(source, force=arguments.force)
        except (
            CellExecutionError,
            CellTimeoutError,
            DeadKernelError,
            ValueError,
        ) as error:
            print(f"FAILED, the stored notebook is left as it was\n{shorten(error)}\n")
            failed.append(name_of(source))
    if failed:
        sys.exit(f"Error: not executed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
