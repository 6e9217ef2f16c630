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


@answers("Nearly the same for 8 workers and for 100: what counts is what is trained.")
def check_sent_bytes(answer):
    """Check the exercise of `challenges/scaling_out`: the bytes of a training step.

    Args:
        answer: A function of the number of `workers` and of `parameters` that are
            trained, with 4 bytes each. It returns the bytes that each worker sends in
            one step, if the gradients are added up in a ring.
    """
    expect_function(answer)
    workers, parameters = 5, 1000
    mistakes = [
        (1600, "a parameter has 4 bytes."),
        (
            3200,
            "once round the ring adds the parts up; it takes a second round to hand "
            "the sums to everybody.",
        ),
        (8000, "the first of the parts is already there: n - 1 parts are sent, not n."),
        (32000, "this is what all workers send together."),
        (16000, "a ring sends parts of the gradient, not the whole of it each time."),
    ]
    expect(answer(workers, parameters), 6400, mistakes=mistakes)
