"""Freeze and fit, as the Keras guide does it, against cached features and a probe.

    python benchmarks/linear_probe.py            # writes results/linear_probe.json

Both recipes get the same pictures, backbone and machine, in one process, and each is
scored on the same test pictures.

- *freeze and fit*: the frozen backbone, dropout of 0.2 and a new softmax head, trained
  by `fit` with Adam at its default rate. The backbone runs in every epoch. The guide's
  sketch of the recipe trains 20 epochs, and so did its full example of 2020, in batches
  of 32; its full example of today trains 2. We train 20, and keep the state after 2.
  Left out are the guide's validation pictures, which would only cost time, and its
  augmentation, with which features could not be cached.
- *features once*: `extract_features` on the training pictures, then `fit_linear_probe`.
  Both are in its seconds.

Building and tracing are in neither: an untimed small run of each comes first. Then each
run of `fit` stands between two runs of the other recipe, whose seconds are averaged, so
that a busy machine slows both.

Reference:
    Chollet, 2020, "Transfer Learning & Fine-tuning".
"""

import argparse
import hashlib
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from shared import report

from transfer_tutorial import (
    backbones,
    datasets,
    evaluation,
    fine_tuning,
    pretrained,
    splits,
)
from transfer_tutorial.linear_probe import extract_features, fit_linear_probe

SHORT = 2  # epochs of the guide's full example today
FULL = dict(
    quick=False,
    image_size=96,
    epochs=20,
    batch_size=32,
    dropout=0.2,
    learning_rate=1e-3,
    shots={10: 5, 100: 3, 300: 1},  # labels a class: seeds
    test_pictures=1000,
)
QUICK = FULL | dict(
    quick=True, image_size=32, epochs=2, shots={2: 2, 4: 1}, test_pictures=50
)
COLUMNS = {
    "labels_a_class": "d",
    "seeds": "d",
    "fit_seconds": ".1f",
    "once_seconds": ".1f",
    "ratio": ".1f",
    "ratio_after_2_epochs": ".1f",
    "fit_accuracy": ".3f",
    "once_accuracy": ".3f",
    "low": "+.3f",
    "high": "+.3f",
    "interval_over": "",
}


class EpochRecorder(keras.callbacks.Callback):
    """Keep when each epoch ended, and the head as it was after the first few."""

    def on_train_begin(self, logs=None):
        self.start, self.seconds = time.perf_counter(), []

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)
        if epoch + 1 == SHORT:
            self.head = self.model.get_layer("head").get_weights()


def fingerprint(x, y):
    return hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()[:16]


def predict_with_head(head, features):
    kernel, bias = head
    return (features @ kernel + bias).argmax(axis=1)


def build_classifier(backbone, settings):
    backbone.trainable = False
    options = dict(num_classes=10, dropout=settings["dropout"])
    classifier = backbones.attach_head(backbone, **options)
    optimizer = keras.optimizers.Adam(settings["learning_rate"])
    classifier.compile(optimizer, "sparse_categorical_crossentropy")
    return classifier


def build_backbone(settings):
    if settings["quick"]:
        return pretrained.build_source_cnn_backbone()
    return pretrained.build_efficientnet_lite0_backbone(settings["image_size"])


def draw_head(shape, seed):
    keras.utils.set_random_seed(seed)
    kernel = keras.initializers.GlorotUniform(seed)(shape)
    return [np.array(kernel), np.zeros(10, "float32")]


def freeze_and_fit(classifier, x, y, seed, settings):
    """Train a new head for all epochs; the seconds are those of `fit` alone."""
    head = classifier.get_layer("head")
    head.set_weights(draw_head(head.kernel.shape, seed))
    fine_tuning.reset_training(classifier, classifier.get_weights())
    recorder = EpochRecorder()
    options = dict(batch_size=settings["batch_size"], epochs=settings["epochs"])
    start = time.perf_counter()
    classifier.fit(x, y, callbacks=[recorder], verbose=0, **options)
    return {
        "seconds": time.perf_counter() - start,
        "seconds_after_2_epochs": recorder.seconds[SHORT - 1],
        "head": head.get_weights(),
        "head_after_2_epochs": recorder.head,
        "pictures": fingerprint(x, y),
    }


