import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import linalg, optimize, stats
from sklearn.covariance import LedoitWolf

from transfer_tutorial.transferability import (
    h_score,
    leep,
    linear_cka,
    logme,
    proxy_a_distance,
)

# With constants that have no exact binary form, and what over- or underflows.
FINITE = st.sampled_from([0, 0.1, 1, -1, 3, 5e-324, 1e-200, 1e200, 1.7e308, -1.7e308])


def make_features(n, d, *, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def make_task(n, d, *, signal=1.0, num_classes=3, seed=0):
    """Features of which one shifts with the label, by `signal`, and integer labels."""
    labels = np.arange(n) % num_classes
    features = make_features(n, d, seed=seed)
    features[:, 0] += signal * labels
    return features, labels


@st.composite
def finite_tasks(draw):
    """Any finite features, more rows than columns or fewer, and at least two classes.

    Often a class has one row, a feature is constant, or all of them are.
    """
    n, d = draw(st.integers(2, 8)), draw(st.integers(1, 8))
    features = draw(arrays("float64", (n, d), elements=FINITE))
    rest = draw(st.lists(st.integers(-1, 3), min_size=n - 2, max_size=n - 2))
    return features, np.array([7, 0, *rest])


def measure_peak_memory(function, *arguments):
    """Bytes that a call adds at most."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


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


@settings(deadline=None, max_examples=200)
@given(finite_tasks(), st.integers(0, 9999))
def test_cka_of_finite_features_is_between_0_and_1(task, seed):
    view = task[0]
    other = make_features(len(view), 3, seed=seed)
    if np.ptp(view / 2, axis=0).max() < 1e-300:  # refused, or close to it
        return
    for pair in ((view, other), (other, view), (view, view)):
        assert 0 <= linear_cka(*pair) <= 1
    assert linear_cka(view, view) == pytest.approx(1)


@pytest.mark.parametrize(("n", "d"), [(4000, 5), (5, 4000)])
def test_cka_takes_the_smaller_of_the_products(n, d):
    a, b = make_features(n, d), make_features(n, d, seed=1)
    # One 4000 x 4000 matrix has 128 MB.
    assert measure_peak_memory(linear_cka, a, b) < 4e6


def test_cka_ignores_a_constant_feature_however_large():
    a, b = make_features(6, 3), make_features(6, 2, seed=1)
    padded = np.pad(a, [(0, 0), (0, 1)], constant_values=0.1)
    assert linear_cka(padded, b) == pytest.approx(linear_cka(a, b))
    padded[:, -1] = 1e8
    assert linear_cka(padded, b) == pytest.approx(linear_cka(a, b))


def make_probabilities(n, num_source_classes, *, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(num_source_classes, 0.3), size=n)


def test_leep_of_four_rows_is_the_one_worked_out_by_hand():
    # P(y=0 | z=0) = 1, P(y=0 | z=1) = 0.5 / 2.5 and P(y=1 | z=1) = 2 / 2.5.
    probabilities = [[1, 0], [0.5, 0.5], [0, 1], [0, 1]]
    expected = np.mean(np.log([1, 0.5 * 1 + 0.5 * 0.2, 0.8, 0.8]))
    assert leep(probabilities, [0, 0, 1, 1]) == pytest.approx(expected)


def test_leep_of_an_uninformative_source_model_is_minus_the_entropy_of_the_labels():
    same = np.tile([0.7, 0.2, 0.1], (4, 1))
    assert leep(same, [0, 1, 0, 1]) == pytest.approx(-np.log(2))
    expected = 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    assert leep(same, [0, 1, 1, 1]) == pytest.approx(expected)


def test_leep_is_zero_if_no_two_labels_share_a_source_class():
    probabilities = [[1, 0, 0], [1, 0, 0], [0, 0.6, 0.4], [0, 0.1, 0.9]]
    assert leep(probabilities, [5, 5, 2, 2]) == 0


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 9999))
def test_leep_equals_the_equations_summed_in_loops(n, num_source_classes, seed):
    probabilities = make_probabilities(n, num_source_classes, seed=seed)
    labels = [seed % 2, 1 - seed % 2, *(i % 3 for i in range(n - 2))]
    joint = {}
    for row, label in zip(probabilities, labels, strict=True):
        for z, probability in enumerate(row):
            joint[label, z] = joint.get((label, z), 0) + probability / n
    total = 0
    for row, label in zip(probabilities, labels, strict=True):
        expected = 0
        for z, probability in enumerate(row):
            marginal = sum(joint[other, z] for other in set(labels))
            expected += joint[label, z] / marginal * probability
        total += np.log(expected)
    assert leep(probabilities, labels) == pytest.approx(total / n)


def test_leep_ignores_the_names_of_classes_and_the_order_of_rows():
    probabilities, labels = make_probabilities(30, 4), np.arange(30) % 3
    expected = leep(probabilities, labels)
    order = np.random.default_rng(0).permutation(30)
    assert leep(probabilities[order], labels[order]) == pytest.approx(expected)
    assert leep(probabilities[:, [2, 0, 3, 1]], labels) == pytest.approx(expected)
    renamed = np.array([-4, 100, 7])[labels]
    assert leep(probabilities, renamed) == pytest.approx(expected)


def test_leep_ignores_a_source_class_that_is_never_predicted():
    probabilities, labels = make_probabilities(30, 4), np.arange(30) % 3
    padded = np.pad(probabilities, [(0, 0), (1, 2)])
    assert leep(padded, labels) == pytest.approx(leep(probabilities, labels))


def test_leep_rises_with_what_the_source_model_knows():
    labels = np.arange(60) % 3
    noise = make_probabilities(60, 3)
    scores = [
        leep(known * np.eye(3)[labels] + (1 - known) * noise, labels)
        for known in (0, 0.3, 0.6, 1)
    ]
    assert np.all(np.diff(scores) > 0)
    assert scores[-1] == 0


def test_leep_rises_with_the_number_of_source_classes_by_chance_alone():
    rng, labels = np.random.default_rng(0), np.arange(60) % 2
    scores = [leep(np.eye(k)[rng.integers(0, k, 60)], labels) for k in (2, 10, 50)]
    assert np.all(np.diff(scores) > 0)


def test_leep_divides_rounded_probabilities_by_their_sums():
    probabilities, labels = make_probabilities(30, 4), np.arange(30) % 3
    sums = np.linspace(0.9995, 1.0005, 30)[:, np.newaxis]
    expected = leep(probabilities, labels)
    assert leep(sums * probabilities, labels) == pytest.approx(expected, rel=1e-12)


def test_leep_does_not_pass_zero_by_rounding():
    for seed in range(20):
        halves = make_probabilities(8, 3, seed=seed).reshape(2, 4, 3)
        score = leep(linalg.block_diag(*halves), np.repeat([0, 1], 4))
        assert -1e-12 < score <= 0


@settings(deadline=None, max_examples=100)
@given(
    finite_tasks(),
    st.lists(st.sampled_from([0, 1e-320, 1e-30, 0.5, 1]), min_size=8, max_size=8),
    st.integers(1, 8),
)
def test_leep_of_any_probabilities_is_finite_and_at_most_0(task, weights, width):
    labels = task[1]
    weights = np.resize(weights, (len(labels), width))
    weights[:, 0] += weights.sum(axis=1) == 0
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    assert -np.inf < leep(probabilities, labels) <= 0


def test_logme_of_one_constant_feature_is_the_one_worked_out_by_hand():
    # Evidence of 1, 1, 0, 0: maximal at alpha = 6, beta = 3, where the fixed point of
    # the paper rests: gamma = 2/3, |m|^2 = 1/9, residual 10/9.
    expected = (3 * np.log(3) - 4 - 4 * np.log(2 * np.pi)) / 8
    assert logme(np.ones((4, 1)), [0, 0, 1, 1]) == pytest.approx(expected)


def test_logme_of_empty_features_is_the_density_of_noise_alone():
    # Noise around 0 of variance 1/4 and 3/4, the mean squares of the targets.
    expected = np.mean([-0.5 * np.log(2 * np.pi * v) - 0.5 for v in (0.25, 0.75)])
    assert logme(np.zeros((4, 3)), [0, 1, 1, 1]) == pytest.approx(expected)


def test_logme_of_features_that_are_the_labels_is_the_one_worked_out_by_hand():
    # The noise is at its floor, beta = 10^6, and alpha / (alpha + 2 beta) = 10^-6.
    features = np.repeat(np.eye(2), 2, axis=0)
    expected = (2 * np.log(1e6) - 2 - 4 * np.log(2 * np.pi)) / 8
    assert logme(features, [0, 0, 1, 1]) == pytest.approx(expected)


def search_evidence(features, target):
    """Highest log density of a target, by search over its n x n covariance."""
    n = len(target)

    def measure_loss(log_precisions):
        alpha, beta = np.exp(log_precisions)
        root = linalg.cholesky(features @ features.T / alpha + np.eye(n) / beta)
        whitened = linalg.solve_triangular(root, target, trans="T")
        determinant = 2 * np.log(np.diag(root)).sum()
        return (whitened @ whitened + determinant + n * np.log(2 * np.pi)) / 2

    # Up to the floor of the noise, beta = 10^6, where a maximum may lie.
    bounds = [(-10, 20), (-4, np.log(1e6))]
    grid = np.meshgrid(*[np.linspace(*bound, 50) for bound in bounds])
    start = min(np.stack(grid, axis=-1).reshape(-1, 2), key=measure_loss)
    options = {"xatol": 1e-6, "fatol": 1e-9}
    return -optimize.minimize(
        measure_loss, start, method="Nelder-Mead", bounds=bounds, options=options
    ).fun


@pytest.mark.parametrize("signal", [0, 2])
@pytest.mark.parametrize(("n", "d"), [(12, 1), (12, 3), (7, 7), (6, 15)])
def test_logme_equals_a_search_over_the_marginal_covariance(n, d, signal):
    features, labels = make_task(n, d, signal=signal)
    targets = [(labels == c).astype(float) for c in range(3)]
    expected = np.mean([search_evidence(features, y) for y in targets]) / n
    assert logme(features, labels) == pytest.approx(expected, abs=1e-6)


def iterate_evidence(features, target, *, steps):
    """Log evidence of a row by the paper's updates of alpha and beta, equations 2-5."""
    (n, d), alpha, beta = features.shape, 1.0, 1.0
    gram = features.T @ features
    for _ in range(steps):
        a = alpha * np.eye(d) + beta * gram
        mean = beta * np.linalg.solve(a, features.T @ target)
        gamma = beta * np.trace(np.linalg.solve(a, gram))
        alpha = gamma / (mean @ mean)
        beta = (n - gamma) / np.sum((target - features @ mean) ** 2)
    a = alpha * np.eye(d) + beta * gram
    mean = beta * np.linalg.solve(a, features.T @ target)
    misfit = beta * np.sum((target - features @ mean) ** 2) + alpha * mean @ mean
    determinants = d * np.log(alpha) + n * np.log(beta) - np.linalg.slogdet(a)[1]
    return (determinants - misfit - n * np.log(2 * np.pi)) / 2 / n


def test_logme_is_where_the_iteration_of_the_paper_ends():
    features, labels = make_task(100, 5)
    ends = [iterate_evidence(features, labels == c, steps=50) for c in range(3)]
    assert logme(features, labels) == pytest.approx(np.mean(ends))


def test_logme_passes_the_iteration_when_that_ends_at_a_lower_maximum():
    features, labels = make_features(8, 8, seed=66), np.arange(8) % 2
    end, later = (
        np.mean([iterate_evidence(features, labels == c, steps=k) for c in range(2)])
        for k in (1000, 1500)
    )
    assert end == pytest.approx(later, abs=1e-6)
    assert logme(features, labels) > later + 0.01


def test_logme_passes_the_iteration_when_that_crawls():
    features, labels = make_task(30, 90, signal=0.5)
    short, long = (
        np.mean([iterate_evidence(features, labels == c, steps=k) for c in range(3)])
        for k in (11, 500)
    )
    assert short < long - 1e-3
    assert long - 1e-6 < logme(features, labels)


def test_logme_ignores_rotation_scale_and_the_order_of_rows():
    features, labels = make_task(20, 4)
    expected = logme(features, labels)
    rotation = np.linalg.qr(make_features(4, 4, seed=2))[0]
    order = np.random.default_rng(0).permutation(20)
    assert logme(features @ rotation, labels) == pytest.approx(expected)
    assert logme(features[order], labels[order]) == pytest.approx(expected)
    for scale in (1e-200, 1e-6, 1e6, 1e200):
        assert logme(scale * features, labels) == pytest.approx(expected)


def test_logme_ignores_copies_of_the_features_and_features_of_zeros():
    features, labels = make_task(20, 4)
    expected = logme(features, labels)
    assert logme(np.hstack([features] * 3), labels) == pytest.approx(expected)
    padded = np.pad(features, [(0, 0), (2, 30)])
    assert logme(padded, labels) == pytest.approx(expected)


def test_logme_ignores_the_names_of_classes_and_classes_without_a_row():
    features, labels = make_task(20, 4)
    expected = logme(features, labels)
    assert logme(features, 2 - labels) == pytest.approx(expected)
    assert logme(features, np.array([-4, 100, 7])[labels]) == pytest.approx(expected)


def test_logme_has_no_intercept():
    features, labels = make_task(40, 3)
    assert logme(features + 1, labels) != pytest.approx(logme(features, labels))


def test_logme_rises_with_the_signal_and_falls_with_features_of_noise():
    signals = [make_task(60, 5, signal=signal) for signal in (0.5, 1, 2, 8)]
    assert np.all(np.diff([logme(*task) for task in signals]) > 0)
    features, labels = make_task(60, 1, signal=3)
    noise = make_features(60, 200, seed=1)
    scores = [logme(np.hstack([features, noise[:, :d]]), labels) for d in (0, 20, 200)]
    assert np.all(np.diff(scores) < 0)


@settings(deadline=None, max_examples=100)
@given(finite_tasks())
def test_logme_of_finite_features_is_finite_and_at_most_that_of_the_floor(task):
    score = logme(*task)
    # No density of noise with a standard deviation of 0.001 is higher.
    assert -np.inf < score <= -np.log(0.001 * np.sqrt(2 * np.pi))


def test_h_score_of_four_rows_is_the_one_worked_out_by_hand():
    # Means (1, 0) of one row, (-1/3, 0) of three: variance 1/3 out of 1/2.
    features = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    labels = [0, 1, 1, 1]
    assert h_score(features, labels, shrinkage=0) == pytest.approx(2 / 3)
    # The covariance is already a multiple of the identity: half of 2/3.
    assert h_score(features, labels, shrinkage=0.5) == pytest.approx(1 / 3)


def test_h_score_with_shrinkage_is_the_one_worked_out_by_hand():
    # Variances 1 and 4, mean 2.5, and all of the first lies between the classes:
    # 0.6 * 1 / (0.6 * 1 + 0.4 * 2.5).
    features = np.array([[1, 2], [1, -2], [-1, 2], [-1, -2]])
    score = h_score(features, [1, 1, 0, 0], shrinkage=0.4)
    assert score == pytest.approx(0.375)
    assert h_score(features, [1, 1, 0, 0], shrinkage=1) == 0


@pytest.mark.parametrize("shrinkage", [None, 0, 0.3])
@pytest.mark.parametrize(("n", "d"), [(30, 1), (30, 6), (300, 20)])
def test_h_score_equals_the_trace_of_the_formula(n, d, shrinkage):
    features, labels = make_task(n, d)
    mixed = features @ make_features(d, d, seed=1) + 3  # correlated, off centre
    means = np.stack([mixed[labels == c].mean(axis=0) for c in labels])
    covariance, between = (
        np.atleast_2d(np.cov(x, rowvar=False, bias=True)) for x in (mixed, means)
    )
    if shrinkage is None:
        fitted = LedoitWolf().fit(mixed)
        weight, covariance = fitted.shrinkage_, fitted.covariance_
    else:
        weight, mean_variance = shrinkage, np.trace(covariance) / d
        covariance = (1 - weight) * covariance + weight * mean_variance * np.eye(d)
    expected = (1 - weight) * np.trace(np.linalg.inv(covariance) @ between)
    score = h_score(mixed, labels, shrinkage=shrinkage)
    assert score == pytest.approx(expected)


def test_plain_h_score_is_the_sum_of_what_discriminant_analysis_explains():
    features, labels = make_task(60, 5)
    within, between = np.zeros((2, 5, 5))
    for c in range(3):
        rows = features[labels == c]
        within += len(rows) * np.cov(rows, rowvar=False, bias=True)
        shift = rows.mean(axis=0) - features.mean(axis=0)
        between += len(rows) * np.outer(shift, shift)
    ratios = linalg.eigh(between, within, eigvals_only=True)
    expected = np.sum(ratios / (1 + ratios))
    assert h_score(features, labels, shrinkage=0) == pytest.approx(expected)


def test_plain_h_score_of_one_feature_agrees_with_analysis_of_variance():
    features, labels = make_task(45, 1)
    explained = h_score(features, labels, shrinkage=0)
    f = (explained / 2) / ((1 - explained) / 42)  # 3 - 1 and 45 - 3 degrees of freedom
    groups = [features[labels == c, 0] for c in range(3)]
    assert f == pytest.approx(stats.f_oneway(*groups).statistic)


def test_plain_h_score_is_the_same_for_any_labels_when_there_are_few_rows():
    features, labels = make_task(20, 19, signal=3)
    features *= 0.7 ** np.arange(19)  # a few large variances, as features have
    random_labels = np.random.default_rng(0).permutation(labels)
    for y in (labels, random_labels):
        assert h_score(features, y, shrinkage=0) == pytest.approx(2)
    assert h_score(features, labels) > 1.5 * h_score(features, random_labels)


def test_h_score_of_white_features_is_near_0_unless_the_shrinkage_is_given():
    features, labels = make_task(60, 5)
    whitened = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[0]
    noisy = whitened + 1e-3 * make_features(60, 5, seed=1)
    plain, default = h_score(noisy, labels, shrinkage=0), h_score(noisy, labels)
    assert default < 1e-3 < 0.3 < plain


@pytest.mark.parametrize("shrinkage", [None, 0, 0.3])
def test_h_score_ignores_rotation_scale_shift_order_and_names(shrinkage):
    features, labels = make_task(20, 4)
    expected = h_score(features, labels, shrinkage=shrinkage)
    rotation = np.linalg.qr(make_features(4, 4, seed=2))[0]
    order = np.random.default_rng(0).permutation(20)
    for x, y in [
        (features @ rotation, labels),
        (features - 5, labels),
        (1e-200 * features, labels),
        (1e200 * features, labels),
        (features[order], labels[order]),
        (features, np.array([-4, 100, 7])[labels]),
    ]:
        assert h_score(x, y, shrinkage=shrinkage) == pytest.approx(expected)


def test_plain_h_score_ignores_mixing_and_copies_and_constants():
    features, labels = make_task(20, 4)
    expected = h_score(features, labels, shrinkage=0)
    mixing = make_features(4, 4, seed=2) * [1, 10, 100, 1000]
    constant = np.full((20, 1), 0.1)  # its mean over the rows is not exactly 0.1
    for x in (features @ mixing, np.hstack([features, features, constant])):
        assert h_score(x, labels, shrinkage=0) == pytest.approx(expected)


def test_h_score_of_constant_features_is_0():
    # Without an exact binary form, their means over seven rows differ from them.
    features = np.tile([0.1, 0.3, 0.7], (7, 1))
    for shrinkage in (None, 0, 0.5):
        assert h_score(features, [0, 1, 1, 0, 1, 2, 2], shrinkage=shrinkage) == 0


@pytest.mark.parametrize("shrinkage", [None, 0])
def test_h_score_rises_with_the_signal(shrinkage):
    tasks = [make_task(60, 5, signal=signal) for signal in (0.5, 1, 2, 8)]
    decay = 0.7 ** np.arange(5)
    scores = [h_score(x * decay, labels, shrinkage=shrinkage) for x, labels in tasks]
    assert np.all(np.diff(scores) > 0)


@settings(deadline=None, max_examples=200)
@given(finite_tasks(), st.sampled_from([None, 0, 0.5, 1]))
def test_h_score_of_finite_features_is_between_0_and_the_classes_less_1(
    task, shrinkage
):
    score = h_score(*task, shrinkage=shrinkage)
    assert 0 <= score <= len(np.unique(task[1])) - 1 + 1e-9


def test_scores_take_lists_and_float32_and_small_integers():
    features, labels = make_task(20, 4)
    features = features.astype("float32")
    for score in (logme, h_score):
        expected = score(features, labels)
        assert score(features.tolist(), labels.tolist()) == pytest.approx(expected)
        assert score(features, labels.astype("uint8")) == pytest.approx(expected)
        assert type(expected) is float


def test_scores_leave_their_input_as_it_was():
    features, labels = make_task(20, 4)
    kept = features.copy()
    for score in (logme, h_score):
        score(features, labels)
    linear_cka(features, features)
    np.testing.assert_array_equal(features, kept)


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


ROWS = np.array([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]])  # features, or probabilities


