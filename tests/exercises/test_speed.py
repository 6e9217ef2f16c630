"""Each check tells the mistakes that readers make, and what to do about them."""

import numpy as np
import pytest

from transfer_tutorial import exercises


def passed_down(trainable):
    """Whether each layer has a trainable one below it."""
    return np.cumsum(trainable) - trainable > 0


@pytest.mark.parametrize(
    ("check", "wrong", "sentence"),
    [
        ("epochs_for_ratio", lambda n, b, h: n, "its seconds stay"),
        ("epochs_for_ratio", lambda n, b, h: (b + n * h) / (n * (b + h)), "inverse"),
        ("epochs_for_ratio", lambda n, b, h: n * b / (b + n * h), "as well"),
        ("backward_share", lambda w, t: 3 * w.sum(), "frozen layers have no"),
        ("backward_share", lambda w, t: w.sum() + 2 * w[t].sum(), "between two"),
        ("backward_share", lambda w, t: w.sum() + w[t].sum(), "also be passed"),
        (
            "backward_share",
            lambda w, t: w.sum() + w[t].sum() + w[np.argmax(t) :].sum(),
            "passes nothing on",
        ),
        (
            "backward_share",
            lambda w, t: w[t].sum() + w[passed_down(t)].sum(),
            "needed forwards",
        ),
        ("combined_gradients", lambda g, rows: g.mean(axis=0), "a mean of means"),
        ("combined_gradients", lambda g, rows: g.sum(axis=0), "n times as far"),
        ("combined_gradients", lambda g, rows: rows @ g, "sum over all rows"),
        ("combined_gradients", lambda g, rows: rows @ g / len(g), "that of workers"),
    ],
)
def test_check_names_the_mistake(check, wrong, sentence):
    said = getattr(exercises, f"check_{check}")(wrong)
    assert said.startswith("Not yet:") and sentence in said
