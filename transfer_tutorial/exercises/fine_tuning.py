"""Checks for the exercises of the chapters on ways to fine-tune."""

import math

import keras
import numpy as np

from transfer_tutorial.exercises.feedback import (
    NotYet,
    answers,
    expect,
    expect_function,
)


def _take(parts, names):
    """Raise `NotYet` unless the answer is one array for each of the names."""
    if parts is None:
        raise NotYet("there is no answer yet. Received: None")
    if not isinstance(parts, tuple | list) or len(parts) != len(names):
        raise NotYet(f"return {len(names)} arrays: {', '.join(names)}.")
    return parts


def _normalize(x, mean, variance, gamma, beta):
    """BatchNorm's output, with an epsilon of 0.1."""
    return (x - mean) / np.sqrt(variance + 0.1) * gamma + beta


@answers("A training that ends before is tested with averages that are still a start.")
def check_forgetting_steps(answer):
    """Check the exercise of `code/images_from_scratch`: BatchNorm's averages.

    Args:
        answer: A function of the `momentum` and of `left`, both in (0, 1). It returns
            after how many steps at most that share of the initial average is left.
    """
    expect_function(answer)
    momentum, left = 0.97, 0.05
    steps = math.log(left) / math.log(momentum)
    mistakes = [
        (steps, "steps are whole numbers."),
        (math.floor(steps), "one step more: after so many, too much is still left."),
        (
            math.ceil((1 - left) / (1 - momentum)),
            "a step keeps a share of what is left.",
        ),
        (math.ceil(1 / steps), "the two logarithms have changed places."),
    ]
    expect(answer(momentum, left), math.ceil(steps), mistakes=mistakes)


@answers("Fine-tuning begins with a head that works, and has nothing to wreck.")
def check_folded_head(answer):
    """Check the exercise of `code/images_imagenet`: a probe folded into a head.

    Args:
        answer: A function of the probe's `mean` and `scale` (d,), by which it scales
            the features, its `coef` (c, d) and `intercept` (c,). It returns the head's
            kernel (d, c) and bias (c,).
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    mean, scale, coef = (
        rng.normal(size=3),
        rng.uniform(1, 3, 3),
        rng.normal(size=(4, 3)),
    )
    intercept = rng.normal(size=4)
    names = ["the kernel", "the bias"]
    kernel, bias = _take(answer(mean, scale, coef, intercept), names)
    mistakes = [
        (coef.T, "the kernel gets raw features: the scale is still to be folded in."),
        ((coef * scale).T, "the probe divides features by their scale."),
        (coef / scale, "the kernel has a row for each feature."),
    ]
    expect(kernel, (coef / scale).T, mistakes=mistakes)
    mistakes = [
        (intercept, "in the bias, what the scaling takes away is missing: the mean."),
        (intercept - coef @ mean, "the mean is taken away before it is divided."),
        (intercept + coef @ (mean / scale), "the mean is taken away, not added."),
    ]
    expect(bias, intercept - coef @ (mean / scale), mistakes=mistakes)


@answers("One layer, two functions: which of them is used, `fit` decides.")
def check_batch_norm(answer):
    """Check the exercise of `code/batch_norm`: the layer in both of its modes.

    Args:
        answer: A function of a batch `x` (n, d), of `gamma`, `beta`, `mean` and
            `variance` (d,), where the last two are the running averages, and of
            `momentum`, `epsilon` and `training`. It returns the output and the averages
            after the step.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    x, variance = rng.normal(2, 3, (5, 3)), rng.uniform(1, 2, 3)
    gamma, beta, mean = rng.normal(size=(3, 3))
    names = ["the output", "the mean", "the variance"]
    m, v, sample = x.mean(axis=0), x.var(axis=0), x.var(axis=0, ddof=1)
    new, new_v = 0.8 * mean + 0.2 * m, 0.8 * variance + 0.2 * v
    by_batch, by_sample = (_normalize(x, m, u, gamma, beta) for u in (v, sample))
    at_rest = _normalize(x, mean, variance, gamma, beta)
    outside = (x - m) / (np.sqrt(v) + 0.1) * gamma + beta
    given = x, gamma, beta, mean, variance, 0.8, 0.1
    y, *running = _take(answer(*map(np.copy, given), True), names)
    mistakes = [
        (at_rest, "in training the batch is its own measure."),
        (_normalize(x, new, new_v, gamma, beta), "the averages are for later."),
        (by_sample, "divide a variance by n, not by n - 1."),
        (outside, "epsilon stands under the root."),
    ]
    expect(y, by_batch, mistakes=mistakes)
    swapped, torch = 0.2 * mean + 0.8 * m, 0.8 * variance + 0.2 * sample
    mistakes = [
        ([swapped, 0.2 * variance + 0.8 * v], "momentum is the share of the old one."),
        ([new, torch], "Keras divides by n here, as for the output."),
    ]
    expect(running, [new, new_v], mistakes=mistakes)
    y, *running = _take(answer(*map(np.copy, given), False), names)
    mistakes = [(by_batch, "at inference the running averages count, not the batch.")]
    expect(y, at_rest, mistakes=mistakes)
    mistakes = [([new, new_v], "at inference the averages stay as they are.")]
    expect(running, [mean, variance], mistakes=mistakes)


