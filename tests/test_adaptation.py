import inspect
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import linalg

from transfer_tutorial.adaptation import (
    AdaptationModel,
    DomainDiscriminator,
    GradientReversal,
    adapt_batch_norm,
    align_coral,
    coral_loss,
    dann_strength,
    mmd_loss,
    pair_domains,
    select_pseudo_labels,
)
from transfer_tutorial.backbones import (
    attach_head,
    build_cnn_backbone,
    build_mlp_backbone,
    build_residual_backbone,
)
from transfer_tutorial.lora import add_adapters

SHAPE = (8, 8, 3)
LOSS = "sparse_categorical_crossentropy"
LOSSES = {"coral": coral_loss, "mmd": mmd_loss}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
ALIGNMENTS = {
    "coral": lambda: coral_loss,
    "mmd": lambda: mmd_loss,
    "dann": lambda: DomainDiscriminator((4,)),
}
every_alignment = pytest.mark.parametrize(
    "make_alignment", ALIGNMENTS.values(), ids=ALIGNMENTS
)
# NumPy asks Keras' saved configs for copies in a way that it calls out of date.
saves = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def make_features(rows, *, width=3, seed=0, dtype="float64"):
    """Correlated features of unequal scale, not centred."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width)) * (1 + seed)
    return (rng.normal(size=(rows, width)) @ mix + seed).astype(dtype)


def make_domains(images):
    """Source and target pictures; the target's are darker, inverted and fewer."""
    x, y = images
    return x, y, (200 - x[:40] * 0.7).astype("uint8")


