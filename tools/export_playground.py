"""Export what the page `book/playground` runs in the browser to `assets/playground/`.

    python tools/export_playground.py

- `model.json`, `weights.bin`: the source CNN, trained on six classes of CIFAR-10,
  BatchNorm folded; its layers, and their weights as little-endian float32;
- `pictures.json`, `pictures.bin`: pictures of the four classes that it never saw,
  uint8; examples from CIFAR-10's training set, test pictures from its test set;
- `features.bin`: what Keras makes of these pictures, float32, 128 features a picture;
- `embedded.js`: all of these as text, for a page that is opened as a file, where a
  browser lets no script read its neighbours.

Running it again changes no byte.
"""

import base64
import json
from pathlib import Path

import keras
import numpy as np

from transfer_tutorial.compression import FoldedBatchNormalization, fold_batch_norm
from transfer_tutorial.datasets import (
    CIFAR10_CLASSES,
    SOURCE_CLASSES,
    TARGET_CLASSES,
    load_cifar10_mini,
)
from transfer_tutorial.pretrained import build_source_cnn_backbone

OUTPUT = Path(__file__).resolve().parent.parent / "assets" / "playground"
EXAMPLES_PER_CLASS = 40
TESTS_PER_CLASS = 50
TOLERANCE = 1e-4  # between Keras's features and those of the folded network
MAX_WEIGHT_BYTES = 3_000_000
# What the browser has to know of each kind of layer.
SETTINGS = {
    "InputLayer": (),
    "Rescaling": ("scale", "offset"),
    "Conv2D": ("strides", "padding"),
    "ReLU": (),
    "Add": (),
    "GlobalAveragePooling2D": (),
}


def describe_layers(model):
    """(JSON of the layers, their weights one after the other as float32)."""
    makers, layers, weights, offset = {}, [], [], 0
    for layer in model.layers:
        inputs = [] if isinstance(layer, keras.layers.InputLayer) else layer.input
        inputs = [makers[id(tensor)] for tensor in keras.tree.flatten(inputs)]
        if isinstance(layer, FoldedBatchNormalization):
            makers[id(layer.output)] = inputs[0]
            continue
        makers[id(layer.output)] = layer.name
        kind, config = type(layer).__name__, layer.get_config()
        description = {"name": layer.name, "type": kind, "inputs": inputs}
        description["config"] = {key: config[key] for key in SETTINGS[kind]}
        description["weights"] = []
        for variable in layer.weights:
            value = np.asarray(variable.numpy(), "<f4")
            description["weights"].append({"shape": value.shape, "offset": offset})
            weights.append(value.ravel())
            offset += value.size
        layers.append(description)
    return layers, np.concatenate(weights)


def extract(backbone, pictures):
    """Features, rounded: the last bits differ from one processor to the next."""
    return np.round(backbone.predict(pictures, batch_size=32, verbose=0), 5)


def choose_pictures():
    """(pictures, JSON of them): per class the examples, then the test pictures."""
    pictures, classes, position = [], [], 0
    parts = ("examples", EXAMPLES_PER_CLASS), ("tests", TESTS_PER_CLASS)
    for name in TARGET_CLASSES:
        entry = {"name": name}
        for (x, y), (part, count) in zip(load_cifar10_mini(), parts, strict=True):
            pictures.append(x[y == CIFAR10_CLASSES.index(name)][:count])
            entry[part] = {"start": position, "count": count}
            position += count
        classes.append(entry)
    description = {"shape": [position, 32, 32, 3], "classes": classes}
    return np.concatenate(pictures), description


def make_samples(backbone):
    """Pictures of three kinds and their features, to check the browser with."""
    _, (x_test, y_test) = load_cifar10_mini()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), "uint8")
    seen = x_test[y_test == CIFAR10_CLASSES.index(SOURCE_CLASSES[0])][0]
    unseen = x_test[y_test == CIFAR10_CLASSES.index(TARGET_CLASSES[0])][0]
    pictures = np.stack([seen, unseen, noise])
    return {
        "pixels": base64.b64encode(pictures.tobytes()).decode(),
        "features": [
            [round(float(value), 5) for value in row]
            for row in extract(backbone, pictures)
        ],
    }


def to_json(value):
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def make_files():
    """Name and bytes of each file."""
    backbone = build_source_cnn_backbone()
    folded = fold_batch_norm(backbone)
    weights = folded.get_weights()
    folded = keras.models.clone_model(folded)  # no layer shared with `backbone`
    folded.set_weights(weights)
    pictures, description = choose_pictures()
    features = extract(backbone, pictures)
    difference = np.abs(features - folded.predict(pictures, verbose=0)).max()
    if difference > TOLERANCE:
        raise SystemExit(f"Error: folding changed a feature by {difference:.2g}")
    layers, weights = describe_layers(folded)
    if weights.nbytes > MAX_WEIGHT_BYTES:
        raise SystemExit(f"Error: the weights are {weights.nbytes:,} bytes")
    model = {
        "name": backbone.name,
        "inputShape": backbone.input_shape[1:],
        "numFeatures": backbone.output_shape[-1],
        "sourceClasses": SOURCE_CLASSES,
        "layers": layers,
        "samples": make_samples(backbone),
    }
    files = {
        "model.json": to_json(model),
        "weights.bin": weights.tobytes(),
        "pictures.json": to_json(description),
        "pictures.bin": pictures.tobytes(),
        "features.bin": features.astype("<f4").tobytes(),
    }
    texts = {name: base64.b64encode(data).decode() for name, data in files.items()}
    files["embedded.js"] = (
        b"// Made by tools/export_playground.py; read only where `fetch` may not.\n"
        b"window.playgroundFiles = " + to_json(texts).rstrip() + b";\n"
    )
    return files


def main():
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name, content in make_files().items():
        (OUTPUT / name).write_bytes(content)
        print(f"{len(content):9,} bytes  {name}")


if __name__ == "__main__":
    main()