@pytest.mark.parametrize(
    ("score", "name"),
    [(leep, "source_probabilities"), (logme, "features"), (h_score, "features")],
    ids=["leep", "logme", "h_score"],
)
@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (ROWS, [0, 1], r"`NAME` .* `labels` .* \(3, 2\) for labels of shape \(2,\)"),
        (ROWS, [[0], [1], [0]], r"`NAME` .* Received: .* labels of shape \(3, 1\)"),
        (ROWS[0], [0, 1], r"`NAME` must have shape \(n, .* Received: \(2,\)"),
        (ROWS[:0], [], r"`NAME` .* Received: \(0, 2\)"),
        (ROWS[:, :0], [0, 1, 0], r"`NAME` .* Received: \(3, 0\)"),
        (ROWS, [0.0, 1.0, 0.0], r"`labels` must be integers .* Received: float64"),
        (ROWS, ["a", "b", "a"], r"`labels` must be integers .* \['a', 'b', 'a'\]"),
        (ROWS, [4, 4, 4], r"`labels` .* two classes.* Received: int64 .* \[4, 4, 4\]"),
        (ROWS * [1, np.nan], [0, 1, 0], r"`NAME` must be .* Received: .*(?i:nan)"),
        (ROWS + [0, np.inf], [0, 1, 0], r"`NAME` must be .* Received: .*inf"),
    ],
)
def test_scores_refuse_bad_rows_and_labels(score, name, rows, labels, message):
    with pytest.raises(ValueError, match=message.replace("NAME", name)):
        score(rows, labels)


