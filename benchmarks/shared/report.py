"""What the benchmarks share: the machine, the table and the file."""

import datetime
import importlib.metadata
import json
import os
import platform
import tempfile
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "results"
LIBRARIES = ("keras", "numpy", "scikit-learn", "tensorflow", "tensorflow-cpu")


def find_cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def has_instructions(*names):
    """Whether the processor has one of these; None where one cannot tell."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return None
    return any(name in path.read_text("utf-8") for name in names)


def find_versions():
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass  # TensorFlow goes by one of two names
    return versions


def build_report(name, settings, **tables):
    """What is stored: nothing in it names the machine, its user or a path."""
    machine = {
        "system": platform.system(),
        "cpu": find_cpu_model(),
        "cores": os.cpu_count(),
        "versions": find_versions(),
    }
    date = datetime.date.today().isoformat()
    return dict(benchmark=name, date=date, machine=machine, settings=settings, **tables)


def print_table(rows, columns):
    """Print `rows`, dicts, aligned; `columns` maps a key to its format."""
    lines = [[key.replace("_", " ") for key in columns]]
    lines += [
        ["" if row[key] is None else format(row[key], f) for key, f in columns.items()]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["<" in form or form == "" for form in columns.values()]
    for line in lines:
        cells = zip(line, widths, texts, strict=True)
        print("  ".join(c.ljust(w) if t else c.rjust(w) for c, w, t in cells).rstrip())


def write_json(path, content):
    """Write `content` so that a reader finds the whole file or the one before."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, allow_nan=False)
            file.write("\n")
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    print(f"written: {path.name}")
