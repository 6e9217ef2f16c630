"""Our CORAL, Deep CORAL, MMD and DANN beside those of SKADA, from the same start.

    python benchmarks/adaptation.py  # our half, which is only printed

Both halves need SKADA in an environment of its own, since it brings PyTorch (a build
for the processor alone is enough). It runs in a process of its own interpreter:

    python -m venv other
    other/bin/pip install skada==0.6.0 skorch==1.4.0 torch scikit-learn==1.9.1
    python benchmarks/adaptation.py --other-python other/bin/python

That writes results/adaptation.json, which our half alone does not replace.

MNIST is the labelled source, UCI the unlabelled target, scored on its test digits. In
each seed both sides get the same arrays, initial weights, rows in every batch, number
of steps, and Adam with the same rate and epsilon. (PyTorch has epsilon elsewhere in the
formula. Left as it is, the probabilities of the source alone differ by 1e-4 after one
step; moved, by 2e-7.) One thread each, since on a busy machine a pool of threads mostly
measures the other programs. No weight was chosen, all are shown; their range was fixed
after a look at training digits of the target that two other draws had left over.

The two libraries mean different things by three names, so each has one row more:

- *CORAL*: on standardised pixels our regularisation of 1 is SKADA's shrinkage of 1/2.
  Its default is automatic shrinkage.
- *MMD*: SKADA's DAN sums 33 kernels of the distance, ours is the mean of 5 of its
  square. The weight of the sum is divided by 33. "Our kernel in both" puts our formula,
  written anew for PyTorch, into SKADA's training.
- *DANN*: SKADA adds the halves of the cross-entropy, we take their mean, so its weight
  is halved. The discriminator is ours in both, and SKADA's default in one row. That one
  ends in a softmax over a single output, which is always 1 and has no gradient: in
  every seed it is exactly as accurate as SKADA's source alone.

Seconds are those of training. Building and tracing are in the "first seconds" instead,
those of a method's first training and prediction; there Deep CORAL and DANN take us
longer than SKADA. So does the source alone after that. There half of our processor time
goes into the input: to get the same rows, this script draws pairs and drops the target
(0.6 s, against 0.3 s for `fit` on batches made beforehand).

Reference:
    Lalou et al., 2024, "SKADA-Bench: Benchmarking Unsupervised Domain Adaptation
    Methods with Realistic Validation On Diverse Modalities".
"""

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import threadpoolctl
from shared import report
from sklearn.linear_model import LogisticRegression

from transfer_tutorial import adaptation, backbones, datasets, evaluation, fine_tuning

WORKER = Path(__file__).resolve().parent / "shared" / "skada_worker.py"
LOSS = "sparse_categorical_crossentropy"
FULL = dict(
    quick=False,
    image_size=16,
    rows=1000,  # of each domain
    test_rows=450,
    hidden_units=[128, 64],
    discriminator_units=64,
    batch_size=100,
    epochs=20,
    learning_rate=1e-3,
    regularization=1.0,
    max_iter=2000,
    seeds=5,
    weights={
        "logistic regression": [None],
        "CORAL": [None],
        "CORAL, automatic shrinkage": [None],
        "source only": [None],
        "Deep CORAL": [10, 100, 1000],
        "MMD": [0.1, 1, 10],
        "MMD, our kernel in both": [1],
        "DANN": [0.03, 0.1, 0.3],
        "DANN, SKADA's discriminator": [0.1],
    },
)
QUICK = FULL | dict(
    quick=True,
    image_size=8,
    rows=60,
    test_rows=40,
    hidden_units=[8, 4],
    discriminator_units=4,
    batch_size=20,
    epochs=2,
    seeds=2,
    weights={
        "CORAL": [None],
        "source only": [None],
        "Deep CORAL": [1],
        "DANN": [0.1],
    },
)
COLUMNS = {
    "method": "",
    "weight": "g",
    "ours_accuracy": ".3f",
    "ours_low": ".3f",
    "ours_high": ".3f",
    "other_accuracy": ".3f",
    "other_low": ".3f",
    "other_high": ".3f",
    "difference": "+.4f",
    "low": "+.4f",
    "high": "+.4f",
    "verdict": "",
    "probability_difference": ".1e",
    "ours_seconds": ".2f",
    "other_seconds": ".2f",
    "ratio": ".2f",
    "cpu_ratio": ".2f",
    "ours_first_seconds": ".1f",
    "other_first_seconds": ".1f",
}
MORE = "seeds smallest_ratio largest_ratio ours_cpu_seconds other_cpu_seconds"
SUMMARY_KEYS = [*COLUMNS, *MORE.split()]
VERDICTS = {"gain": "better", "negative transfer": "worse"}


