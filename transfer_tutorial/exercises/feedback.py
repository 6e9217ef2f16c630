"""What the checks share: compare an answer with the right one, and say what is amiss.

A check is a function of the reader's answer. It calls `expect`, which raises `NotYet`
where the answer is not the right one; `answers` makes a sentence of that.
"""

import functools

import numpy as np


class NotYet(Exception):
    """What is still amiss with an answer, in words that help."""


def answers(praise):
    """Decorate a check, so that it returns a sentence instead of raising `NotYet`.

    The sentence begins with "Right." or with "Not yet:". What the reader's own code
    raises is not caught: its traceback shows the line.

    Args:
        praise: What to say of a right answer; what it was good for.

    Returns:
        A decorator for functions of one argument, the answer.
    """

    def decorate(check):
        @functools.wraps(check)
        def run(answer):
            try:
                check(answer)
            except NotYet as reason:
                return f"Not yet: {reason}"
            return f"Right. {praise}"

        return run

    return decorate


def expect_function(answer):
    """Raise `NotYet` unless `answer` is a function, or another thing to be called.

    Args:
        answer: What the reader gave.
    """
    if not callable(answer):
        raise NotYet(
            "give the function itself, without calling it. "
            f"Received: {type(answer).__name__}"
        )


def expect(received, right, *, mistakes=(), tolerance=1e-5):
    """Raise `NotYet` unless `received` equals `right`; name the mistake if it is known.

    Args:
        received: The reader's number or array.
        right: The right number or array. Its shape must be met too.
        mistakes: Pairs (wrong number or array, sentence): what a well-known mistake
            gives, and what to say of it. The first that matches is said.
        tolerance: How far a number may be off, relative to the right one or absolute.
    """
    if received is None:
        raise NotYet("there is no answer yet. Received: None")
    try:
        received = np.asarray(received, dtype=float)
    except (TypeError, ValueError):
        kind = type(received).__name__
        raise NotYet(f"the answer must be made of numbers. Received: {kind}") from None
    near = functools.partial(np.allclose, rtol=tolerance, atol=tolerance)
    for wrong, sentence in mistakes:
        if np.shape(wrong) == received.shape and near(received, wrong):
            raise NotYet(sentence)
    if received.shape != np.shape(right):
        raise NotYet(f"the shape must be {np.shape(right)}. Received: {received.shape}")
    if not near(received, right):
        raise NotYet(
            f"the answer must be {np.round(right, 4)}. "
            f"Received: {np.round(received, 4)}"
        )
