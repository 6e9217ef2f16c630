import numpy as np
import pytest

from transfer_tutorial.exercises import NotYet, answers, expect, expect_function


def test_a_right_number_and_a_right_array_pass():
    expect(2, 2.0)
    expect([1.0, 2.0], np.array([1, 2]))
    expect(1000.001, 1000.0, tolerance=1e-5)  # relative to the right one


@pytest.mark.parametrize(
    ("received", "sentence"),
    [
        (None, "no answer yet"),
        ("two", "made of numbers. Received: str"),
        ({"a": 1}, "made of numbers. Received: dict"),
        ([1.0], r"shape must be \(2,\). Received: \(1,\)"),
        ([1.0, 2.1], r"must be \[1. 2.\]. Received: \[1.  2.1\]"),
        ([1.0, np.nan], r"Received: \[ 1. nan\]"),
    ],
)
def test_a_wrong_answer_is_told_what_is_amiss(received, sentence):
    with pytest.raises(NotYet, match=sentence):
        expect(received, [1.0, 2.0])


def test_a_known_mistake_is_named_even_if_its_shape_is_wrong():
    with pytest.raises(NotYet, match="take the mean"):
        expect([1.0, 3.0], 2.0, mistakes=[([1.0, 3.0], "take the mean")])


def test_a_known_mistake_that_equals_the_right_answer_does_not_hide_it():
    with pytest.raises(NotYet, match="a mistake"):
        expect(1.0, 2.0, mistakes=[(1.0, "a mistake"), (1.0, "another")])


def test_a_result_instead_of_the_function_is_told_so():
    expect_function(np.mean)
    with pytest.raises(NotYet, match="the function itself.* Received: float"):
        expect_function(2.0)


def test_answers_makes_sentences_and_lets_other_errors_through():
    @answers("It is two.")
    def check_two(answer):
        """Check."""
        expect(answer, 2)

    assert check_two(2) == "Right. It is two."
    assert check_two(3) == "Not yet: the answer must be 2. Received: 3.0"
    assert check_two.__doc__ == "Check."

    @answers("")
    def check_broken(answer):
        answer()

    with pytest.raises(ZeroDivisionError):
        check_broken(lambda: 1 / 0)