def differentiate(function, x, *, step=1e-5):
    """Gradient of a scalar function by central differences."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        shift = np.zeros_like(x)
        shift[index] = step
        gradient[index] = float(function(x + shift) - function(x - shift)) / (2 * step)
    return gradient


def find_gradient(function, *tensors):
    """Value and gradients of a scalar function by TensorFlow."""
    tensors = [tf.convert_to_tensor(x) for x in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return value, tape.gradient(value, tensors)


# The closed form of CORAL


def test_one_feature_is_scaled_and_moved_as_worked_out_by_hand():
    source, target = np.array([[0.0], [2.0]]), np.array([[10.0], [14.0]])
    # variances 2 and 8, means 1 and 12: (x - 1) * sqrt((8 + 1) / (2 + 1)) + 12
    expected = [[12 - math.sqrt(3)], [12 + math.sqrt(3)]]
    np.testing.assert_allclose(align_coral(source, target), expected)


@pytest.mark.parametrize("regularization", [0.01, 1.0, 20])
def test_coral_is_whitening_and_recolouring_by_matrix_square_roots(regularization):
    source, target = make_features(30), make_features(20, seed=1)
    identity = regularization * np.eye(3)
    whiten = linalg.inv(linalg.sqrtm(np.cov(source.T) + identity))
    colour = linalg.sqrtm(np.cov(target.T) + identity)
    expected = (source - source.mean(0)) @ whiten @ colour + target.mean(0)
    found = align_coral(source, target, regularization=regularization)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_aligned_features_have_the_targets_covariance_and_mean():
    source, target = make_features(30), make_features(20, seed=1)
    gaps = []
    for regularization in (1e-9, 0.1, 10):
        aligned = align_coral(source, target, regularization=regularization)
        np.testing.assert_allclose(aligned.mean(axis=0), target.mean(axis=0))
        gaps.append(np.abs(np.cov(aligned.T) - np.cov(target.T)).max())
    assert gaps[0] < 1e-6  # equal up to the regularisation
    assert gaps == sorted(gaps)


def test_a_domain_aligned_with_itself_stays_as_it_is():
    x = make_features(30, seed=2)
    np.testing.assert_allclose(align_coral(x, x), x)


def test_features_that_are_constant_in_one_domain_stay_finite():
    source, target = make_features(30), make_features(20, seed=1)
    source[:, 1], target[:, 2] = 5, 7
    aligned = align_coral(source, target)
    assert np.isfinite(aligned).all()
    both = source.copy()
    both[:, 2] = 5
    target[:, :2] = 1
    np.testing.assert_allclose(align_coral(both, target)[:, 2], 7)


finite_rows = arrays(
    "float64",
    st.tuples(st.integers(2, 6), st.just(3)),
    elements=st.floats(-1e6, 1e6),
)


@given(finite_rows, finite_rows)
@settings(max_examples=60, deadline=None)
def test_the_closed_form_is_finite_for_finite_features(source, target):
    assert np.isfinite(align_coral(source, target)).all()


@pytest.mark.parametrize(
    ("source", "target", "regularization", "message"),
    [
        (np.ones((4, 2)), np.ones((4, 3)), 1, "same width. Received: 2 and 3"),
        (np.ones((1, 2)), np.ones((4, 2)), 1, "`source_features` .* at least 2"),
        (np.ones((4, 2)), np.ones((1, 2)), 1, "`target_features` .* at least 2"),
        (np.ones((4, 0)), np.ones((4, 0)), 1, "`source_features`"),
        (np.ones(4), np.ones((4, 1)), 1, r"`source_features` .* shape \(4,\)"),
        (np.full((4, 2), np.nan), np.ones((4, 2)), 1, "8 values not finite"),
        (np.ones((4, 2)), np.full((4, 2), np.inf), 1, "`target_features` must be fin"),
        (np.ones((4, 2)), np.ones((4, 2)), 0, "`regularization` must be positive"),
        (np.ones((4, 2)), np.ones((4, 2)), np.nan, "`regularization` must be pos"),
    ],
)
def test_what_coral_cannot_align_is_refused(source, target, regularization, message):
    with pytest.raises(ValueError, match=message):
        align_coral(source, target, regularization=regularization)


# Pseudo-labels


def test_rows_at_or_above_the_threshold_are_taken():
    probabilities = np.array([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0], [0.26, 0.74]])
    rows, labels = select_pseudo_labels(probabilities, threshold=0.75)
    assert (rows.tolist(), labels.tolist()) == ([0, 2], [0, 1])


@pytest.mark.parametrize("n", [0, 3])
def test_no_confident_row_gives_two_empty_arrays_that_can_index(n):
    rows, labels = select_pseudo_labels(np.full((n, 4), 0.25))
    assert rows.shape == labels.shape == (0,)
    assert np.ones((n, 8))[rows].shape == (0, 8)
    assert labels.dtype.kind == "i"


@given(
    arrays(
        "float64",
        st.tuples(st.integers(0, 8), st.integers(1, 4)),
        elements=st.floats(0, 1),
    ),
    st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_selected_labels_are_the_predictions_of_those_rows(scores, threshold):
    probabilities = (scores + 0.1) / (scores + 0.1).sum(axis=1, keepdims=True)
    rows, labels = select_pseudo_labels(probabilities, threshold=threshold)
    expected = [i for i, p in enumerate(probabilities) if max(p) >= threshold]
    assert rows.tolist() == expected
    assert labels.tolist() == [int(np.argmax(probabilities[i])) for i in expected]


@pytest.mark.parametrize(
    ("probabilities", "threshold", "message"),
    [
        (np.ones(3), 0.9, r"`probabilities` must have shape .* Received: \(3,\)"),
        (np.ones((0, 0)), 0.9, "`probabilities` must have shape"),
        ([[0.5, 0.5], [2.0, -1.0]], 0.9, "sum to 1 in every row. Received: row 1"),
        ([[0.5, np.nan]], 0.9, "`probabilities` must be at least 0"),
        ([[3.0, 1.0]], 0.9, "`probabilities` must be at least 0"),  # logits
        ([[0.5, 0.5]], 1.1, r"`threshold` must be in \[0, 1\]. Received: 1.1"),
        ([[0.5, 0.5]], np.nan, "`threshold`"),
        ([[0.5, 0.5]], -0.1, "`threshold`"),
    ],
)
def test_what_is_no_probability_or_threshold_is_refused(
    probabilities, threshold, message
):
    with pytest.raises(ValueError, match=message):
        select_pseudo_labels(probabilities, threshold=threshold)


# The losses


def test_coral_loss_is_the_number_worked_out_by_hand():
    # covariances are (2/3) I and (8/3) I, d = 2:  2 * 2^2 / (4 * 2^2) = 0.5
    source = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], "float32")
    np.testing.assert_allclose(coral_loss(source, 2 * source), 0.5, rtol=1e-6)


def test_coral_loss_is_the_formula_of_the_paper_on_numpys_covariances():
    source, target = make_features(9), make_features(5, seed=1)
    difference = np.cov(source.T) - np.cov(target.T)
    expected = np.sum(difference**2) / (4 * 3**2)  # squared Frobenius norm
    np.testing.assert_allclose(coral_loss(source, target), expected)


def test_coral_loss_does_not_see_a_shift():
    x = make_features(9)
    np.testing.assert_allclose(coral_loss(x, x + 100), 0, atol=1e-12)


def test_coral_loss_takes_a_single_row_as_one_without_covariance():
    x = make_features(9)
    expected = np.linalg.norm(np.cov(x.T)) ** 2 / 36
    np.testing.assert_allclose(coral_loss(x, x[:1]), expected)


def compute_mmd(source, target, bandwidths, mean=None):
    """The formula, pair by pair."""
    rows = np.concatenate([source, target])
    pairs = [np.sum((a - b) ** 2) for i, a in enumerate(rows) for b in rows[:i]]
    mean = np.mean(pairs) if mean is None else mean

    def average(xs, ys):
        return np.mean(
            [
                np.exp(-np.sum((a - b) ** 2) / (bandwidth * mean))
                for a in xs
                for b in ys
                for bandwidth in bandwidths
            ]
        )

    return (
        average(source, source) + average(target, target) - 2 * average(source, target)
    )


def test_mmd_of_two_single_rows_is_the_number_worked_out_by_hand():
    # the only distinct pair has the mean distance: 1 + 1 - 2 exp(-1 / b)
    source, target = np.array([[1.0, 2.0]]), np.array([[4.0, 6.0]])
    found = mmd_loss(source, target, bandwidths=(1.0,))
    np.testing.assert_allclose(found, 2 - 2 / math.e)
    found = mmd_loss(source, target, bandwidths=(1.0, 0.5))
    np.testing.assert_allclose(found, 2 - (math.exp(-1) + math.exp(-2)))


@pytest.mark.parametrize("bandwidths", [(1.0,), (0.25, 0.5, 1.0, 2.0, 4.0)])
def test_mmd_is_the_formula_pair_by_pair(bandwidths):
    source, target = make_features(7), make_features(5, seed=1)
    expected = compute_mmd(source, target, bandwidths)
    np.testing.assert_allclose(
        mmd_loss(source, target, bandwidths=bandwidths), expected
    )


def test_mmd_is_zero_for_one_batch_twice_and_two_for_batches_far_apart():
    x = make_features(8)
    np.testing.assert_allclose(mmd_loss(x, x[::-1]), 0, atol=1e-12)
    point = np.zeros((4, 2))
    found = mmd_loss(point, point + 1e3, bandwidths=(0.01,))
    np.testing.assert_allclose(found, 2, rtol=1e-6)


def test_mmd_depends_neither_on_the_scale_nor_on_a_common_shift():
    source, target = make_features(7), make_features(5, seed=1)
    expected = mmd_loss(source, target)
    np.testing.assert_allclose(mmd_loss(source * 100, target * 100), expected)
    single = (source + 1e3).astype("float32"), (target + 1e3).astype("float32")
    np.testing.assert_allclose(mmd_loss(*single), expected, atol=1e-4)


@pytest.mark.parametrize("value", [0, 0.1, 3e4])
@every_loss
def test_equal_rows_have_loss_zero_and_gradient_zero(loss, value):
    x = np.full((6, 3), value, "float32")
    found, gradients = find_gradient(loss, x, x[:4])
    np.testing.assert_allclose(found, 0, atol=1e-6)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_the_gradient_of_coral_is_the_one_of_finite_differences():
    source, target = make_features(6), make_features(4, seed=1)
    _, gradients = find_gradient(coral_loss, source, target)
    expected = differentiate(lambda x: coral_loss(x, target), source)
    np.testing.assert_allclose(gradients[0], expected, rtol=1e-5, atol=1e-7)
    expected = differentiate(lambda x: coral_loss(source, x), target)
    np.testing.assert_allclose(gradients[1], expected, rtol=1e-5, atol=1e-7)


def test_the_gradient_of_mmd_takes_the_bandwidth_as_a_constant():
    source, target = make_features(5), make_features(4, seed=1)
    rows = np.concatenate([source, target])
    mean = np.mean([np.sum((a - b) ** 2) for i, a in enumerate(rows) for b in rows[:i]])
    _, gradients = find_gradient(
        lambda a, b: mmd_loss(a, b, bandwidths=(0.5, 1)), source, target
    )
    expected = differentiate(
        lambda x: compute_mmd(x, target, (0.5, 1), mean), source, step=1e-4
    )
    np.testing.assert_allclose(gradients[0], expected, rtol=1e-4, atol=1e-7)


small_rows = arrays(
    "float32",
    st.tuples(st.integers(1, 5), st.just(3)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@every_loss
@given(source=small_rows, target=small_rows)
@settings(max_examples=40, deadline=None)
def test_losses_and_their_gradients_are_finite_for_finite_features(
    loss, source, target
):
    value, gradients = find_gradient(loss, source, target)
    assert np.isfinite(value) and value > -1e-5
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@every_loss
def test_a_feature_that_is_not_a_number_shows_in_the_loss(loss):
    x = make_features(4)
    broken = x.copy()
    broken[0, 0] = np.nan
    assert np.isnan(loss(broken, x))


@every_loss
@pytest.mark.parametrize(
    "shapes", [((4, 2), (4, 3)), ((4,), (4,)), ((4, 2), (4, 2, 2))]
)
def test_features_of_different_width_have_no_loss(loss, shapes):
    with pytest.raises(
        ValueError, match="`source_features` and `target_features` must"
    ):
        loss(*(np.zeros(shape, "float32") for shape in shapes))


@pytest.mark.parametrize("bandwidths", [(), (0,), (1, -1), (np.nan,), (np.inf,)])
def test_bandwidths_that_are_not_positive_are_refused(bandwidths):
    with pytest.raises(ValueError, match="`bandwidths` must be positive and finite"):
        mmd_loss(np.zeros((2, 2)), np.ones((2, 2)), bandwidths=bandwidths)


# The gradient, reversed


def test_reversal_changes_no_value_and_turns_the_gradient():
    x = make_features(4, dtype="float32")
    layer = GradientReversal(0.3)
    np.testing.assert_array_equal(layer(x), x)
    _, (gradient,) = find_gradient(lambda x: tf.reduce_sum(layer(x) ** 2), x)
    plain = differentiate(lambda x: tf.reduce_sum(x**2), x.astype("float64"))
    np.testing.assert_allclose(gradient, -0.3 * plain, rtol=1e-4)


def test_strength_can_be_changed_between_compiled_steps():
    layer = GradientReversal()

    @tf.function
    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, x)

    x = tf.ones((2, 2))
    np.testing.assert_allclose(compute(x), -1)
    layer.strength.assign(0)
    np.testing.assert_allclose(compute(x), 0)
    layer.strength.assign(0.5)
    np.testing.assert_allclose(compute(x), -0.5)


@saves
@pytest.mark.parametrize(
    "make", [lambda: GradientReversal(0.5), lambda: DomainDiscriminator((4, 2), 0.5)]
)
def test_a_layer_made_from_its_settings_has_them(make):
    layer = make()
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert copy.get_config() == layer.get_config()
    assert copy.strength.numpy() == 0.5


@saves
def test_a_model_with_a_reversal_is_saved_and_loaded(tmp_path):
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(1)(GradientReversal(0.25)(inputs))
    model = keras.Model(inputs, outputs)
    assert count_trainable(model) == 4
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = make_features(4, dtype="float32")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.layers[1].strength.numpy() == 0.25


def count_trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize("strength", [-0.1, np.nan, np.inf])
@pytest.mark.parametrize("make", [GradientReversal, DomainDiscriminator])
def test_a_strength_that_is_negative_or_not_finite_is_refused(make, strength):
    with pytest.raises(ValueError, match="`strength` must be at least 0 and finite"):
        make(strength=strength)


def test_strength_rises_from_zero_to_one_as_in_the_paper():
    assert dann_strength(0) == 0
    np.testing.assert_allclose(dann_strength(0.5), 2 / (1 + math.exp(-5)) - 1)
    np.testing.assert_allclose(dann_strength(0.1, gamma=2), math.tanh(0.1))
    rising = [dann_strength(progress) for progress in np.linspace(0, 1, 11)]
    assert rising == sorted(rising) and 0.9999 < rising[-1] < 1


@pytest.mark.parametrize(
    ("progress", "gamma", "message"),
    [
        (-0.1, 10, "`progress` must be in"),
        (1.1, 10, "`progress` must be in .* Received: 1.1"),
        (np.nan, 10, "`progress` must be in"),
        (0.5, 0, "`gamma` must be positive"),
        (0.5, np.inf, "`gamma` must be positive"),
    ],
)
def test_progress_and_steepness_out_of_range_are_refused(progress, gamma, message):
    with pytest.raises(ValueError, match=message):
        dann_strength(progress, gamma=gamma)


# The discriminator


def compute_cross_entropy(source, target, kernel):
    """A linear discriminator: source is 0, target is 1, each domain half."""
    source_loss = np.log1p(np.exp(source @ kernel)).mean()
    return 0.5 * (source_loss + np.log1p(np.exp(-target @ kernel)).mean())


def test_discriminator_returns_its_cross_entropy_with_each_domain_one_half():
    source, target = make_features(6), make_features(3, seed=1)
    discriminator = DomainDiscriminator((), dtype="float64")
    found = discriminator(source, target)
    kernel = discriminator.get_weights()[-2]
    np.testing.assert_allclose(found, compute_cross_entropy(source, target, kernel))
    discriminator.set_weights([w * 0 for w in discriminator.get_weights()])
    np.testing.assert_allclose(discriminator(source, target), math.log(2))


def test_discriminator_descends_while_its_features_ascend():
    source, target = make_features(6), make_features(3, seed=1)
    discriminator = DomainDiscriminator((), strength=0.4, dtype="float64")
    discriminator(source, target)
    kernel = discriminator.trainable_variables[0]
    with tf.GradientTape(persistent=True) as tape:
        features = tf.constant(source)
        tape.watch(features)
        loss = discriminator(features, target)
    start = kernel.numpy()
    up = differentiate(lambda x: compute_cross_entropy(x, target, start), source)
    np.testing.assert_allclose(tape.gradient(loss, features), -0.4 * up, atol=1e-8)
    down = differentiate(lambda w: compute_cross_entropy(source, target, w), start)
    np.testing.assert_allclose(tape.gradient(loss, kernel.value), down, atol=1e-8)


def test_discriminator_refuses_widths_that_cannot_be():
    with pytest.raises(ValueError, match="`hidden_units` must be at least 1 each"):
        DomainDiscriminator((4, 0))
    with pytest.raises(ValueError, match="`source_features` and `target_features`"):
        DomainDiscriminator()(np.zeros((2, 3)), np.zeros((2, 4)))


# Pairs of batches


def read_rows(dataset):
    """Row numbers of one epoch: source, its labels, and target."""
    batches = [(x[:, 0], y, t[:, 0]) for (x, y), t in dataset.as_numpy_iterator()]
    return [np.concatenate(part).astype(int) for part in zip(*batches, strict=True)]


def make_numbered(n, m, *, batch_size=4, seed=0):
    """A dataset of rows that carry their number; labels are it, times ten."""
    x, t = np.arange(n)[:, None], np.arange(m)[:, None]
    return pair_domains(x, 10 * np.arange(n), t, batch_size=batch_size, seed=seed)


def test_an_epoch_shows_the_longer_domain_once_and_repeats_the_shorter():
    dataset = make_numbered(12, 5)
    assert dataset.cardinality() == 3
    source, labels, target = read_rows(dataset)
    assert sorted(source) == list(range(12))
    assert sorted(target[:5]) == sorted(target[5:10]) == list(range(5))
    np.testing.assert_array_equal(labels, 10 * source)
    source, _, target = read_rows(make_numbered(5, 14))
    assert len(set(target)) == len(target) == 12  # the rest of two is left out
    assert sorted(source[:5]) == sorted(source[5:10]) == list(range(5))


def test_every_epoch_has_a_new_order_and_every_seed_its_own():
    dataset = make_numbered(12, 12)
    first, second = read_rows(dataset), read_rows(dataset)
    assert (first[0] != second[0]).any() and (first[2] != second[2]).any()
    again, other = (
        read_rows(make_numbered(12, 12)),
        read_rows(make_numbered(12, 12, seed=1)),
    )
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0]).any() and (first[2] != other[2]).any()


def test_domains_of_equal_length_are_shuffled_independently():
    source, _, target = read_rows(make_numbered(40, 40))
    assert np.mean(source == target) < 0.2


@pytest.mark.parametrize(
    ("shapes", "batch_size", "message"),
    [
        (((9, 2), 9, (3, 2)), 4, r"1...3, the number of rows of `x_target`"),
        (((3, 2), 3, (9, 2)), 4, "the number of rows of `x_source`. Received: .*=4"),
        (((9, 2), 9, (9, 2)), 0, "`batch_size` must be in"),
        (((9, 2), 8, (9, 2)), 4, "`y_source` must have one label a row"),
        (((9, 2), 9, (9, 3)), 4, r"`x_target` rows of the same shape.*\(9, 3\)"),
    ],
)
def test_domains_that_cannot_be_paired_are_refused(shapes, batch_size, message):
    x, y, t = (np.zeros(shape, int) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        pair_domains(x, y, t, batch_size=batch_size)


@pytest.mark.parametrize("broken", ["x_source", "x_target"])
def test_values_that_would_spoil_the_training_are_refused(broken):
    domains = {name: np.full((4, 2, 2, 1), 9.0) for name in ("x_source", "x_target")}
    domains[broken][0] = np.nan
    with pytest.raises(ValueError, match=f"`{broken}` must be finite"):
        pair_domains(**domains, y_source=np.zeros(4), batch_size=2)
    domains[broken] = np.full((4, 2, 2, 1), 0.5)
    with pytest.raises(ValueError, match=f"`{broken}` must hold images in 0...255"):
        pair_domains(**domains, y_source=np.zeros(4), batch_size=2)


# The model


def build_mlp():
    return build_mlp_backbone(SHAPE, hidden_units=(6, 5))


def make_model(
    alignment, *, backbone=None, weight=1.0, optimizer="adam", run_eagerly=True
):
    """Compiled, but a few steps are sooner done than traced."""
    model = AdaptationModel(backbone or build_mlp(), 3, alignment, weight=weight)
    options = {"metrics": ["accuracy"], "run_eagerly": run_eagerly}
    model.compile(optimizer, LOSS, **options)
    return model


@every_alignment
def test_with_weight_zero_training_is_plain_training(make_alignment, tiny_images):
    x, y, t = make_domains(tiny_images)
    backbone = build_cnn_backbone(SHAPE, filters=(4,))  # with BatchNorm
    model = make_model(make_alignment(), backbone=backbone, weight=0)
    plain = keras.models.clone_model(model.classifier)
    plain.set_weights(model.classifier.get_weights())
    start = backbone.trainable_variables[0].numpy()
    found = model.fit(pair_domains(x, y, t), epochs=2, shuffle=False, verbose=0)
    # The encoder moves, by the loss of the source alone.
    assert np.abs(backbone.trainable_variables[0] - start).max() > 1e-4
    plain.compile("adam", LOSS, metrics=["accuracy"], run_eagerly=True)
    batches = pair_domains(x, y, t).map(lambda source, target: source)
    expected = plain.fit(batches, epochs=2, shuffle=False, verbose=0)
    for name in ("loss", "accuracy"):
        np.testing.assert_array_equal(found.history[name], expected.history[name])
    trained = model.classifier.trainable_variables, plain.trainable_variables
    for a, b in zip(*trained, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loss", [coral_loss, mmd_loss])
def test_a_step_descends_along_loss_plus_weight_times_alignment(loss, tiny_images):
    x, y, t = make_domains(tiny_images)
    model = make_model(loss, weight=0.7, optimizer=keras.optimizers.SGD(0.1))
    variables = model.classifier.trainable_variables
    with tf.GradientTape() as tape:
        source, target = model.backbone(x[:40]), model.backbone(t)
        log = tf.math.log(tf.gather(model.head(source), y[:40], axis=1, batch_dims=1))
        total = -tf.reduce_mean(log) + 0.7 * loss(source, target)
    gradients = tape.gradient(total, [v.value for v in variables])
    expected = [v.numpy() - 0.1 * g for v, g in zip(variables, gradients, strict=True)]
    model.train_step(((x[:40], y[:40]), t))
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, atol=1e-6)


def test_a_step_against_a_discriminator_ascends_with_the_encoder(tiny_images):
    x, y, t = make_domains(tiny_images)
    discriminator = DomainDiscriminator((), strength=0.4)
    sgd = keras.optimizers.SGD(0.1)
    model = make_model(discriminator, weight=0.7, optimizer=sgd)
    kernel, bias = discriminator.trainable_variables
    encoder = model.backbone.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        source, target = model.backbone(x[:40]), model.backbone(t)
        log = tf.math.log(tf.gather(model.head(source), y[:40], axis=1, batch_dims=1))
        loss = -tf.reduce_mean(log)
        # no reversal here: what the discriminator lowers
        logits = tf.concat([source, target], 0) @ kernel.value + bias.value
        truth = tf.repeat([[0.0], [1.0]], [40, 40], axis=0)
        found = tf.nn.sigmoid_cross_entropy_with_logits(truth, logits)
        domain_loss = tf.reduce_mean(found)
    expected = [
        v
        - 0.1
        * (
            tape.gradient(loss, v.value)
            - 0.4 * 0.7 * tape.gradient(domain_loss, v.value)
        )
        for v in encoder
    ]
    expected.append(kernel - 0.1 * 0.7 * tape.gradient(domain_loss, kernel.value))
    model.train_step(((x[:40], y[:40]), t))
    for variable, value in zip([*encoder, kernel], expected, strict=True):
        np.testing.assert_allclose(variable, value, atol=1e-6)


@every_loss
def test_a_heavy_alignment_brings_the_domains_together(loss, tiny_images):
    x, y, t = make_domains(tiny_images)
    distances = []
    for weight in (0, 30):
        keras.utils.set_random_seed(0)
        model = make_model(loss, weight=weight, optimizer=keras.optimizers.Adam(0.02))
        model.fit(pair_domains(x, y, t), epochs=5, shuffle=False, verbose=0)
        distances.append(float(loss(model.backbone(x), model.backbone(t))))
    assert distances[1] < 0.5 * distances[0]


def test_outside_of_fit_the_model_is_the_classifier(tiny_images):
    x, y, t = make_domains(tiny_images)
    model = make_model(DomainDiscriminator((4,)), run_eagerly=False)
    history = model.fit(
        pair_domains(x, y, t),
        validation_data=(x, y),
        shuffle=False,
        verbose=0,
    ).history
    assert set(history) == {"loss", "alignment", "accuracy", "val_loss", "val_accuracy"}
    scores = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(scores) == {"loss", "accuracy"}
    np.testing.assert_allclose(scores["loss"], history["val_loss"][-1], rtol=1e-5)
    probabilities = model.predict(x, verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(probabilities, model.classifier(x), atol=1e-6)
    right = np.mean(probabilities.argmax(axis=1) == y)
    np.testing.assert_allclose(scores["accuracy"], right)


def test_the_logs_are_means_over_the_source_and_over_the_steps(tiny_images):
    x, y, t = make_domains(tiny_images)
    frozen = build_mlp()
    model = make_model(coral_loss, backbone=frozen, optimizer=keras.optimizers.SGD(0.0))
    pairs = pair_domains(x, y, t, batch_size=16)
    expected = np.mean([coral_loss(frozen(a), frozen(b)) for (a, _), b in pairs])
    pairs = pair_domains(x, y, t, batch_size=16)
    history = model.fit(pairs, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["alignment"], [expected], rtol=1e-4)
    scores = model.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(history["loss"], [scores["loss"]], rtol=1e-4)
    np.testing.assert_allclose(history["accuracy"], [scores["accuracy"]], rtol=1e-5)


def test_the_weight_can_be_changed_without_compiling_again(tiny_images):
    domains = make_domains(tiny_images)
    model = make_model(mmd_loss, weight=0, optimizer="sgd", run_eagerly=False)
    start = model.get_weights()
    model.fit(pair_domains(*domains), shuffle=False, verbose=0)
    without = model.get_weights()
    model.set_weights(start)
    heavier = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.weight.assign(3.0)
    )
    pairs = pair_domains(*domains)
    model.fit(pairs, callbacks=[heavier], shuffle=False, verbose=0)
    other = make_model(mmd_loss, weight=3.0, optimizer="sgd")
    other.classifier.set_weights(
        [w for w in start if np.ndim(w)]  # all but the weight of the alignment
    )
    other.fit(pair_domains(*domains), shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    gaps = [
        np.abs(a - b).max() for a, b in zip(without, other.get_weights(), strict=True)
    ]
    assert max(gaps[:-1]) > 1e-3


@saves
def test_what_is_saved_is_the_plain_classifier(tmp_path, tiny_images):
    x, y, t = make_domains(tiny_images)
    model = make_model(DomainDiscriminator((4,)))
    model.fit(pair_domains(x, y, t), shuffle=False, verbose=0)
    model.classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    expected = model(x).numpy()
    np.testing.assert_allclose(loaded(x).numpy(), expected, atol=1e-6)
    assert [layer.name for layer in loaded.layers[1:]] == ["mlp", "head"]


@saves
def test_all_weights_are_there_before_fit_and_survive_a_file(tmp_path, tiny_images):
    model = make_model(DomainDiscriminator((4,)))
    # encoder, head, discriminator with one hidden layer; strength and weight
    assert len(model.get_weights()) == 4 + 2 + 4 + 1 + 1
    model.weight.assign(0.25)
    model.save_weights(tmp_path / "all.weights.h5")
    other = make_model(DomainDiscriminator((4,)))
    other.load_weights(tmp_path / "all.weights.h5")
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_trained_head_goes_on_learning_and_shares_its_weights(tiny_images):
    x, y, t = make_domains(tiny_images)
    classifier = attach_head(build_mlp(), 3)
    backbone, head = classifier.get_layer("mlp"), classifier.get_layer("head")
    before = classifier(x).numpy()
    model = AdaptationModel(backbone, head, mmd_loss)
    np.testing.assert_allclose(model(x), before, atol=1e-6)
    model.compile("adam", LOSS, run_eagerly=True)
    model.fit(pair_domains(x, y, t), shuffle=False, verbose=0)
    after = classifier(x).numpy()
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_allclose(model(x), after, atol=1e-6)


@every_alignment
def test_a_class_that_the_target_lacks_leaves_the_training_finite(
    make_alignment, tiny_images
):
    x, y = tiny_images
    model = make_model(make_alignment(), weight=10, run_eagerly=False)
    pairs = pair_domains(x, y, 255 - x[y == 0], batch_size=16)
    history = model.fit(pairs, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite([history["loss"], history["alignment"]]).all()


def test_alignments_see_float32_under_mixed_precision(tiny_images):
    x, y, t = make_domains(tiny_images)
    seen = []

    def alignment(source, target):
        seen.extend([source.dtype, target.dtype])
        return coral_loss(source, target)

    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = make_model(alignment)
        assert model.backbone(x).dtype == "float16"
        history = model.fit(pair_domains(x, y, t), shuffle=False, verbose=0).history
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert set(seen) == {tf.float32}
    assert np.isfinite([history["loss"], history["alignment"]]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"backbone": keras.Sequential([keras.Input((4, 3)), keras.layers.ReLU()])},
            "`backbone` must",
        ),
        ({"head": 1}, "`head` must have at least 2 classes.* Received: head=1"),
        ({"weight": -1}, "`weight` be at least 0 and finite.* weight=-1"),
        ({"weight": np.nan}, "`weight` be at least 0"),
        ({"alignment": lambda a, b: a - b}, "`alignment` must return a scalar"),
    ],
    ids=["backbone", "head", "weight", "nan", "alignment"],
)
def test_parts_that_do_not_fit_together_are_refused(change, message):
    parts = {"backbone": build_mlp(), "head": 3, "alignment": coral_loss, "weight": 1}
    with pytest.raises(ValueError, match=message):
        AdaptationModel(**{**parts, **change})


def test_fit_on_one_domain_says_what_it_needs(tiny_images):
    model = make_model(coral_loss)
    with pytest.raises(ValueError, match="`fit` needs batches of"):
        model.fit(*tiny_images, verbose=0)


# BatchNormalization


def find_norms(model):
    return [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]


def measure_inputs(model, norm, x):
    """NumPy's mean and variance of what enters a layer of a functional model."""
    values = keras.Model(model.inputs[0], norm.input)(x, training=False).numpy()
    values = values.reshape(-1, values.shape[-1]).astype("float64")
    return values.mean(axis=0), values.var(axis=0)