def shrink(x, size):
    return np.clip(tf.image.resize(x, (size, size), antialias=True).numpy(), 0, 255)


def load_domains(settings):
    """MNIST's and UCI's training digits and UCI's test digits, as rows in 0...255."""
    (x, y), _ = datasets.load_mnist_mini()
    source = x[:, 4:24, 4:24], y  # without the empty frame
    target, (x_test, y_test) = datasets.load_digits_8x8()
    test = x_test[: settings["test_rows"]], y_test[: settings["test_rows"]]
    return [
        (shrink(x, settings["image_size"]).reshape(len(x), -1), y)
        for x, y in (source, target, test)
    ]


def standardize(x, like):
    scale = like.std(axis=0)
    return (x - like.mean(axis=0)) / np.where(scale > 0, scale, 1)


class Recorder(keras.Model):
    """Learns nothing; keeps the batches that `fit` gives it."""

    def __init__(self):
        super().__init__()
        self.seen, self.built = [], True

    def train_step(self, data):
        (source, _), target = data
        self.seen.append((source.numpy(), target.numpy()))
        return {"loss": 0.0}


def record_rows(data, seed, settings):
    """Which rows of each domain `fit` takes: two arrays of shape (epoch, step, row)."""
    numbers = np.arange(len(data["x_source"])), np.arange(len(data["x_target"]))
    recorder, labels = Recorder(), data["y_source"]
    recorder.compile("sgd", run_eagerly=True)
    numbered = dict(x_source=numbers[0], y_source=labels, x_target=numbers[1])
    fit(recorder, numbered, seed, settings)
    seen = np.array(recorder.seen)  # (step, domain, row)
    seen = seen.reshape(settings["epochs"], -1, 2, settings["batch_size"])
    return {"source_rows": seen[:, :, 0], "target_rows": seen[:, :, 1]}


def draw_weights(width, seed, settings):
    """Initial weights of the classifier and of the discriminator of one seed."""
    keras.utils.set_random_seed(seed)
    backbone = build_backbone(width, settings)
    classifier = backbones.attach_head(backbone, num_classes=10).get_weights()
    units = settings["discriminator_units"]
    features = keras.Input((settings["hidden_units"][-1],))
    logit = keras.layers.Dense(1)(keras.layers.Dense(units, "relu")(features))
    discriminator = keras.Model(features, logit).get_weights()
    return {
        **{f"weight_{i}": weight for i, weight in enumerate(classifier)},
        **{f"discriminator_{i}": weight for i, weight in enumerate(discriminator)},
    }


def draw_task(domains, seed, settings):
    """All that one seed needs, for both sides; the target's labels are not in it."""
    (x_source, y_source), (x_target, _), (x_test, _) = domains
    rng = np.random.default_rng(seed)
    source = rng.permutation(len(x_source))[: settings["rows"]]
    target = rng.permutation(len(x_target))[: settings["rows"]]
    data = {
        "x_source": x_source[source],
        "y_source": y_source[source],
        "x_target": x_target[target],
        "x_test": x_test,
        "z_source": standardize(x_source[source], x_source[source]),
        "z_target": standardize(x_target[target], x_target[target]),
        "z_test": standardize(x_test, x_target[target]),
    }
    data |= record_rows(data, seed, settings)
    return data | draw_weights(x_source.shape[1], seed, settings)


def build_backbone(width, settings):
    return backbones.build_mlp_backbone((width,), hidden_units=settings["hidden_units"])


