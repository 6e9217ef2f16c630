"""Where the time of each notebook goes: training, predicting, probes, and the rest.

    python benchmarks/notebooks.py            # writes results/notebooks.json
    python benchmarks/notebooks.py code/lora  # measures this one; other rows stay

Every notebook runs as in `make execute`, one after another, each with one thread. What
counts are processor seconds, which other programs on the machine hardly change: of the
whole kernel (not of processes that it starts, such as Ray's), and of the calls in it
that train networks (`fit`), predict (features and probabilities, `evaluate`), and fit
linear probes. The rest is imports, building and tracing outside these calls, figures,
and all that is plain NumPy. Tracing inside `fit` counts as training.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from shared import report

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
NOT_BUNDLED = {"code/cifar10_to_cifar100"}  # its data
QUICK = ["concepts/domains_and_tasks"]
METER = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
START = METER + "from shared import meter; meter.start(); del sys"
READ = "import json; from shared import meter; print(json.dumps(meter.read()))"
COLUMNS = {
    "notebook": "",
    "seconds": ".0f",
    "processor_seconds": ".0f",
    "training": ".0f",
    "predicting": ".0f",
    "probing": ".0f",
    "rest": ".0f",
    "training_to_rest": ".2f",
}


def find_notebooks():
    """Names of the notebooks whose data are bundled, such as `code/lora`."""
    paths = sorted(BOOK.rglob("*.ipynb"))
    names = [p.relative_to(BOOK).with_suffix("").as_posix() for p in paths]
    return [name for name in names if name not in NOT_BUNDLED]


def run(name, folder=BOOK):
    """One row: seconds of the notebook `name`, and where they went."""
    path = Path(folder) / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    first, last = map(nbformat.v4.new_code_cell, (START, READ))
    notebook.cells = [first, *notebook.cells, last]
    begin = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    found = json.loads(last.outputs[0].text)
    parts = {kind: found[kind] for kind in ("training", "predicting", "probing")}
    rest = found["whole"] - sum(parts.values())
    return {
        "notebook": name,
        "seconds": seconds,
        "processor_seconds": found["whole"],
        **parts,
        "importing": found["importing"],
        "rest": rest,
        "training_to_rest": found["training"] / (found["whole"] - found["training"]),
    }


def keep_rows(path, names):
    """The rows that `path` has of the notebooks `names`."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["notebook"] in names]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="code/lora")
    parser.add_argument("--quick", action="store_true", help="one notebook, for tests")
    parser.add_argument(
        "--output", type=Path, default=report.RESULTS / "notebooks.json"
    )
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT / "tools"))
    from kernel_variables import KERNEL_VARIABLES

    os.environ.update(KERNEL_VARIABLES)
    every = find_notebooks()
    names = QUICK if options.quick else options.notebooks or every
    if unknown := set(names) - set(every):
        parser.error(f"no such notebook: {', '.join(sorted(unknown))}")
    others = set(every) - set(names)
    rows = keep_rows(options.output, others) if options.notebooks else []
    for number, name in enumerate(names, start=1):
        rows.append(run(name))
        spent = f"{rows[-1]['processor_seconds']:.0f} s of processor time"
        print(f"{number}/{len(names)} {name}: {spent}", file=sys.stderr)
    rows.sort(key=lambda row: -row["processor_seconds"])
    report.print_table(rows, COLUMNS)
    content = report.build_report(
        "notebooks", {"quick": options.quick, "threads": 1}, rows=rows
    )
    report.write_json(options.output, content)


if __name__ == "__main__":
    main()