def features_once(backbone, x, y, seed):
    """Extract the features and fit a probe; both are in the seconds."""
    start = time.perf_counter()
    features = extract_features(backbone, x, verbose=0)
    extracted = time.perf_counter()
    probe = fit_linear_probe(features, y, seed=seed)
    end = time.perf_counter()
    return {
        "seconds": end - start,
        "extraction_seconds": extracted - start,
        "probe": probe,
        "pictures": fingerprint(x, y),
    }


def warm_up(backbone, classifier, x, y, settings):
    """Trace both recipes, for whole batches and for the shorter last one."""
    few = dict(epochs=SHORT, batch_size=settings["batch_size"])
    freeze_and_fit(classifier, x[:97], y[:97], 0, settings | few)
    features_once(backbone, x[:97], y[:97], 0)


def accuracy(y_true, y_pred):
    return float(np.mean(y_true == y_pred))


def compare(backbone, classifier, train, test, seed, settings):
    """One row of the result, and what each recipe says of the test pictures."""
    before = features_once(backbone, *train, seed)
    fit = freeze_and_fit(classifier, *train, seed, settings)
    after = features_once(backbone, *train, seed)
    once_seconds = (before["seconds"] + after["seconds"]) / 2
    test_features, y_test = test
    answers = {
        "fit": predict_with_head(fit["head"], test_features),
        "fit_after_2_epochs": predict_with_head(
            fit["head_after_2_epochs"], test_features
        ),
        "once": after["probe"].predict(test_features),
    }
    row = {
        "fit_seconds": fit["seconds"],
        "fit_seconds_after_2_epochs": fit["seconds_after_2_epochs"],
        "once_seconds": once_seconds,
        "once_extraction_seconds": (
            before["extraction_seconds"] + after["extraction_seconds"]
        )
        / 2,
        "ratio": fit["seconds"] / once_seconds,
        "ratio_after_2_epochs": fit["seconds_after_2_epochs"] / once_seconds,
        **{f"{name}_accuracy": accuracy(y_test, a) for name, a in answers.items()},
        "fit_pictures": fit["pictures"],
        "once_pictures": after["pictures"],
    }
    return row, answers


def find_interval(rows, answers, y_test):
    """Interval of the gain in accuracy: over seeds, or over test pictures for one."""
    if len(rows) > 1:
        scores = ([row[f"{name}_accuracy"] for row in rows] for name in ("fit", "once"))
        verdict = evaluation.compare_paired(*scores)
        return verdict["low"], verdict["high"], "seeds"
    low, high = evaluation.paired_bootstrap_interval(
        accuracy, y_test, answers["fit"], answers["once"]
    )
    return low, high, "test pictures"


def summarize(rows, answers, y_test):
    """Means over the seeds of one size."""
    low, high, over = find_interval(rows, answers, y_test)
    numbers = [key for key, value in rows[0].items() if isinstance(value, float)]
    return {
        "labels_a_class": rows[0]["labels_a_class"],
        "seeds": len(rows),
        **{key: float(np.mean([row[key] for row in rows])) for key in numbers},
        "low": low,
        "high": high,
        "interval_over": over,
    }


def measure(settings):
    """Both recipes at all sizes: one row for each size and seed, and their means."""
    (x, y), (x_test, y_test) = datasets.load_cifar10_mini()
    x_test, y_test = (a[: settings["test_pictures"]] for a in (x_test, y_test))
    backbone = build_backbone(settings)
    classifier = build_classifier(backbone, settings)
    warm_up(backbone, classifier, x, y, settings)
    test = extract_features(backbone, x_test, verbose=0), y_test
    rows, summary = [], []
    for shots, num_seeds in settings["shots"].items():
        at_size = []
        for seed in range(num_seeds):
            chosen = splits.few_shot_indices(y, shots, seed=seed)
            train = x[chosen], y[chosen]
            row, answers = compare(backbone, classifier, train, test, seed, settings)
            at_size.append({"labels_a_class": shots, "seed": seed} | row)
        rows += at_size
        summary.append(summarize(at_size, answers, y_test))
    return rows, summary


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny, for tests")
    parser.add_argument(
        "--output", type=Path, default=report.RESULTS / "linear_probe.json"
    )
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else FULL
    rows, summary = measure(settings)
    print(f"fit: the backbone in each of {settings['epochs']} epochs")
    print("once: features extracted once, then a linear probe; low, high: its gain")
    report.print_table(summary, COLUMNS)
    content = report.build_report("linear_probe", settings, summary=summary, rows=rows)
    report.write_json(options.output, content)


if __name__ == "__main__":
    main()
