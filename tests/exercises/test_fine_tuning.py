"""Each check tells the mistakes that readers make, and what to do about them."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from transfer_tutorial import exercises, fine_tuning
from transfer_tutorial.l2_sp import L2SP
from transfer_tutorial.learning_rates import DiscriminativeAdam
from transfer_tutorial.lora import LoRA


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda m, left: math.log(left, m), "whole numbers"),
        (lambda m, left: int(math.log(left, m)), "one step more"),
        (lambda m, left: math.ceil((1 - left) / (1 - m)), "a share of what is left"),
        (lambda m, left: math.ceil(math.log(m, left)), "changed places"),
    ],
)
def test_forgetting_steps_names_the_mistake(wrong, sentence):
    said = exercises.check_forgetting_steps(wrong)
    assert said.startswith("Not yet:") and sentence in said


def fold(mean, scale, coef, intercept, *, kernel="right", bias="right"):
    right = coef / scale
    kernels = {"right": right.T, "raw": coef.T, "times": (coef * scale).T}
    kernels |= {"turned": right}
    biases = {"right": intercept - mean @ right.T, "raw": intercept}
    biases |= {"plain mean": intercept - coef @ mean}
    biases |= {"added": intercept + mean @ right.T}
    return kernels[kernel], biases[bias]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"kernel": "raw"}, "still to be folded in"),
        ({"kernel": "times"}, "divides features"),
        ({"kernel": "turned"}, "a row for each feature"),
        ({"bias": "raw"}, "is missing: the mean"),
        ({"bias": "plain mean"}, "before it is divided"),
        ({"bias": "added"}, "not added"),
    ],
)
def test_folded_head_names_the_mistake(wrong, sentence):
    said = exercises.check_folded_head(lambda *args: fold(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_folded_head_wants_two_arrays():
    said = exercises.check_folded_head(lambda *args: fold(*args)[0])
    assert "return 2 arrays: the kernel, the bias" in said


def batch_norm(
    x, gamma, beta, mean, variance, momentum, epsilon, training, *, wrong=""
):
    batch = training or wrong == "always batch"
    batch = batch and wrong != "never batch"
    ddof = int(wrong == "sample")
    keep = 1 - momentum if wrong == "swapped" else momentum
    new = keep * mean + (1 - keep) * x.mean(axis=0)
    torch = int(wrong in ("torch", "sample"))
    new_v = keep * variance + (1 - keep) * x.var(axis=0, ddof=torch)
    m, v = (x.mean(axis=0), x.var(axis=0, ddof=ddof)) if batch else (mean, variance)
    if wrong == "averages first" and training:
        m, v = new, new_v
    spread = np.sqrt(v) + epsilon if wrong == "outside" else np.sqrt(v + epsilon)
    y = (x - m) / spread * gamma + beta
    moves = training or wrong == "moves"
    return (y, new, new_v) if moves else (y, mean, variance)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("never batch", "its own measure"),
        ("averages first", "for later"),
        ("sample", "not by n - 1"),
        ("outside", "under the root"),
        ("swapped", "the share of the old one"),
        ("torch", "divides by n here"),
        ("always batch", "not the batch"),
        ("moves", "stay as they are"),
    ],
)
def test_batch_norm_names_the_mistake(wrong, sentence):
    said = exercises.check_batch_norm(lambda *args: batch_norm(*args, wrong=wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_batch_norm_of_keras_is_right():
    def run(x, gamma, beta, mean, variance, momentum, epsilon, training):
        layer = keras.layers.BatchNormalization(
            momentum=float(momentum), epsilon=float(epsilon)
        )
        layer.build(x.shape)
        layer.set_weights([gamma, beta, mean, variance])
        return np.array(layer(x, training=training)), *layer.get_weights()[2:]

    assert exercises.check_batch_norm(run).startswith("Right.")


def free_last(backbone):
    freeze_norms(backbone)
    backbone.trainable = True


def freeze_norms(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def free_outside(backbone):
    backbone.trainable = True
    freeze_norms(backbone)


def free_layers_of_a_frozen_model(backbone):
    for layer in backbone.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)


def free_first_layer(backbone):
    backbone.trainable = True
    for layer in backbone.layers[1:]:
        layer.trainable = False


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (free_last, "what comes last holds"),
        (free_outside, "the model inside"),
        (free_layers_of_a_frozen_model, "the backbone itself is still frozen"),
        (free_first_layer, "some dense layer"),
    ],
)
def test_batch_norm_at_rest_names_the_mistake(wrong, sentence):
    said = exercises.check_batch_norm_at_rest(wrong)
    assert said.startswith("Not yet:") and sentence in said


def test_freeze_batch_norm_is_right():
    def prepare(backbone):
        backbone.trainable = True
        fine_tuning.freeze_batch_norm(backbone)

    assert exercises.check_batch_norm_at_rest(prepare).startswith("Right.")


def test_l2_sp_of_the_package_is_right():
    def step(w, start, gradient, rate, strength):
        variable = keras.Variable(w)
        variable.regularizer = L2SP(start, float(strength))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(variable * gradient) + variable.regularizer(variable)
        return w - rate * np.array(tape.gradient(loss, variable.value))

    assert exercises.check_l2_sp_step(step).startswith("Right.")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda w, w0, g, rate, s: w - rate * (g + s * w), "weight decay"),
        (lambda w, w0, g, rate, s: w - rate * (g + s * (w0 - w)), "pushes away"),
        (lambda w, w0, g, rate, s: w - rate * (g + 2 * s * (w - w0)), "the half"),
        (lambda w, w0, g, rate, s: w - rate * g - s * (w - w0), "the whole gradient"),
    ],
)
def test_l2_sp_step_names_the_mistake(wrong, sentence):
    said = exercises.check_l2_sp_step(wrong)
    assert said.startswith("Not yet:") and sentence in said


def adam(w, gradients, rate, multipliers, *, scale="update", correct=True, up=False):
    m = v = np.zeros(len(w))
    for t, g in enumerate(gradients, start=1):
        g = g * multipliers if scale == "gradient" else g
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        a, b = (1 - 0.9**t, 1 - 0.999**t) if correct else (1, 1)
        update = m / a / (np.sqrt(v / b) + 1e-7)
        update = update * multipliers if scale == "update" else update
        w = w + rate * update if up else w - rate * update
    return w


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"scale": "gradient"}, "divides a scaled gradient again"),
        ({"correct": False}, "correct them"),
        ({"up": True}, "up the gradient"),
    ],
)
def test_adam_names_the_mistake(wrong, sentence):
    said = exercises.check_adam(lambda *args: adam(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_adam_is_not_plain_gradient_descent():
    said = exercises.check_adam(
        lambda w, g, rate, by: w - sum(rate * by * x for x in g)
    )
    assert said.startswith("Not yet:") and "plain SGD" in said


def test_adam_of_the_package_is_right():
    def run(w, gradients, rate, multipliers):
        variables = [keras.Variable([value]) for value in w.tolist()]
        optimizer = DiscriminativeAdam(rate, multipliers)
        for row in gradients:
            parts = [keras.ops.array([g], "float32") for g in row]
            optimizer.apply(parts, variables)
        return np.ravel([v.numpy() for v in variables])

    assert exercises.check_adam(run).startswith("Right.")


def test_merged_kernel_of_the_package_is_right():
    def run(kernel, a, b, alpha):
        *size, channels, units = kernel.shape
        layer = LoRA(keras.layers.Conv2D(units, size), a.shape[1], alpha)
        layer.build((None, 8, 8, channels))
        layer.set_weights([a, b, kernel, np.zeros(units)])
        return np.array(layer.compute_kernel())

    assert exercises.check_merged_kernel(run).startswith("Right.")


def merge(kernel, a, b, alpha, *, scale=None, add=True, shape=True):
    update = (alpha / a.shape[1] if scale is None else scale(alpha)) * (a @ b)
    start = kernel.reshape(update.shape) if add else 0
    return (start + update).reshape(kernel.shape) if shape else start + update


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"scale": lambda alpha: 1}, "has a scale"),
        ({"scale": lambda alpha: alpha}, "divide by the rank"),
        ({"add": False}, "the update alone"),
        ({"shape": False}, "its old shape"),
    ],
)
def test_merged_kernel_names_the_mistake(wrong, sentence):
    said = exercises.check_merged_kernel(lambda *args: merge(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda g, a, b, s: (s / 2 * a.T @ g, s / 2 * g @ b.T), "changed places"),
        (lambda g, a, b, s: (g @ b.T, s / 2 * a.T @ g), "belongs to the gradient"),
        (lambda g, a, b, s: (s / 2 * g @ b.T, a.T @ g), "belongs to the gradient"),
        (lambda g, a, b, s: (s * g @ b.T, s * a.T @ g), "divide by the rank"),
        (lambda g, a, b, s: g @ b.T, "return 2 arrays"),
    ],
)
def test_lora_gradients_names_the_mistake(wrong, sentence):
    said = exercises.check_lora_gradients(wrong)
    assert said.startswith("Not yet:") and sentence in said