@pytest.fixture
def source_cnn():
    """A backbone with scales, offsets and statistics that are not those of a start."""
    rng = np.random.default_rng(0)
    backbone = build_residual_backbone(SHAPE, filters=(4, 6))
    for norm in find_norms(backbone):
        for weight in norm.weights:
            weight.assign(rng.uniform(0.5, 2, weight.shape))
    return backbone


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("batch_size", [40, 100])
def test_statistics_become_numpys_of_what_enters_each_layer(
    source_cnn, batch_size, trainable, tiny_images
):
    x = make_domains(tiny_images)[2]
    source_cnn.trainable = trainable
    adapt_batch_norm(source_cnn, x, batch_size=batch_size)
    assert len(find_norms(source_cnn)) > 2
    for norm in find_norms(source_cnn):  # all of them, in the model as it is now
        mean, variance = measure_inputs(source_cnn, norm, x)
        np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"passes": 3}])
def test_statistics_of_the_first_layer_are_exact_in_batches_too(
    source_cnn, options, tiny_images
):
    x = make_domains(tiny_images)[2]
    norm = find_norms(source_cnn)[0]
    mean, variance = measure_inputs(source_cnn, norm, x)
    adapt_batch_norm(source_cnn, x, batch_size=7, **options)  # the last has five
    np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-5)


