"""The head that a reader trained in the book's page "Playground", in Keras.

The page `book/playground` trains a softmax layer on the features of the source CNN, and
gives it away as a small JSON file.
"""

import json
import pathlib

import keras
import numpy as np


def load_head(path, backbone):
    """Put a head from the book's playground on the backbone that it was trained for.

    Args:
        path: The JSON file that the page gave.
        backbone: What `pretrained.build_source_cnn_backbone` returned. Its weights are
            shared, not copied.

    Returns:
        An uncompiled `keras.Model`: the images that the backbone takes, in 0...255, to
        probabilities `(batch, num_classes)`. Its last layer is named `"head"`; its
        `class_names` lists the classes in the order of the probabilities.

    Raises:
        ValueError: If the file is no JSON or not of the page's format, if the head was
            trained for another backbone, if its shapes do not fit, or if a number in
            it is not finite.
        FileNotFoundError: If there is no such file.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"`path` must be a JSON file. Received: {path}") from error
    known = {"format": "transfer-tutorial-head", "version": 1}
    if not isinstance(content, dict) or not known.items() <= content.items():
        raise ValueError(f"`path` must be a head from the playground. Received: {path}")
    if content.get("backbone") != backbone.name:
        needed = f"`backbone` must be the one of {path}, {content.get('backbone')!r}."
        raise ValueError(f"{needed} Received: {backbone.name!r}")
    try:
        class_names = [str(name) for name in content["class_names"]]
        kernel, bias = (np.array(content[k], "float32") for k in ("kernel", "bias"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"The head in {path} is incomplete: {error!r}") from error
    shapes = [(backbone.output_shape[-1], len(class_names)), (len(class_names),)]
    found = [kernel.shape, bias.shape]
    if found != shapes or len(class_names) < 2:
        needed = f"For {class_names}, `kernel` and `bias` must have shapes {shapes}"
        raise ValueError(f"{needed}, for at least 2 classes. Received: {found}")
    if not np.isfinite(np.append(kernel, bias)).all():
        raise ValueError(f"The head in {path} holds a number that is not finite.")
    inputs = keras.Input(backbone.input_shape[1:], name="images")
    # float32 also under mixed precision: a softmax in half precision loses digits.
    options = dict(activation="softmax", dtype="float32", name="head")
    head = keras.layers.Dense(len(class_names), **options)
    classifier = keras.Model(inputs, head(backbone(inputs)))
    head.set_weights([kernel, bias])
    classifier.class_names = class_names
    return classifier
