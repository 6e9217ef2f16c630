"""How fast features come out, and which other ways to get the same ones are faster.

    python benchmarks/feature_extraction.py  # writes results/feature_extraction.json

Both shipped backbones run over the same pictures in several ways. The default is
`extract_features(backbone, x)`: `predict` in batches of 64. Each way is run once
untimed, for building, tracing and compiling; then all take turns, in rounds, forwards
and backwards. What counts is the median over the rounds of (seconds of the default) /
(seconds of this way) in the same round. The same ratio of processor seconds stands
beside it: other programs on the machine hardly change it, and it tells less work from
less waiting.

A way is *eligible* when its features are those of the default: no difference above
1e-4 of their root mean square. The share of the peak is 2 x multiply-adds of the
convolutions x pictures a second, divided by what large float32 matrix products reach
on this machine with the same number of threads.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in the notebooks

import keras
import numpy as np
import tensorflow as tf
from shared import report
from shared.worker import Worker

from transfer_tutorial import compression, datasets, pretrained
from transfer_tutorial.linear_probe import extract_features

DEFAULT = "predict, 64"
TOLERANCE = 1e-4
FULL = dict(
    quick=False,
    image_size=96,
    pictures={"efficientnet_lite0": 384, "source_cnn": 768},
    rounds=7,
    threads=[1, 2],
    matrix_size=2048,
    batch_size=64,
    tolerance=TOLERANCE,
)
QUICK = FULL | dict(
    quick=True, pictures={"source_cnn": 16}, rounds=2, threads=[1], matrix_size=128
)
COLUMNS = {
    "backbone": "",
    "way": "",
    "rounds": "d",
    "pictures_per_second": ".0f",
    "speed_ratio": ".2f",
    "slowest_round": ".2f",
    "fastest_round": ".2f",
    "cpu_ratio": ".2f",
    "gflops": ".0f",
    "peak_share": ".0%",
    "difference": ".0e",
    "eligible": "",
}


def build_backbone(name, settings):
    if name == "source_cnn":
        return pretrained.build_source_cnn_backbone()
    return pretrained.build_efficientnet_lite0_backbone(settings["image_size"])


def count_multiply_adds(backbone):
    """Multiply-adds of the convolutions for one picture."""
    total = 0
    for layer in backbone.layers:
        if layer.name.endswith("_conv"):
            height, width, channels = layer.output.shape[1:]
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            window = layer.kernel.shape[:2] if depthwise else layer.kernel.shape[:3]
            total += height * width * channels * int(np.prod(window))
    return total


def measure_peak(size, repeats=5):
    """Best GFLOP/s of float32 products of square matrices; the first warms up."""
    a = tf.random.normal((size, size), seed=0)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        tf.matmul(a, a).numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def resize_to_nearest(backbone):
    def clone(layer):
        config = layer.get_config()
        if layer.name == "resizing":
            config["interpolation"] = "nearest"
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(backbone, clone_function=clone)
    copy.set_weights(backbone.get_weights())
    return copy


def call_in_batches(function, x, batch_size, at_a_time=1):
    """Apply `function` to batches of `x`, some of them side by side."""
    batches = [x[i : i + batch_size] for i in range(0, len(x), batch_size)]
    with ThreadPoolExecutor(at_a_time) as pool:
        return np.concatenate(
            list(pool.map(lambda b: np.asarray(function(b)), batches))
        )


def as_function(backbone, *, jit_compile=False):
    """The backbone in inference mode as one `tf.function` of a batch."""
    shape = backbone.input_shape
    signature = None if jit_compile else [tf.TensorSpec(shape, tf.uint8)]
    return tf.function(
        lambda x: backbone(tf.cast(x, "float32"), training=False),
        input_signature=signature,
        jit_compile=jit_compile,
    )


def resize_in_the_input(backbone):
    """Resizing as a step of the input pipeline, and the rest by `predict`."""
    resizing = backbone.get_layer("resizing")
    rest = keras.Model(resizing.output, backbone.output)

    def extract(x):
        dataset = tf.data.Dataset.from_tensor_slices(x).batch(64)
        dataset = dataset.map(resizing, tf.data.AUTOTUNE).prefetch(2)
        return rest.predict(dataset, verbose=0)

    return extract


def list_ways(backbone):
    """Names of ways, and functions from pictures to features."""

    def predict(model, batch_size=64):
        return lambda x: extract_features(model, x, batch_size=batch_size, verbose=0)

    def call(function, at_a_time=1):
        return lambda x: call_in_batches(function, x, 64, at_a_time)

    folded = compression.fold_batch_norm(backbone)
    ways = {
        DEFAULT: predict(backbone),
        "predict, 16": predict(backbone, 16),
        "predict, 256": predict(backbone, 256),
        "tf.function, 64": call(as_function(backbone)),
        "tf.function, 64, XLA": call(as_function(backbone, jit_compile=True)),
        "predict_on_batch, 64": call(backbone.predict_on_batch),
        "predict_on_batch, 64, 2 side by side": call(backbone.predict_on_batch, 2),
        "predict, 64, BatchNorm folded": predict(folded),
    }
    if backbone.name == "efficientnet_lite0":
        ways["predict, 64, resized in tf.data"] = resize_in_the_input(backbone)
        ways["predict, 64, resized to nearest"] = predict(resize_to_nearest(backbone))
    return ways


def timed(function, x):
    """`(seconds, processor seconds)` of one call, and the features."""
    start, cpu_start = time.perf_counter(), time.process_time()
    features = function(x)
    return (time.perf_counter() - start, time.process_time() - cpu_start), features


def time_in_rounds(ways, rounds, x):
    """What `timed` measures of each way, a pair a round; every other goes backwards.

    A way that needed three times the default's seconds in the first round is left out
    of the others.
    """
    seconds = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            if number == 0 or seconds[name][0][0] < 3 * seconds[DEFAULT][0][0]:
                seconds[name].append(timed(ways[name], x)[0])
    return seconds


def find_difference(features, expected):
    """Largest difference, as a fraction of the expected root mean square."""
    largest = np.max(np.abs(features - expected))
    return float(largest / np.sqrt(np.mean(expected**2)))


def summarize(seconds, default_seconds, num_pictures, multiply_adds, peak):
    """What the seconds of one way say, beside those of the default."""
    ratios, cpu_ratios = np.divide(default_seconds[: len(seconds)], seconds).T
    speed = num_pictures / float(np.median(seconds, axis=0)[0])
    gflops = 2 * multiply_adds * speed / 1e9
    return {
        "rounds": len(seconds),
        "pictures_per_second": speed,
        "speed_ratio": float(np.median(ratios)),
        "slowest_round": float(ratios.min()),
        "fastest_round": float(ratios.max()),
        "cpu_ratio": float(np.median(cpu_ratios)),
        "gflops": gflops,
        "peak_gflops": peak,
        "peak_share": gflops / peak,
    }


def measure_ways(backbone, x, settings):
    """One row for each way of getting the features of `x`, and the features."""
    ways = list_ways(backbone)
    features = {name: way(x) for name, way in ways.items()}  # traces and compiles
    # On a busy machine one measurement of the peak falls short, so there are two.
    peak = measure_peak(settings["matrix_size"])
    seconds = time_in_rounds(ways, settings["rounds"], x)
    peak = max(peak, measure_peak(settings["matrix_size"]))
    work, rows = count_multiply_adds(backbone), []
    for name in ways:
        difference = find_difference(features[name], features[DEFAULT])
        numbers = summarize(seconds[name], seconds[DEFAULT], len(x), work, peak)
        row = dict(backbone=backbone.name, way=name, **numbers)
        rows.append(row | judge(difference))
    return rows, features[DEFAULT]


def judge(difference):
    return dict(difference=difference, eligible=difference <= TOLERANCE)


def serve(threads, settings):
    """What a worker does: answer `name path` with the seconds of the default."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    backbones = {}
    for line in sys.stdin:
        name, path = line.rstrip("\n").split(" ", 1)
        if name not in backbones:
            backbones[name] = build_backbone(name, settings)
        x = load_pictures(name, settings)
        seconds, features = time_default(backbones[name], x)
        np.save(path, features)
        peak = measure_peak(settings["matrix_size"], repeats=2)
        print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)