def test_larger_batches_and_more_passes_come_closer_to_exact(source_cnn, tiny_images):
    x = make_domains(tiny_images)[2]
    adapt_batch_norm(source_cnn, x, batch_size=40)
    exact = source_cnn.get_weights()

    def measure_gap(**options):
        adapt_batch_norm(source_cnn, x, **options)
        pairs = zip(source_cnn.get_weights(), exact, strict=True)
        return max(np.abs(a - b).max() for a, b in pairs)

    gaps = [measure_gap(batch_size=8, passes=passes) for passes in (1, 3, 9)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert measure_gap(batch_size=2) > measure_gap(batch_size=20) > 0


def test_nothing_of_the_source_is_left_and_nothing_else_changes(tiny_images):
    x = make_domains(tiny_images)[2]
    inputs = keras.Input(SHAPE)
    y = keras.layers.Dropout(0.5)(keras.layers.Conv2D(4, 3)(inputs))
    y = keras.layers.BatchNormalization(momentum=0.7, trainable=False)(y)
    y = keras.layers.BatchNormalization(axis=1)(y)
    model = keras.Model(inputs, y)
    before = {v.path: v.numpy() for v in model.variables}
    flags = [(x.name, x.trainable) for x in model.layers]
    adapt_batch_norm(model, x)
    first = {v.path: v.numpy() for v in model.variables}
    moved = {path for path in before if (before[path] != first[path]).any()}
    assert len(moved) == 4 and all("/moving_" in path for path in moved)
    assert [(x.name, x.trainable) for x in model.layers] == flags
    assert [norm.momentum for norm in find_norms(model)] == [0.7, 0.99]
    assert not any("call" in vars(norm) for norm in find_norms(model))
    for norm in find_norms(model):  # other statistics to start from, the same result
        norm.moving_mean.assign(norm.moving_mean + 5)
        norm.moving_variance.assign(norm.moving_variance * 9)
    adapt_batch_norm(model, x)
    for variable in model.variables:
        np.testing.assert_allclose(variable, first[variable.path], rtol=1e-4, atol=1e-4)


def test_layers_are_found_inside_models_wrappers_and_adaptation(tiny_images):
    x, y, t = make_domains(tiny_images)
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    last = find_norms(backbone)[-1]
    adapted = add_adapters(backbone, 2, layer_names=[last.name])
    model = AdaptationModel(adapted, 3, coral_loss)
    model.compile("adam", LOSS, run_eagerly=True)
    model.fit(pair_domains(x, y, t), shuffle=False, verbose=0)
    model.run_eagerly = False
    before = model(t).numpy()
    adapt_batch_norm(model, t)
    for norm in find_norms(backbone):
        mean, variance = measure_inputs(backbone, norm, t)
        np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-4)
    # What was compiled before sees the new statistics.
    assert np.abs(model(t).numpy() - before).max() > 1e-4