def build_model(method, data, settings):
    """The compiled model of a method, untrained."""
    backbone = build_backbone(data["x_source"].shape[1], settings)
    if method == "source only":
        model = backbones.attach_head(backbone, num_classes=10)
    else:
        units = (settings["discriminator_units"],)
        alignments = {
            "Deep CORAL": adaptation.coral_loss,
            "MMD": adaptation.mmd_loss,
            "DANN": adaptation.DomainDiscriminator(units),
        }
        alignment = alignments[method.partition(",")[0]]
        model = adaptation.AdaptationModel(backbone, 10, alignment)
    optimizer = keras.optimizers.Adam(settings["learning_rate"])
    steps = settings["rows"] // settings["batch_size"]
    model.compile(optimizer, LOSS, steps_per_execution=steps)
    return model


def begin(model, case, data):
    """Set the weights that the other side starts from, too."""
    fine_tuning.reset_training(model, model.get_weights())
    is_plain = case["method"] == "source only"
    classifier = model if is_plain else model.classifier
    weights = [data[f"weight_{i}"] for i in range(len(classifier.get_weights()))]
    classifier.set_weights(weights)
    if not is_plain:
        model.weight.assign(case["weight"])
        if isinstance(model.alignment, adaptation.DomainDiscriminator):
            start = [data[f"discriminator_{i}"] for i in range(4)]
            trained = model.alignment.trainable_variables
            for variable, value in zip(trained, start, strict=True):
                variable.assign(value)


def fit(model, data, seed, settings):
    keras.utils.set_random_seed(seed)
    arrays = data["x_source"], data["y_source"], data["x_target"]
    size = settings["batch_size"]
    pairs = adaptation.pair_domains(*arrays, batch_size=size, seed=seed)
    if not isinstance(model, adaptation.AdaptationModel | Recorder):
        pairs = pairs.map(lambda source, target: source)
    model.fit(pairs, epochs=settings["epochs"], shuffle=False, verbose=0)


def timed(function):
    """What it returns, and `(seconds, processor seconds)`."""
    start, cpu_start = time.perf_counter(), time.process_time()
    answer = function()
    return answer, (time.perf_counter() - start, time.process_time() - cpu_start)


def fit_linear(case, data, settings):
    x = data["z_source"]
    if case["method"] != "logistic regression":
        regularization = settings["regularization"]
        x = adaptation.align_coral(x, data["z_target"], regularization=regularization)
    return LogisticRegression(max_iter=settings["max_iter"]).fit(x, data["y_source"])


class OurSide:
    """Trains with this package; keeps one compiled model a method."""

    def __init__(self, settings):
        self.settings, self.models = settings, {}

    def train(self, case, data, seed):
        """Probabilities of the target's test rows, and the seconds of the training."""
        method, settings = case["method"], self.settings
        if is_linear(case):
            model, seconds = timed(lambda: fit_linear(case, data, settings))
            return model.predict_proba(data["z_test"]), seconds
        if method not in self.models:
            self.models[method] = build_model(method, data, settings)
        model = self.models[method]
        begin(model, case, data)
        _, seconds = timed(lambda: fit(model, data, seed, settings))
        return model.predict(data["x_test"], verbose=0), seconds


def is_linear(case):
    return case["weight"] is None and case["method"] != "source only"


class OtherSide:
    """Trains with SKADA, in a process of the other interpreter."""

    def __init__(self, python, folder, settings):
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        quiet = os.environ | {"PYTHONWARNINGS": "ignore"}
        command = [str(python), str(WORKER)]
        self.process = subprocess.Popen(command, env=quiet, **pipes)
        self.folder, self.settings = folder, settings
        self.versions = self.read()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.communicate()  # closes its input, which ends it

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.communicate()  # closes the pipes
            raise RuntimeError(
                "`--other-python` must be an interpreter with SKADA, see the "
                f"docstring. Received: {self.process.args[0]}, which has ended."
            )
        return json.loads(line)

    def train(self, case, data, seed):
        """As `OurSide.train`."""
        arrays, answer = self.folder / f"{seed}.npz", self.folder / "answer.npy"
        if not arrays.exists():
            np.savez(arrays, **data)
        question = dict(case=case, seed=seed, arrays=str(arrays), answer=str(answer))
        question["settings"] = self.settings
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        seconds = self.read()
        return np.load(answer), seconds


