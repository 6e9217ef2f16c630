"""What oneDNN is worth: the same work in two processes, with the switch off and on.

    python benchmarks/onednn.py  # writes results/onednn.json

TensorFlow reads `TF_ENABLE_ONEDNN_OPTS` once, when it is imported, so each setting has
a process of its own. Both do each task once untimed, for building and tracing; then
they take turns, in rounds, forwards and backwards, and one waits while the other works.
Each has one thread, as the kernel of a notebook.

What counts is the median over the rounds of (seconds when off) / (seconds when on) in
the same round, and the same ratio of processor seconds. `result` is the loss of the
last training, or the mean of the features: the switch changes the order of sums, and so
the last digits, but not the work.
"""

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from shared import report
from shared.rounds import COLUMNS, compare_in_rounds
from shared.worker import Worker

from transfer_tutorial import backbones, datasets, pretrained
from transfer_tutorial.fine_tuning import reset_training
from transfer_tutorial.linear_probe import extract_features

SWITCH = "TF_ENABLE_ONEDNN_OPTS"
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
WAYS = {"oneDNN off": "0", "oneDNN on": "1"}
TASKS = (
    "small CNN from scratch",
    "source CNN, all layers",
    "EfficientNet-Lite0, features",
    "text GRU from scratch",
    "MiniLM, all layers",
)
FULL = dict(quick=False, threads=1, tasks=TASKS, steps=10, pictures=128, rounds=7)
QUICK = FULL | dict(quick=True, tasks=TASKS[:1], steps=1, pictures=8, rounds=1)


def train_with(backbone, x, y, batch_size):
    """A function without arguments: one epoch from the same start, and its loss."""
    classifier = backbones.attach_head(backbone, int(y.max()) + 1)
    start = classifier.get_weights()
    loss = "sparse_categorical_crossentropy"
    classifier.compile(keras.optimizers.Adam(1e-4), loss)

    def train():
        reset_training(classifier, start)
        fit = classifier.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
        return fit.history["loss"][0]

    return train


def list_tasks(settings):
    """Functions that prepare the tasks, in their order: they return what is timed."""
    steps = settings["steps"]
    (x, y), _ = datasets.load_cifar10_mini()
    rng = np.random.default_rng(0)
    ids, positive = rng.integers(1, 4000, (50 * steps, 24)), np.arange(50 * steps) % 2

    def prepare_cnn(backbone, batch_size):
        rows = slice(batch_size * steps)
        return train_with(backbone, x[rows], y[rows], batch_size)

    def prepare_features():
        backbone = pretrained.build_efficientnet_lite0_backbone(image_size=96)
        pictures = x[: settings["pictures"]]
        return lambda: extract_features(backbone, pictures, verbose=0).mean()

    def prepare_minilm():
        rows = slice(16 * max(1, steps // 5))
        backbone = pretrained.build_minilm_backbone()
        return train_with(backbone, ids[rows], positive[rows], 16)

    def prepare_small_cnn():
        backbone = backbones.build_cnn_backbone((32, 32, 3), filters=(16, 32, 64))
        return prepare_cnn(backbone, 50)

    def prepare_source_cnn():
        return prepare_cnn(pretrained.build_source_cnn_backbone(), 32)

    def prepare_gru():
        backbone = backbones.build_text_gru_backbone(4000, embedding_size=32, units=32)
        return train_with(backbone, ids, positive, 50)

    ways = prepare_small_cnn, prepare_source_cnn, prepare_features
    ways += prepare_gru, prepare_minilm
    return dict(zip(TASKS, ways, strict=True))


def serve(settings):
    """What a worker does: answer the name of a task with what it took."""
    keras.utils.set_random_seed(0)
    tasks, prepared = list_tasks(settings), {}
    for line in sys.stdin:
        name = line.rstrip("\n")
        if name not in prepared:
            prepared[name] = tasks[name]()
        start, cpu_start = time.perf_counter(), time.process_time()
        result = float(prepared[name]())
        took = time.perf_counter() - start, time.process_time() - cpu_start
        print(json.dumps({"took": took, "result": result}), flush=True)


def measure_task(task, workers, rounds):
    """One row for each worker; the first is the default."""
    results = {way: worker.ask(task)["result"] for way, worker in workers.items()}
    return compare_in_rounds(
        task, results, rounds, lambda way: workers[way].ask(task)["took"]
    )


def measure(settings):
    """Two rows for each task: the switch off, the switch on."""
    arguments = ["--worker", "--quick"] if settings["quick"] else ["--worker"]
    with ExitStack() as stack:
        workers = {
            way: stack.enter_context(
                Worker(__file__, arguments, ONE_THREAD | {SWITCH: value})
            )
            for way, value in WAYS.items()
        }
        tables = [
            measure_task(task, workers, settings["rounds"])
            for task in settings["tasks"]
        ]
    return [row for table in tables for row in table]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny, for tests")
    parser.add_argument("--output", type=Path, default=report.RESULTS / "onednn.json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else FULL
    if options.worker:
        tf.get_logger().setLevel("ERROR")  # no advice about retracing: several models
        return serve(settings)
    rows = measure(settings)
    print("ratios: seconds when off / seconds of this way, in the same round")
    report.print_table(rows, COLUMNS)
    on_by_itself = report.has_instructions("avx512_vnni", "amx_")
    settings = settings | {"on_by_itself": on_by_itself}
    content = report.build_report("onednn", settings, rows=rows)
    report.write_json(options.output, content)


if __name__ == "__main__":
    main()
