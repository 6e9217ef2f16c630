"""Image and text in one space: a contrastive loss, and classes named by sentences.

What is aligned here are features: vectors of pictures from one backbone, vectors of
sentences from another. Either may be any array of shape `(batch, d)`.
"""

import numpy as np
import tensorflow as tf
from scipy import special


def contrastive_loss(text_features, image_features, temperature=0.1):
    """Symmetric contrastive loss of a batch of pairs, row i with row i.

    Each picture picks its sentence among all sentences of the batch, and each
    sentence its picture: the mean of the two cross-entropies of the cosine
    similarities divided by `temperature`. Rows with one and the same sentence (two
    pictures of a deer) are right answers to each other and share the weight equally,
    where the loss of the paper would push them apart.

    The order of the first two arguments is that of a Keras loss, so that a model from
    image features to `d` numbers learns with `model.compile(optimizer,
    contrastive_loss)` and `model.fit(image_features, text_features)`. A batch of one
    pair has the loss 0: larger batches make harder questions.

    Args:
        text_features: Tensor of shape `(batch, d)`; rows need not have length 1.
        image_features: Tensor of shape `(batch, d)`, rows in the same order.
        temperature: Positive number; the smaller, the more the hardest wrong answer
            counts.

    Returns:
        A tensor of shape `(batch,)`, at least 0, in nats.

    Raises:
        ValueError: If the shapes differ or `temperature` is not positive.

    Reference:
        Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark,
        Krueger and Sutskever, 2021, "Learning Transferable Visual Models From Natural
        Language Supervision", figure 3. For the shared right answers: Khosla
        et al., 2020, "Supervised Contrastive Learning", equation 2.
    """
    text = tf.convert_to_tensor(text_features)
    image = tf.convert_to_tensor(image_features)
    if text.shape.rank != 2 or not text.shape.is_compatible_with(image.shape):
        raise ValueError(
            "`text_features` and `image_features` must both have shape (batch, d). "
            f"Received: {text.shape} and {image.shape}."
        )
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive. Received: {temperature}.")
    text = tf.math.l2_normalize(tf.cast(text, image.dtype), axis=1)
    image = tf.math.l2_normalize(image, axis=1)
    same = tf.reduce_all(text[:, tf.newaxis] == text[tf.newaxis], axis=2)
    right = tf.cast(same, image.dtype)  # (batch, batch), symmetric
    right /= tf.reduce_sum(right, axis=1, keepdims=True)
    similarity = tf.matmul(image, text, transpose_b=True) / temperature
    to_text = tf.nn.softmax_cross_entropy_with_logits(right, similarity)
    to_image = tf.nn.softmax_cross_entropy_with_logits(right, tf.transpose(similarity))
    # The least that a shared answer can cost, ln of the number that share it.
    shared = tf.math.log(tf.reduce_sum(tf.cast(same, image.dtype), axis=1))
    return (to_text + to_image) / 2 - shared


def classify_zero_shot(image_features, class_features, temperature=0.1):
    """Probabilities of classes that are known by their sentences alone.

    The softmax of the cosine similarities of each picture and each class, divided by
    `temperature`. Which class wins does not depend on `temperature`; how sure it looks
    does, so fit it on pictures of other classes (`evaluation.fit_temperature`) before
    you read the numbers as probabilities. A row of zeros is alike to nothing and gets
    the same probability for every class.

    Args:
        image_features: Array of shape `(n, d)`: pictures, mapped into the space of
            the sentences.
        class_features: Array of shape `(num_classes, d)`, at least two classes: the
            features of one sentence for each class, or the mean over several.
        temperature: Positive number.

    Returns:
        A float64 array of shape `(n, num_classes)`; rows sum to 1.

    Raises:
        ValueError: If the widths differ, there are fewer than two classes, a feature
            is not finite, or `temperature` is not positive.

    Reference:
        Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark,
        Krueger and Sutskever, 2021, "Learning Transferable Visual Models From Natural
        Language Supervision", section 3.1.2.
    """
    images = np.asarray(image_features, "float64")
    classes = np.asarray(class_features, "float64")
    if images.ndim != 2 or classes.ndim != 2 or images.shape[1] != classes.shape[1]:
        raise ValueError(
            "`image_features` and `class_features` must have shapes (n, d) and "
            f"(num_classes, d). Received: {images.shape} and {classes.shape}."
        )
    if len(classes) < 2:
        raise ValueError(
            "`class_features` must have a row for each of two or more classes. "
            f"Received: {len(classes)} rows."
        )
    if not (np.isfinite(images).all() and np.isfinite(classes).all()):
        raise ValueError(
            "`image_features` and `class_features` must be finite. "
            "Received: NaN or infinity."
        )
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive. Received: {temperature}.")
    unit = []
    for rows in (images, classes):
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
        rows = rows / np.where(largest > 0, largest, 1)  # or their squares may overflow
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit.append(rows / np.where(norms > 0, norms, 1))
    similarity = unit[0] @ unit[1].T  # (n, num_classes), in -1...1
    return special.softmax(similarity / max(temperature, 1e-300), axis=1)
