"""A small student that learns from the stored answers of a large teacher."""

import numpy as np
import tensorflow as tf


def distillation_loss(teacher_probabilities, student_probabilities, temperature=2.0):
    """How far a student's softened answers are from those of its teacher.

    Both are softened by the temperature T, `p ** (1 / T)` scaled to sum 1, which is the
    softmax of the logits divided by T. The loss is `T ** 2 * KL(teacher, student)`: the
    cross-entropy of the paper, less what the teacher's own uncertainty adds to it, so
    that it is 0 where the two agree; the gradient is the same. The factor `T ** 2`
    keeps the size of the gradient when T changes. With a growing T the gradient comes
    near that of half the mean squared difference of the logits, each centred at 0.

    The order of the first two arguments is that of a Keras loss. A teacher predicts
    once, and a classifier (with a softmax at its end) learns from the stored answers by
    plain `fit`; no label is needed:

        loss = functools.partial(distillation_loss, temperature=4)
        student.compile("adam", loss)
        student.fit(x, teacher.predict(x))

    Args:
        teacher_probabilities: Tensor of shape `(batch, num_classes)`, rows sum to 1.
            The row of a labelled example may be one-hot.
        student_probabilities: Tensor of the same shape. A probability below 1e-30
            counts as 1e-30, here and in `teacher_probabilities`.
        temperature: Positive number. 1 leaves the probabilities as they are; the
            higher, the more the small ones count.

    Returns:
        A tensor of shape `(batch,)`, at least 0 (but for rounding), in nats.

    Raises:
        ValueError: If the shapes differ, `temperature` is not positive and finite, or
            the rows are no probabilities. (Inside `fit`, where values are not known
            yet, only shapes are checked.)

    Reference:
        Hinton, Vinyals and Dean, 2015, "Distilling the Knowledge in a Neural Network",
        section 2.
    """
    if not 0 < temperature < np.inf:
        raise ValueError(
            f"`temperature` must be positive and finite. Received: {temperature}."
        )
    teacher = tf.convert_to_tensor(teacher_probabilities)
    student = tf.convert_to_tensor(student_probabilities)
    if teacher.shape.rank != 2 or not teacher.shape.is_compatible_with(student.shape):
        raise ValueError(
            "`teacher_probabilities` and `student_probabilities` must both have shape "
            f"(batch, num_classes). Received: {teacher.shape} and {student.shape}."
        )
    logs = []
    for name, rows in (("teacher", teacher), ("student", student)):
        # In float64: at a high temperature the two come very near to each other.
        rows = tf.cast(rows, "float64")
        if tf.executing_eagerly():
            values, sums = rows.numpy(), rows.numpy().sum(axis=1)
            if not (values.min(initial=0) >= 0 and np.allclose(sums, 1, atol=1e-3)):
                raise ValueError(
                    f"`{name}_probabilities` must be at least 0 and sum to 1 in each "
                    f"row. Received: a minimum of {values.min():.3g}, sums of "
                    f"{sums.min():.3g} to {sums.max():.3g}."
                )
        logs.append(
            tf.nn.log_softmax(tf.math.log(tf.maximum(rows, 1e-30)) / temperature)
        )
    divergence = tf.reduce_sum(tf.exp(logs[0]) * (logs[0] - logs[1]), axis=1)
    return tf.cast(temperature**2 * divergence, student.dtype)
