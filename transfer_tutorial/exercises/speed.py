"""Checks for the exercises on slow training, and on many machines."""

import numpy as np

from transfer_tutorial.exercises.feedback import answers, expect, expect_function


@answers("Nothing is repeated: the cost of an epoch does not count any more.")
def check_epochs_for_ratio(answer):
    """Check the exercise of `faq/slow_training`: what a cache of features saves.

    Args:
        answer: A function of the number of `epochs`, the seconds of one pass through
            the `backbone`, and those of one epoch of the `head` alone. It returns how
            many times as fast training is with features extracted once.
    """
    expect_function(answer)
    epochs, backbone, head = 12, 5.0, 0.5
    mistakes = [
        (epochs, "the head trains in every epoch, with a cache too: its seconds stay."),
        (
            (backbone + epochs * head) / (epochs * (backbone + head)),
            "this is the share of the time that is left; the ratio is its inverse.",
        ),
        (
            epochs * backbone / (backbone + epochs * head),
            "without a cache the head trains in every epoch as well.",
        ),
    ]
    right = epochs * (backbone + head) / (backbone + epochs * head)
    expect(answer(epochs, backbone, head), right, mistakes=mistakes)


@answers(
    "The lowest layer that learns sets the price, not the number of those that do."
)
def check_backward_share(answer):
    """Check the exercise of `faq/slow_training`: the work of a step below a cut.

    Args:
        answer: A function of `work`, the multiply-adds of the layers from the input to
            the output (n,), and of `trainable`, n booleans. It returns the work of one
            training step: forward through every layer; backward once for the
            gradients of the weights of each trainable layer, and once for passing a
            gradient down through each layer that has a trainable one below it.
    """
    expect_function(answer)
    work = np.array([50, 30, 7, 11])
    trainable = np.array([False, True, False, True])
    mistakes = [
        (
            3 * 98,
            "frozen layers have no gradients of weights, and below the lowest "
            "trainable layer nothing is passed down.",
        ),
        (
            98 + 2 * 41,
            "a frozen layer between two trainable ones must still pass the "
            "gradient down, and the lowest trainable layer need not.",
        ),
        (
            98 + 41,
            "the gradient must also be passed down to the lower trainable layer.",
        ),
        (
            98 + 41 + 48,
            "the lowest trainable layer passes nothing on: nobody below it "
            "waits for a gradient.",
        ),
        (41 + 18, "every layer is still needed forwards."),
    ]
    expect(answer(work, trainable), 98 + 41 + 18, mistakes=mistakes)


@answers("Workers with unequal shares then learn what one process would.")
def check_combined_gradients(answer):
    """Check the exercise of `challenges/scaling_out`: one gradient of several.

    Args:
        answer: A function of `gradients` (n, d), each the mean over the rows of one of
            n workers, and of `rows` (n,), how many rows each had. It returns the mean
            gradient over all rows, (d,).
    """
    expect_function(answer)
    gradients = np.array([[1.0, -2.0], [4.0, 0.5], [0.0, 3.0]])
    rows = np.array([10, 6, 4])
    mistakes = [
        (
            gradients.mean(axis=0),
            "a mean of means lets a row of a small share count for more.",
        ),
        (gradients.sum(axis=0), "the sum moves n times as far as the mean."),
        (rows @ gradients, "this is the sum over all rows; take the mean."),
        (
            rows @ gradients / len(rows),
            "divide by the number of rows, not by that of workers.",
        ),
    ]
    expect(answer(gradients, rows), [1.7, -0.25], mistakes=mistakes)
