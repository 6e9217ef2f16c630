import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer_tutorial.transferability import linear_cka, proxy_a_distance


def make_features(n, d, *, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_distance_of_domains_that_never_overlap_is_two():
    source = make_features(50, 3)
    assert proxy_a_distance(source, source + 100) == 2


def test_distance_of_a_domain_to_itself_is_zero():
    source = make_features(50, 3)
    assert proxy_a_distance(source, source) == 0


def test_distance_of_two_draws_of_one_distribution_is_zero_but_for_chance():
    source, target = make_features(1000, 2).reshape(2, 500, 2)
    # Guessing 1,000 domains: three standard deviations of the accuracy, times four.
    assert proxy_a_distance(source, target) < 4 * 3 * np.sqrt(0.25 / 1000)


def test_distance_of_overlapping_domains_is_the_one_worked_out_by_hand():
    # The best guess is right for three rows in four: 2 (1 - 2 / 4) = 1.
    source = np.repeat([0.0, 1.0], [30, 10])[:, np.newaxis]
    target = np.repeat([0.0, 1.0], [10, 30])[:, np.newaxis]
    assert proxy_a_distance(source, target) == pytest.approx(1)


def test_distance_counts_both_domains_alike_however_large_they_are():
    # Right for 9 in 10 source rows and 1 in 2 target rows: error 0.3, distance 0.8.
    source = np.repeat([0.0, 1.0], [36, 4])[:, np.newaxis]
    target = np.repeat([0.0, 1.0], [200, 200])[:, np.newaxis]
    assert proxy_a_distance(source, target) == pytest.approx(0.8)
    assert proxy_a_distance(target, source) == pytest.approx(0.8)


def test_distance_grows_with_the_shift():
    source, target = make_features(400, 5), make_features(400, 5, seed=1)
    distances = [proxy_a_distance(source, target + shift) for shift in (0, 0.5, 1, 2)]
    assert np.all(np.diff(distances) > 0)


def test_distance_repeats_with_the_same_seed_and_differs_with_another():
    source, target = make_features(40, 2), make_features(40, 2, seed=1) + 1
    first, again, other = (proxy_a_distance(source, target, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_distance_ignores_a_constant_feature():
    source, target = make_features(40, 2), make_features(40, 2, seed=1) + 1
    with_constant = [np.pad(x, [(0, 0), (0, 1)]) for x in (source, target)]
    expected = proxy_a_distance(source, target)
    assert proxy_a_distance(*with_constant) == pytest.approx(expected)


@pytest.mark.parametrize("width", [1, 3, 30])
def test_cka_is_invariant_to_rotation_shift_and_scale(width):
    a, b = make_features(20, width), make_features(20, 4, seed=1)
    rotation = np.linalg.qr(make_features(width, width, seed=2))[0]
    moved = 7 * a @ rotation - 3
    assert linear_cka(moved, b) == pytest.approx(linear_cka(a, b))
    assert linear_cka(a, moved) == pytest.approx(1)


def test_cka_sees_a_stretch_along_one_axis():
    a = make_features(500, 2)
    assert linear_cka(a, a * [1, 10]) < 0.9


def test_cka_of_single_features_is_their_squared_correlation():
    a, b = make_features(30, 2).T
    expected = np.corrcoef(a, b)[0, 1] ** 2
    assert linear_cka(a[:, np.newaxis], b[:, np.newaxis]) == pytest.approx(expected)


def test_cka_of_two_features_with_one_of_them_is_the_one_worked_out_by_hand():
    a = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    # |a'b|^2 = 4, |a'a| = 2 sqrt 2, |b'b| = 2.
    assert linear_cka(a, a[:, :1]) == pytest.approx(1 / np.sqrt(2))
    assert linear_cka(a[:, :1], a[:, 1:]) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 20), st.integers(1, 30), st.integers(1, 30), st.integers(0, 9999))
def test_cka_equals_the_alignment_of_the_centred_kernel_matrices(n, d, e, seed):
    a, b = make_features(n, d, seed=seed), make_features(n, e, seed=seed + 1)
    centring = np.eye(n) - 1 / n
    k, m = (centring @ x @ x.T @ centring for x in (a, b))
    expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert linear_cka(a, b) == pytest.approx(expected)
    assert linear_cka(b, a) == pytest.approx(expected)
    assert -1e-9 <= linear_cka(a, b) <= 1 + 1e-9


def test_cka_of_independent_features_falls_towards_zero_with_the_rows():
    values = [
        linear_cka(make_features(n, 3), make_features(n, 3, seed=1))
        for n in (5, 100, 10_000)
    ]
    assert values[0] > values[1] > values[2]
    assert values[2] < 0.01


FIVE, FOUR = make_features(5, 2), make_features(4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: proxy_a_distance(FIVE, make_features(5, 3)),
            r"`source_features` and `target_features` .* Received: \(5, 2\) and \(5, 3",
        ),
        (lambda: proxy_a_distance(FIVE[0], FIVE), r"`source_features` .* \(2,\) and"),
        (lambda: proxy_a_distance(FIVE, FIVE[0]), r"`target_features` .* and \(2,\)"),
        (lambda: proxy_a_distance(FOUR, FIVE), r"`source_features` .* Received: 4 and"),
        (lambda: proxy_a_distance(FIVE, FOUR), r"`target_features` .* and 4"),
        (
            lambda: proxy_a_distance(FIVE, FIVE * np.nan),
            r"`source_features` and `target_features` .* finite.* Received: NaN",
        ),
        (
            lambda: linear_cka(FIVE, FOUR),
            r"`features_a` and `features_b` .* Received: \(5, 2\) and \(4, 2\)",
        ),
        (lambda: linear_cka(FIVE[:, 0], FIVE), r"`features_a` .* \(5,\) and \(5, 2\)"),
        (lambda: linear_cka(FIVE, FIVE[:, 0]), r"`features_b` .* \(5, 2\) and \(5,\)"),
        # 0.1 has no exact binary form: its mean over three rows differs from it.
        (
            lambda: linear_cka(np.full((3, 2), 0.1), FIVE[:3]),
            r"`features_a` and `features_b` must vary .* Received: a view whose rows",
        ),
        (
            lambda: linear_cka(FIVE[:3], np.full((3, 1), 0.1)),
            r"`features_b` must vary .* Received: a view whose rows are all equal",
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