@answers("Compile now, and `fit` will leave the statistics where they are.")
def check_batch_norm_at_rest(answer):
    """Check the exercise of `code/batch_norm`: all free but BatchNorm.

    Args:
        answer: A function that changes a frozen `backbone`, a `keras.Model` with a
            model among its layers, in place.
    """
    expect_function(answer)
    norm = keras.layers.BatchNormalization
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), norm()])
    dense = keras.layers.Dense(4)
    backbone = keras.Sequential([keras.Input((5,)), dense, norm(), inner])
    backbone.trainable = False
    answer(backbone)
    inner_norm, outer_norm = inner.layers[1], backbone.layers[1]
    free = {id(v) for v in backbone.trainable_variables}
    learning = [id(layer.kernel) in free for layer in (dense, inner.layers[0])]
    if not any(learning):
        raise NotYet("nothing can learn: the backbone itself is still frozen.")
    if not all(learning):
        raise NotYet("some dense layer is still frozen: all of them should learn.")
    if outer_norm.trainable:
        raise NotYet(
            "BatchNorm is free. Unfreezing a model frees all inside it, and what comes "
            "last holds."
        )
    if inner_norm.trainable:
        raise NotYet("the BatchNorm of the model inside is free: look into it, too.")


@answers("Where the loss is flat the spring alone acts, and brings the weight back.")
def check_l2_sp_step(answer):
    """Check the exercise of `code/fine_tuning_recipes`: a step with L2-SP.

    Args:
        answer: A function of the weights `w` and their `start` (d,), of the `gradient`
            (d,) of the loss without the penalty, of the `rate` and the `strength`. It
            returns the weights after one step of plain SGD.
    """
    expect_function(answer)
    w, start = np.array([0.5, -1.2, 2.0]), np.array([0.8, -1.0, 1.1])
    gradient, rate, strength = np.array([0.3, 0.7, -0.4]), 0.1, 1.5
    plain, way = w - rate * gradient, w - start
    mistakes = [
        (plain - rate * strength * w, "this pulls to zero: ordinary weight decay."),
        (plain + rate * strength * way, "this pushes away from the start."),
        (plain - 2 * rate * strength * way, "the half of the penalty is forgotten."),
        (plain - strength * way, "the rate applies to the whole gradient."),
    ]
    received = answer(w, start, gradient, rate, strength)
    expect(received, plain - rate * strength * way, mistakes=mistakes)


