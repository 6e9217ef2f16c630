"""Which remedies for slow training pay: each against what it is meant to replace.

    python benchmarks/training_speed.py  # writes results/training_speed.json

Three groups, each with its own default, which all of the group take turns with, in
rounds, forwards and backwards:

- *training*: one epoch of fine-tuning the bundled source CNN, all layers, in batches of
  32, against larger batches, XLA, bfloat16, fewer layers, smaller pictures, features
  extracted once;
- *pipeline*: three epochs of a tiny network on PNG files that `tf.data` decodes and
  enlarges every time, against `cache`, `prefetch` and both;
- *inference*: probabilities of the float32 network by `predict`, against 8 bits.

What counts is the median over the rounds of (seconds of the default) / (seconds of this
way) in the same round, and the same ratio of processor seconds. Every way starts from
the same weights; `result`, the loss of the last epoch or the accuracy on test pictures,
tells whether a faster way still does the same thing.
"""

import argparse
import functools
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in the notebooks

import keras
import numpy as np
import tensorflow as tf
from shared import report
from shared.rounds import COLUMNS, compare_in_rounds

from transfer_tutorial import backbones, compression, datasets, fine_tuning, pretrained
from transfer_tutorial.linear_probe import (
    extract_features,
    fit_linear_probe,
    set_head_from_probe,
)

CLASSES = 4
FULL = dict(quick=False, pictures=256, files=256, side=96, rounds=7)
# Ways that compile for long are left out.
QUICK = FULL | dict(quick=True, pictures=32, files=16, side=32, rounds=1)
SLOW_TO_COMPILE = (
    "XLA",
    "bfloat16",
    "eight batches",
    "the last stage",
    "pictures of 24",
)


def load_pictures(count, *, test=False):
    train_rows, test_rows = datasets.load_cifar10_mini()
    x, y = test_rows if test else train_rows
    rows = np.flatnonzero(y < CLASSES)[:count]
    return x[rows], y[rows]


@functools.cache
def fit_head(count):
    """The head's weights from a linear probe on so many pictures, fitted once."""
    backbone = pretrained.build_source_cnn_backbone()
    classifier = backbones.attach_head(backbone, CLASSES)
    x, y = load_pictures(count)
    features = extract_features(backbone, x, verbose=0)
    set_head_from_probe(classifier, fit_linear_probe(features, y))
    return classifier.get_layer("head").get_weights()


def build_classifier(count, dtype="float32"):
    """The source CNN and the probe's head, the same weights every time."""
    keras.config.set_dtype_policy(dtype)
    try:
        backbone = pretrained.build_source_cnn_backbone()
        classifier = backbones.attach_head(backbone, CLASSES)
    finally:
        keras.config.set_dtype_policy("float32")
    classifier.get_layer("head").set_weights(fit_head(count))
    return classifier


def train_with(classifier, x, y, batch_size=32, **options):
    """A function without arguments: one epoch from the start, and its loss."""
    start = classifier.get_weights()
    loss = "sparse_categorical_crossentropy"
    classifier.compile(keras.optimizers.SGD(0.003), loss, **options)

    def train():
        fine_tuning.reset_training(classifier, start)
        fit = classifier.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
        return fit.history["loss"][0]

    return train


def train_only(stage, count):
    """The classifier with nothing but `stage` and the head to be trained."""
    classifier = build_classifier(count)
    for layer in classifier.get_layer("source_cnn").layers:
        layer.trainable = layer.name.startswith(stage)
    return classifier


def build_for_side(side, count):
    """The same network and weights for pictures of another side."""
    inputs = keras.Input((side, side, 3))
    original = build_classifier(count)
    backbone = keras.models.clone_model(original.get_layer("source_cnn"), inputs)
    classifier = backbones.attach_head(backbone, CLASSES)
    classifier.set_weights(original.get_weights())
    return classifier


def list_training(x, y):
    """Ways to train one epoch; the first is the default of the group."""
    small = np.asarray(tf.image.resize(x, (24, 24)).numpy().round(), "uint8")
    head = keras.Sequential(
        [keras.Input((128,)), keras.layers.Dense(CLASSES, "softmax")]
    )
    kernel = fit_head(len(x))
    head.set_weights(kernel)
    backbone = pretrained.build_source_cnn_backbone()
    on_features = train_with(head, np.zeros((len(x), 128), "float32"), y)

    def extract_and_train():
        features = extract_features(backbone, x, verbose=0)
        head.set_weights(kernel)
        fit = head.fit(features, y, batch_size=32, shuffle=False, verbose=0)
        return fit.history["loss"][0]

    on_features()  # traced, with numbers that do not matter
    return {
        "fit, batches of 32": train_with(build_classifier(len(x)), x, y),
        "batches of 128": train_with(build_classifier(len(x)), x, y, batch_size=128),
        "XLA (jit_compile=True)": train_with(
            build_classifier(len(x)), x, y, jit_compile=True
        ),
        "eight batches a call (steps_per_execution=8)": train_with(
            build_classifier(len(x)), x, y, steps_per_execution=8
        ),
        "bfloat16 (mixed_bfloat16)": train_with(
            build_classifier(len(x), "mixed_bfloat16"), x, y
        ),
        "the last stage and the head only": train_with(
            train_only("stage_3", len(x)), x, y
        ),
        "the head only, as it is": train_with(train_only("none", len(x)), x, y),
        "the head only, features once": extract_and_train,
        "pictures of 24 instead of 32 pixels": train_with(
            build_for_side(24, len(x)), small, y
        ),
    }