@pytest.mark.parametrize(
    ("probabilities", "received"),
    [
        ([[2.0, 1.0], [0.0, 1.0]], r"row sums 1\.\.\.3, minimum 0"),
        ([[1.5, -0.5], [0.5, 0.5]], r"row sums 1\.\.\.1, minimum -0\.5"),
    ],
    ids=["logits", "negative"],
)
def test_leep_refuses_what_are_no_probabilities(probabilities, received):
    message = rf"`source_probabilities` must be .* sum to 1 .* Received: {received}"
    with pytest.raises(ValueError, match=message):
        leep(probabilities, [0, 1])


@pytest.mark.parametrize("shrinkage", [-0.1, 1.1, np.nan])
def test_h_score_refuses_a_shrinkage_outside_0_to_1(shrinkage):
    with pytest.raises(ValueError, match=rf"`shrinkage` .* Received: {shrinkage}"):
        h_score(ROWS, [0, 1, 0], shrinkage=shrinkage)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_cka_refuses_features_that_are_not_finite(bad):
    for pair in ((ROWS, ROWS + bad), (ROWS + bad, ROWS)):
        with pytest.raises(ValueError, match="`features_a` and `features_b` .* finite"):
            linear_cka(*pair)


def test_cka_refuses_views_without_rows_or_columns():
    for view in (ROWS[:0], ROWS[:, :0]):
        with pytest.raises(ValueError, match=r"`features_a` .* Received: \(\d, \d\)"):
            linear_cka(view, view)
