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
        ("sent_bytes", lambda n, p: 2 * (n - 1) / n * p, "4 bytes"),
        ("sent_bytes", lambda n, p: (n - 1) / n * 4 * p, "second round"),
        ("sent_bytes", lambda n, p: 2 * 4 * p, "n - 1 parts"),
        ("sent_bytes", lambda n, p: 2 * (n - 1) * 4 * p, "together"),
        ("sent_bytes", lambda n, p: (n - 1) * 4 * p, "parts of the gradient"),
    ],
)
def test_check_names_the_mistake(check, wrong, sentence):
    said = getattr(exercises, f"check_{check}")(wrong)
    assert said.startswith("Not yet:") and sentence in said