def test_images_without_any_contrast_give_finite_predictions(source_cnn, tiny_images):
    constant = np.full((5, *SHAPE), 77, "uint8")
    adapt_batch_norm(source_cnn, constant[:1])
    assert (
        min(norm.moving_variance.numpy().min() for norm in find_norms(source_cnn)) >= 0
    )
    assert np.isfinite(source_cnn(constant).numpy()).all()
    assert np.isfinite(source_cnn(tiny_images[0]).numpy()).all()


def test_layers_are_themselves_again_when_the_images_do_not_fit(source_cnn):
    start = source_cnn.get_weights()
    with pytest.raises(ValueError, match="incompatible"):
        adapt_batch_norm(source_cnn, np.zeros((4, 8, 8, 1)))
    for norm in find_norms(source_cnn):
        assert inspect.ismethod(norm.call) and norm.call.__self__ is norm
    for a, b in zip(start, source_cnn.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("rows", "options", "received"),
    [
        (0, {}, r"Received: \(2, 0, 64, 1\)"),
        (4, {"batch_size": 0}, r"Received: \(2, 4, 0, 1\)"),
        (4, {"passes": 0}, r"Received: \(2, 4, 64, 0\)"),
    ],
)
def test_statistics_of_nothing_are_refused(rows, options, received):
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    with pytest.raises(ValueError, match=received):
        adapt_batch_norm(backbone, np.zeros((rows, *SHAPE)), **options)


def test_statistics_are_not_taken_of_nan_or_without_batch_norm():
    with pytest.raises(ValueError, match="`images` be finite"):
        adapt_batch_norm(build_cnn_backbone(SHAPE), np.full((4, *SHAPE), np.nan))
    with pytest.raises(ValueError, match="`model` must have BatchNormalization"):
        adapt_batch_norm(build_mlp(), np.zeros((4, *SHAPE)))