def compare(case, sides, data, y_test, seed):
    """One row: both trainings of one seed, ours first in every other one."""
    row, found = case | {"seed": seed}, {}
    for name in list(sides)[:: -1 if seed % 2 else 1]:
        found[name], seconds = sides[name].train(case, data, seed)
        answers = found[name].argmax(axis=1)
        row[f"{name}_accuracy"] = float(np.mean(answers == y_test))
        row[f"{name}_seconds"], row[f"{name}_cpu_seconds"] = seconds
    if "other" in sides:
        ours, other = found["ours"], found["other"]
        row["probability_difference"] = float(np.mean(np.abs(ours - other)))
        row["ratio"] = row["other_seconds"] / row["ours_seconds"]
        row["cpu_ratio"] = row["other_cpu_seconds"] / row["ours_cpu_seconds"]
    return row


def time_first(side, case, data):
    """Seconds of a method's first training: building, tracing and predicting, too."""
    return timed(lambda: side.train(case, data, 0))[1][0]


def summarize(rows, first):
    """One line of the table: a case over its seeds; None where there is one side."""

    def collect(key):
        return np.array([row[key] for row in rows])

    line = dict.fromkeys(SUMMARY_KEYS)
    line |= {key: rows[0][key] for key in ("method", "weight")} | {"seeds": len(rows)}
    for side in first:
        scores = {side: {"accuracy": collect(f"{side}_accuracy")}}
        found = evaluation.compare_strategies(scores, side)[0]
        line |= {f"{side}_accuracy": found["mean"]}
        line |= {f"{side}_{key}": found[key] for key in ("low", "high")}
        for key in (f"{side}_seconds", f"{side}_cpu_seconds"):
            line[key] = float(np.median(collect(key)))
        line[f"{side}_first_seconds"] = first[side]
    if "other" in first:
        scores = collect("other_accuracy"), collect("ours_accuracy")
        line |= evaluation.compare_paired(*scores)
        line["verdict"] = VERDICTS.get(line["verdict"], "no evidence")
        line["probability_difference"] = float(collect("probability_difference").mean())
        for key in ("ratio", "cpu_ratio"):
            line[key] = float(np.median(collect(key)))
        line["smallest_ratio"] = float(collect("ratio").min())
        line["largest_ratio"] = float(collect("ratio").max())
    return line


def measure_method(method, weights, sides, tasks, y_test):
    """One row for each weight and seed, after an untimed training of each side."""
    cases = [{"method": method, "weight": weight} for weight in weights]
    first = {name: time_first(side, cases[0], tasks[0]) for name, side in sides.items()}
    rows, summary = [], []
    for case in cases:
        found = [
            compare(case, sides, data, y_test, seed) for seed, data in enumerate(tasks)
        ]
        rows += found
        summary.append(summarize(found, first))
    return rows, summary


def measure(settings, other_python=None):
    """All methods: one row for each case and seed, a summary, the other's versions."""
    domains = load_domains(settings)
    tasks = [draw_task(domains, seed, settings) for seed in range(settings["seeds"])]
    sides, rows, summary, versions = {"ours": OurSide(settings)}, [], [], None
    with contextlib.ExitStack() as stack:
        if other_python:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            other = stack.enter_context(OtherSide(other_python, folder, settings))
            sides["other"], versions = other, other.versions
        for method, weights in settings["weights"].items():
            some = measure_method(method, weights, sides, tasks, domains[2][1])
            rows += some[0]
            summary += some[1]
    return rows, summary, versions


def limit_threads():
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    threadpoolctl.threadpool_limits(1)  # of NumPy's and SciPy's matrix products


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny, for tests")
    parser.add_argument("--other-python", type=Path, help="interpreter with SKADA")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else FULL
    if not options.quick:  # in a test TensorFlow runs already
        limit_threads()
    rows, summary, versions = measure(settings, options.other_python)
    if versions is None:
        print("our half only; with --other-python SKADA is run beside it")
    else:
        print("difference, low, high: our accuracy - SKADA's; ratio: SKADA's / ours")
    report.print_table(summary, COLUMNS)
    content = report.build_report(
        "adaptation", settings, other=versions, summary=summary, rows=rows
    )
    if options.output or versions:
        stored = report.RESULTS / "adaptation.json"
        report.write_json(options.output or stored, content)


if __name__ == "__main__":
    main()