def load_pictures(name, settings):
    (x, _), _ = datasets.load_cifar10_mini()
    return x[: settings["pictures"][name]]


def measure_threads(threads, backbone, x, expected, settings):
    """One row: the default in a process of so many threads, against this process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        question = f"{backbone.name} {path}"
        arguments = ["--worker", str(threads)]
        arguments += ["--quick"] if settings["quick"] else []
        with Worker(__file__, arguments) as worker:
            worker.ask(question)  # untimed, as in this process
            pairs = [
                (time_default(backbone, x)[0], worker.ask(question))
                for _ in range(settings["rounds"])
            ]
        difference = find_difference(np.load(path), expected)
    default_seconds = [seconds for seconds, _ in pairs]
    seconds = [answer["seconds"] for _, answer in pairs]
    peak = max(answer["peak"] for _, answer in pairs)
    work = count_multiply_adds(backbone)
    numbers = summarize(seconds, default_seconds, len(x), work, peak)
    way = f"{DEFAULT}, threads: {threads}"
    return dict(backbone=backbone.name, way=way, **numbers) | judge(difference)


def time_default(backbone, x):
    return timed(lambda x: extract_features(backbone, x, verbose=0), x)


def measure(settings):
    """One row for each backbone and way."""
    rows = []
    for name in settings["pictures"]:
        backbone, x = build_backbone(name, settings), load_pictures(name, settings)
        some, expected = measure_ways(backbone, x, settings)
        rows += some
        for threads in settings["threads"]:
            rows.append(measure_threads(threads, backbone, x, expected, settings))
    return rows


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny, for tests")
    parser.add_argument(
        "--output", type=Path, default=report.RESULTS / "feature_extraction.json"
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else FULL
    if options.worker:
        return serve(options.worker, settings)
    rows = measure(settings)
    print("ratios: seconds of the default / seconds of this way, in the same round")
    report.print_table(rows, COLUMNS)
    content = report.build_report("feature_extraction", settings, rows=rows)
    report.write_json(options.output, content)


if __name__ == "__main__":
    main()