@answers("Adam undoes what scales a gradient; what scales the update is left.")
def check_adam(answer):
    """Check the exercise of `code/fine_tuning_recipes`: Adam, a rate for each weight.

    Args:
        answer: A function of the weights `w` (d,), of `gradients` (steps, d), of the
            `rate` and of a multiplier of it for each weight, `multipliers` (d,). It
            returns the weights after all steps.
    """
    expect_function(answer)
    w, multipliers = np.array([1.0, -2.0, 0.5]), np.array([1.0, 0.1, 0.3])
    gradients = np.array([[2.0, 0.3, -1.0], [1.0, 0.6, -3.0], [-0.5, 0.9, -2.0]])
    t = np.arange(1, 4)[:, np.newaxis]
    ago = t - t.T  # steps that have passed since each gradient
    m = np.tril(0.1 * 0.9**ago) @ gradients
    v = np.tril(0.001 * 0.999**ago) @ gradients**2
    raw = 0.01 * np.sum(m / (np.sqrt(v) + 1e-7), axis=0)
    m, v = m / (1 - 0.9**t), v / (1 - 0.999**t)
    way = 0.01 * np.sum(m / (np.sqrt(v) + 1e-7), axis=0)
    right = w - multipliers * way
    mistakes = [
        (w - way, "the multipliers do nothing: Adam divides a scaled gradient again."),
        (w - multipliers * raw, "m and v begin at 0 and are too small: correct them."),
        (w + multipliers * way, "the step goes up the gradient."),
        (w - 0.01 * multipliers * gradients.sum(axis=0), "this is plain SGD."),
    ]
    expect(answer(w, gradients, 0.01, multipliers), right, mistakes=mistakes)


@answers("One kernel, as large as before: the network is a plain one again.")
def check_merged_kernel(answer):
    """Check the exercise of `code/lora`: an update merged into a convolution.

    Args:
        answer: A function of a `kernel` (height, width, channels, units), of `a`
            (height * width * channels, rank) and `b` (rank, units), and of `alpha`. It
            returns the kernel with the update in it.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    kernel, alpha = rng.normal(size=(2, 3, 4, 5)), 6.0
    a, b = rng.normal(size=(24, 2)), rng.normal(size=(2, 5))
    update = (a @ b).reshape(kernel.shape)
    mistakes = [
        (kernel + update, "the update has a scale, alpha / r."),
        (kernel + alpha * update, "the scale is alpha / r: divide by the rank."),
        (alpha / 2 * update, "this is the update alone. Add it to the kernel."),
        (kernel.reshape(24, 5) + alpha / 2 * (a @ b), "give it its old shape back."),
    ]
    expect(answer(kernel, a, b, alpha), kernel + alpha / 2 * update, mistakes=mistakes)


@answers("While B is zero A has no gradient: B must grow first, and needs the rate.")
def check_lora_gradients(answer):
    """Check the exercise of `code/lora`: the gradients of both factors.

    Args:
        answer: A function of the `gradient` (fan_in, units) of the loss in the merged
            kernel, of `a` (fan_in, rank), `b` (rank, units) and `alpha`. It returns the
            gradients in `a` and in `b`.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    gradient, alpha = rng.normal(size=(4, 5)), 6.0
    a, b = rng.normal(size=(4, 2)), rng.normal(size=(2, 5))
    right_a, right_b = 3 * gradient @ b.T, 3 * a.T @ gradient
    names = ["the gradient in a", "the gradient in b"]
    in_a, in_b = _take(answer(gradient, a, b, alpha), names)
    scale = "the scale alpha / r belongs to the gradient as well."
    mistakes = [
        (right_b, "the two gradients have changed places."),
        (gradient @ b.T, scale),
        (2 * right_a, "the scale is alpha / r: divide by the rank."),
    ]
    expect(in_a, right_a, mistakes=mistakes)
    expect(in_b, right_b, mistakes=[(a.T @ gradient, scale)])
