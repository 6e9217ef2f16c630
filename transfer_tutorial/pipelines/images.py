"""Folders of pictures to arrays, and random changes of training images."""

import os
import pathlib

import keras
import numpy as np
from PIL import Image, ImageOps


def list_image_folder(folder):
    """List the pictures of a folder that has one sub-folder a class.

    Pictures are files that end in bmp, gif, jpeg, jpg, png or webp, in any case. A
    class folder must hold nothing else: a picture in another format, or one folder
    too deep, would be missing, and nobody would notice. Ignored are hidden files and
    folders, and files beside the class folders that are no pictures, such as a README.

    Args:
        folder: Path of the folder; its sub-folders are the classes.

    Returns:
        `(paths, labels, class_names)`: a list of n `pathlib.Path`, sorted by class and
        then by name; int64 labels of shape `(n,)`; and the sorted names of the
        sub-folders, so that `class_names[label]` is the class of a picture.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are fewer than two sub-folders, a class has no picture, a
            class folder holds something else, or a picture lies outside of them.
    """
    extensions = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
    hidden = ("thumbs.db", "desktop.ini")  # Windows hides these without a dot

    def list_visible(parent):
        names = [n for n in sorted(os.listdir(parent)) if n.lower() not in hidden]
        return [parent / name for name in names if not name.startswith(".")]

    def is_picture(path):
        return path.suffix.lower() in extensions and path.is_file()

    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"`folder` must be a folder. Received: {folder}.")
    classes = [p for p in list_visible(folder) if p.is_dir()]
    paths = [p for c in classes for p in list_visible(c)]
    labels = [i for i, c in enumerate(classes) for _ in list_visible(c)]
    defects = [f"{c} is empty" for i, c in enumerate(classes) if i not in labels]
    defects += [f"{p} is not a picture" for p in paths if not is_picture(p)]
    beside = [p for p in list_visible(folder) if is_picture(p)]
    defects += [f"{p} is in no sub-folder" for p in beside]
    if len(classes) < 2:
        defects = [f"the sub-folders are {[c.name for c in classes]}"]
    if defects:
        raise ValueError(
            "`folder` must have a sub-folder for each of at least two classes, with "
            f"pictures in it ({', '.join(e[1:] for e in extensions)}) and nothing "
            f"else. Received: {folder}, where {', '.join(defects[:3])}."
        )
    return paths, np.array(labels, "int64"), [c.name for c in classes]


def load_images(paths, *, image_size=None):
    """Decode pictures, completely, into one array.

    They are turned upright as their EXIF orientation says. Grey, palette, 16-bit (0 to
    65535) and CMYK pictures become RGB, and what is transparent becomes white. Of an
    animation the first picture counts.

    Args:
        paths: List of files, as `list_image_folder` gives it.
        image_size: Side in pixels: the central square of each picture is resized to
            it, bilinearly and antialiased. None keeps the pictures as they are, which
            must then have one size.

    Returns:
        uint8 RGB pictures of shape `(n, height, width, 3)`, in 0...255, in the order
        of `paths`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `paths` is empty or no list, `image_size` is below 1, a file is
            corrupt, truncated or too large to be decoded safely, or sizes differ
            without `image_size`.
    """
    if np.shape(paths) in [(), (0,)] or (image_size is not None and image_size < 1):
        raise ValueError(
            "`paths` must be a list of at least one file, and `image_size` at least 1. "
            f"Received: paths={paths!r:.80}, image_size={image_size}."
        )
    images = []
    for path in paths:
        try:
            with Image.open(path) as file:
                picture = ImageOps.exif_transpose(file)  # decodes every pixel, too
            if picture.mode.startswith("I"):  # 16-bit grey: `convert` would clip it
                picture = Image.fromarray(np.uint8(np.asarray(picture) // 257))
            if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture.convert("RGBA"))
            picture = picture.convert("RGB")
            if image_size is not None:
                square = ImageOps.fit(picture, 2 * [min(picture.size)], Image.NEAREST)
                picture = square.resize((image_size, image_size), Image.BILINEAR)
            images.append(np.asarray(picture))
        except Exception as error:  # decoders raise many kinds
            kind = type(error) if isinstance(error, FileNotFoundError) else ValueError
            message = f"`paths` must be pictures. Received: {path} ({error})."
            raise kind(message) from error
        if images[-1].shape != images[0].shape:
            raise ValueError(
                "`paths` must be pictures of one size where `image_size` is None. "
                f"Received: {images[0].shape}, and {images[-1].shape} of {path}."
            )
    return np.stack(images)


def build_augmentation(*, flip="horizontal", rotation=0.05, zoom=0.1, seed=0):
    """Build random flips, rotations and zooms for training images.

    The result changes images in `fit`, and when called with `training=True`, but not
    without (Keras's own random layers do, and put what follows them into training as
    well). Map it over the training dataset, never over validation or test data:
    `dataset.map(lambda x, y: (augmentation(x, training=True), y))`.

    Args:
        flip: `"horizontal"`, `"vertical"`, `"horizontal_and_vertical"`, or None.
        rotation: Largest rotation as a fraction of a full turn, in [0, 1].
        zoom: Largest change of size as a fraction, in [0, 1].
        seed: Seed of the random draws.

    Returns:
        A `keras.Model`: images `(batch, height, width, channels)` in 0...255
        to float32 images of the same shape and range.

    Raises:
        ValueError: If `flip` is none of the four, `rotation` or `zoom` is outside
            [0, 1], or nothing is left to do.
    """
    flips = ("horizontal", "vertical", "horizontal_and_vertical", None)
    if flip not in flips:  # Keras would silently flip nothing
        raise ValueError(f"`flip` must be one of {flips}. Received: {flip!r}.")
    if not (0 <= rotation <= 1 and 0 <= zoom <= 1):
        raise ValueError(
            "`rotation` and `zoom` must be fractions in [0, 1]. "
            f"Received: rotation={rotation}, zoom={zoom}."
        )
    layers = []
    if flip is not None:
        layers.append(keras.layers.RandomFlip(flip, seed=seed))
    if rotation:
        layers.append(keras.layers.RandomRotation(rotation, "nearest", seed=seed + 1))
    if zoom:
        layers.append(keras.layers.RandomZoom(zoom, fill_mode="nearest", seed=seed + 2))
    if not layers:
        raise ValueError(
            "At least one of `flip`, `rotation` and `zoom` must be on. "
            f"Received: flip={flip}, rotation={rotation}, zoom={zoom}."
        )
    inputs = outputs = keras.Input((None, None, None), name="images")
    for layer in layers:
        outputs = layer(outputs, training=False)  # unless the call says otherwise
    return keras.Model(inputs, outputs, name="augmentation")
