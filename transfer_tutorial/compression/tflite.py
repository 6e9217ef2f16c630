"""8-bit networks by TensorFlow Lite (LiteRT), as it comes with TensorFlow."""

import contextlib
import os
import warnings

import numpy as np
import tensorflow as tf


def convert_to_tflite(
    model, representative_images=None, *, image_shape=None, quantize=True
):
    """Convert a model of images to TensorFlow Lite (LiteRT), in 8 bits.

    A float32 weight has four bytes, an int8 weight one. Without
    `representative_images` only the weights of dense layers and convolutions are
    rounded to 8 bits, and all that depends on the picture stays float32 in between
    ("dynamic range"). With them, what passes between the layers is 8-bit, too, on
    scales that these pictures decide: faster, and less exact. Inputs and outputs are
    float32 in any case. The weights are rounded as they are; nothing is trained.

    BatchNorm becomes part of the layers before it. `fold_batch_norm` does so
    beforehand and makes converting faster. What TensorFlow's C++ code and its warnings
    say meanwhile is not shown; its errors are.

    Args:
        model: A `keras.Model` with one input, images in 0...255, and one output of
            shape `(batch, d)`. Unchanged.
        representative_images: Array of shape `(n, height, width, channels)`: a few
            dozen of the images to come, without labels. Never test images.
        image_shape: `(height, width, channels)`, where the model takes images of any
            size and there are no `representative_images`.
        quantize: False for float32 throughout: the same answers, to compare with.

    Returns:
        The converted model as bytes: what belongs into a `.tflite` file.

    Raises:
        ValueError: If the model has several inputs or outputs, the shape of the images
            is not known or does not fit the model, or `representative_images` is
            empty, not finite, or given without `quantize`.

    Reference:
        Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam and Kalenichenko, 2018,
        "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference".
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one input and one output. "
            f"Received: {len(model.inputs)} and {len(model.outputs)}."
        )
    shape = tuple(image_shape or model.input_shape[1:])
    if representative_images is not None:
        images = np.asarray(representative_images, "float32")
        shape = images.shape[1:]
        if not (quantize and len(images) and np.isfinite(images).all()):
            raise ValueError(
                "`representative_images` must be finite, at least one, and given only "
                f"with `quantize`. Received: {images.shape}, quantize={quantize}."
            )
    signature = tf.TensorSpec((None, *shape), "float32")
    if None in shape or not signature.shape.is_compatible_with(model.input_shape):
        raise ValueError(
            "The images must have a shape that is known and fits the model, "
            f"{model.input_shape}. Received: {(None, *shape)}."
        )
    call = tf.function(lambda images: model(images, training=False))
    function = call.get_concrete_function(signature)
    holder = tf.Module()  # the variables must live as long as the converter
    holder.kept = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT] if quantize else []
    if representative_images is not None:
        converter.representative_dataset = lambda: ([x[np.newaxis]] for x in images)
    with _hide_log():
        return converter.convert()


def predict_tflite(model_bytes, images, *, batch_size=32):
    """Run a model of `convert_to_tflite` on images, on one core.

    This uses `tf.lite.Interpreter`, which TensorFlow has declared deprecated in favour
    of the package `ai_edge_litert`; where that one is installed, it is used instead.

    Args:
        model_bytes: What `convert_to_tflite` returned, or the content of another
            `.tflite` file with one float32 input and one float32 output.
        images: Array of shape `(n, height, width, channels)`, in 0...255.
        batch_size: Images a batch; the answers do not depend on it.

    Returns:
        float32 answers of shape `(n, d)`, in the order of `images`.

    Raises:
        ValueError: If `model_bytes` is no such model, the shape of the images does not
            fit it, or `batch_size` is below 1.
    """
    images = np.asarray(images, "float32")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}.")
    with _hide_log():
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            Interpreter = tf.lite.Interpreter
        interpreter = Interpreter(model_content=model_bytes)
        (source,) = interpreter.get_input_details()
        (target,) = interpreter.get_output_details()
        expected = tuple(source["shape_signature"][1:])
        if images.shape[1:] != expected:
            raise ValueError(
                f"`images` must have shape (n, {', '.join(map(str, expected))}). "
                f"Received: {images.shape}."
            )
        answers = [np.zeros((0, *target["shape_signature"][1:]), "float32")]
        size = None
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            if len(batch) != size:
                size = len(batch)
                interpreter.resize_tensor_input(source["index"], batch.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(source["index"], batch)
            interpreter.invoke()
            answers.append(interpreter.get_tensor(target["index"]))
    return np.concatenate(answers)


@contextlib.contextmanager
def _hide_log():
    """Hide warnings, and what C++ code writes to stderr past Python."""
    stderr = os.dup(2)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
            warnings.simplefilter("ignore")
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