def list_pipelines(x, y, settings, folder):
    """Ways to read PNG files for three epochs of a tiny network."""
    count, side = settings["files"], settings["side"]
    for number, picture in enumerate(x[:count]):
        keras.utils.save_img(f"{folder}/{number:04}.png", picture, scale=False)
    paths = [f"{folder}/{number:04}.png" for number in range(min(count, len(x)))]
    inputs = keras.Input((side, side, 3))
    features = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(inputs / 255))
    outputs = keras.layers.Dense(CLASSES, "softmax")(features)
    tiny = keras.Model(inputs, outputs)
    start = [np.zeros(w.shape) for w in tiny.get_weights()]
    tiny.compile("sgd", "sparse_categorical_crossentropy")

    def read(path, label):
        picture = tf.io.decode_png(tf.io.read_file(path), channels=3)
        return tf.image.resize(picture, (side, side)), label

    def run(prepare):
        dataset = tf.data.Dataset.from_tensor_slices((paths, y[: len(paths)]))
        dataset = prepare(dataset.map(read, tf.data.AUTOTUNE))

        def train():
            tiny.set_weights(start)
            return tiny.fit(dataset, epochs=3, shuffle=False, verbose=0).history[
                "loss"
            ][-1]

        return train

    return {
        "PNG files, decoded in every epoch": run(lambda data: data.batch(32)),
        "prefetch": run(lambda data: data.batch(32).prefetch(2)),
        "cache": run(lambda data: data.cache().batch(32)),
        "cache and prefetch": run(lambda data: data.cache().batch(32).prefetch(2)),
    }


def list_inference(x, count):
    """Ways to the probabilities of the same classifier, and their test accuracy."""
    x_test, y_test = load_pictures(count, test=True)
    classifier = build_classifier(len(x))
    whole = compression.convert_to_tflite(classifier, x[:32])
    weights = compression.convert_to_tflite(classifier, image_shape=x.shape[1:])

    def judge(predict):
        return lambda: float(np.mean(np.argmax(predict(x_test), axis=1) == y_test))

    return {
        "predict, float32": judge(lambda x: classifier.predict(x, verbose=0)),
        "8-bit weights (TensorFlow Lite, one core)": judge(
            lambda x: compression.predict_tflite(weights, x)
        ),
        "8 bits throughout (TensorFlow Lite, one core)": judge(
            lambda x: compression.predict_tflite(whole, x)
        ),
    }


def timed(function):
    """`(seconds, processor seconds)` of one call, and what it returned."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = function()
    return (time.perf_counter() - start, time.process_time() - cpu_start), result


def measure_group(group, ways, rounds):
    """One row for each way of a group; the first is the default."""
    results = {name: way() for name, way in ways.items()}  # traces and compiles
    return compare_in_rounds(group, results, rounds, lambda name: timed(ways[name])[0])


def measure(settings):
    """One row for each group and way."""
    x, y = load_pictures(settings["pictures"])
    ways = list_training(x, y)
    if settings["quick"]:
        ways = {k: v for k, v in ways.items() if not k.startswith(SLOW_TO_COMPILE)}
    rows = measure_group("training", ways, settings["rounds"])
    with tempfile.TemporaryDirectory() as folder:
        ways = list_pipelines(x, y, settings, folder)
        rows += measure_group("pipeline", ways, settings["rounds"])
    ways = list_inference(x, settings["pictures"])
    return rows + measure_group("inference", ways, settings["rounds"])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny, for tests")
    parser.add_argument(
        "--output", type=Path, default=report.RESULTS / "training_speed.json"
    )
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else FULL
    tf.get_logger().setLevel("ERROR")  # no advice about retracing: several models
    rows = measure(settings)
    print("ratios: seconds of the group's first way / seconds of this way, each round")
    report.print_table(rows, COLUMNS)
    has_bfloat16 = report.has_instructions("avx512_bf16", "amx_bf16")
    settings = settings | {"processor_has_bfloat16": has_bfloat16}
    content = report.build_report("training_speed", settings, rows=rows)
    report.write_json(options.output, content)


if __name__ == "__main__":
    main()
