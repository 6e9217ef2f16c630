import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from transfer_tutorial.backbones import build_cnn_backbone, build_mlp_backbone
from transfer_tutorial.pretraining import (
    attach_projection_head,
    augment_views,
    build_autoencoder,
    nt_xent_loss,
    pair_views,
)

SHAPE = (8, 8, 3)
OFF = dict(smallest_crop=1, flip=False, jitter=0, grey=0)


def make_ramps(n, *, side=9):
    """Pictures whose red rises from left to right, and whose green rises downwards."""
    ramp = np.linspace(0, 255, side)
    red, green = np.meshgrid(ramp, ramp)
    return np.tile(np.stack([red, green, 0 * red], axis=2), (n, 1, 1, 1))


def make_projections(n, d, *, seed=0):
    """Two views of each of n pictures, in the order of `pair_views`."""
    z = np.random.default_rng(seed).normal(size=(2 * n, d))
    return np.tile(np.arange(n), 2), z


def keep(images, seed):
    """No augmentation at all."""
    return tf.cast(images, "float32")


def loop_over_views(pictures, z, temperature):
    """The loss of the paper, written out; the mean over partners if several."""
    unit = [row / np.sqrt(np.sum(row**2)) for row in z]
    losses = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        total = sum(np.exp(np.dot(unit[i], unit[k]) / temperature) for k in others)
        partners = [k for k in others if pictures[k] == pictures[i]]
        chosen = [np.exp(np.dot(unit[i], unit[k]) / temperature) for k in partners]
        losses.append(np.mean([-np.log(c / total) for c in chosen]))
    return losses


# Views


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64"])
def test_views_keep_shape_and_range(tiny_images, dtype):
    x = tiny_images[0].astype(dtype)
    views = augment_views(x, (0, 1), jitter=0.9).numpy()
    assert views.shape == x.shape and views.dtype == "float32"
    assert views.min() >= 0 and views.max() <= 255


def test_one_seed_gives_the_same_views_and_another_gives_others(tiny_images):
    x, _ = tiny_images
    first, again, other = (augment_views(x, (3, s)).numpy() for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    changed = np.abs(first - other).max(axis=(1, 2, 3))
    assert (changed > 1).all()  # every picture


def test_pictures_of_a_batch_are_drawn_independently():
    views = augment_views(make_ramps(50), (0, 0)).numpy()
    assert len(np.unique(views.reshape(50, -1), axis=0)) == 50


def test_nothing_changes_where_all_is_off(tiny_images):
    x, _ = tiny_images
    np.testing.assert_allclose(augment_views(x, (0, 0), **OFF), x, atol=1e-3)


def test_flip_mirrors_about_half_of_the_pictures():
    x = make_ramps(200)
    views = augment_views(x, (0, 0), **{**OFF, "flip": True}).numpy()
    kept = np.isclose(views, x, atol=1e-3).all(axis=(1, 2, 3))
    mirrored = np.isclose(views, x[:, :, ::-1], atol=1e-3).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


@pytest.mark.parametrize("smallest", [0.04, 0.25, 0.81])
def test_crop_shows_a_square_part_of_at_least_the_smallest_share(smallest):
    views = augment_views(make_ramps(300), (0, 0), **{**OFF, "smallest_crop": smallest})
    red, green = views.numpy()[..., 0], views.numpy()[..., 1]
    assert np.ptp(red, axis=1).max() < 1e-2  # still the same in every row
    width = np.ptp(red, axis=(1, 2)) / 255  # a ramp shows how much is left of it
    height = np.ptp(green, axis=(1, 2)) / 255
    np.testing.assert_allclose(width, height, atol=1e-4)
    assert width.min() >= smallest**0.5 - 1e-4 and width.max() <= 1 + 1e-4
    assert (width**2).mean() == pytest.approx((1 + smallest) / 2, abs=0.06)
    free = 255 * (1 - width)  # the place is anywhere, and drawn twice
    left, top = red.min(axis=(1, 2)) / free, green.min(axis=(1, 2)) / free
    assert left.min() >= -1e-3 and left.max() < 1.001
    np.testing.assert_allclose([left.mean(), top.mean()], 0.5, atol=0.06)
    assert abs(np.corrcoef(left, top)[0, 1]) < 0.15


def test_grey_views_have_the_mean_of_the_channels_in_each(tiny_images):
    x, _ = tiny_images
    views = augment_views(x, (0, 0), **{**OFF, "grey": 1}).numpy()
    expected = x.mean(axis=3, keepdims=True).repeat(3, axis=3)
    np.testing.assert_allclose(views, expected, atol=1e-3)


def test_grey_is_the_share_of_views_without_colours():
    views = augment_views(make_ramps(400), (0, 0), **{**OFF, "grey": 0.3}).numpy()
    grey = np.ptp(views, axis=3).max(axis=(1, 2)) < 1e-2
    assert 0.22 < grey.mean() < 0.38


def test_jitter_gives_each_channel_of_an_even_picture_a_gain_in_its_range():
    x = np.full((300, 4, 4, 1), 100.0)  # one channel: no saturation, no contrast
    views = augment_views(x, (0, 0), **{**OFF, "jitter": 0.4}).numpy()
    assert np.ptp(views, axis=(1, 2)).max() < 1e-3
    assert 60 <= views.min() < 64 and 136 < views.max() <= 140


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_those_of_numpy_with_the_same_draws(channels):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (12, 6, 9, channels))
    seed, options = (5, 6), dict(smallest_crop=0.1, flip=True, jitter=0.5, grey=0.4)
    found = augment_views(x, seed, **options).numpy()
    draws = tf.random.stateless_uniform((12, 7 + channels), seed).numpy()
    for picture, u, view in zip(x, draws, found, strict=True):
        side = np.sqrt(0.1 + 0.9 * u[0])
        rows = (u[1] * (1 - side) + side * np.linspace(0, 1, 6)) * 5
        columns = (u[2] * (1 - side) + side * np.linspace(0, 1, 9)) * 8
        columns = columns[::-1] if u[3] < 0.5 else columns
        grid = np.meshgrid(rows, columns, indexing="ij")
        y = [
            ndimage.map_coordinates(c, grid, order=1)
            for c in np.moveaxis(picture, 2, 0)
        ]
        y = np.minimum(np.stack(y, axis=2) * (0.5 + u[7:]), 255)
        saturation = 0 if u[4] < 0.4 else 0.5 + u[5]
        y = y.mean(axis=2, keepdims=True) * (1 - saturation) + y * saturation
        y = np.clip(y.mean() + (y - y.mean()) * (0.5 + u[6]), 0, 255)
        np.testing.assert_allclose(view, y, atol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smallest_crop": 0}, "`smallest_crop`"),
        ({"smallest_crop": 1.1}, "`smallest_crop`"),
        ({"jitter": 1}, "`jitter`"),
        ({"jitter": -0.1}, "`jitter`"),
        ({"grey": 1.5}, "`grey`"),
        ({"grey": float("nan")}, "`grey`"),
    ],
)
def test_shares_must_be_shares(tiny_images, options, message):
    with pytest.raises(ValueError, match=message):
        augment_views(tiny_images[0], (0, 0), **options)


def test_views_are_drawn_of_batches_of_pictures_only(tiny_images):
    with pytest.raises(ValueError, match=r"`images`.*\(8, 8, 3\)"):
        augment_views(tiny_images[0][0], (0, 0))


@settings(deadline=None, max_examples=40)
@given(
    arrays("float32", (3, 4, 4, 3), elements=st.floats(0, 255, width=32)),
    st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
)
def test_views_are_finite_and_in_range_for_whatever_is(x, seed):
    views = augment_views(x, seed, smallest_crop=0.01, jitter=0.99).numpy()
    assert np.isfinite(views).all() and views.min() >= 0 and views.max() <= 255


# Pairs of views


def test_batches_hold_first_views_then_second_views_of_the_same_pictures(tiny_images):
    x, _ = tiny_images
    x = x[:11]
    batches = [(v.numpy(), p.numpy()) for v, p in pair_views(x, keep, batch_size=4)]
    assert [v.shape for v, _ in batches] == [(8, *SHAPE)] * 2  # three are left out
    for views, pictures in batches:
        assert pictures.tolist() == [0, 1, 2, 3] * 2
        np.testing.assert_array_equal(views[:4], views[4:])
    shown = np.concatenate([views[:4] for views, _ in batches])
    rows = [np.flatnonzero((x == view).all(axis=(1, 2, 3))).item() for view in shown]
    assert len(set(rows)) == 8 and rows != sorted(rows)


def test_the_two_views_of_a_picture_differ(tiny_images):
    [(views, _)] = pair_views(tiny_images[0], augment_views, batch_size=48)
    changed = np.abs(views[:48] - views[48:]).max(axis=(1, 2, 3))
    assert (changed > 1).all()


def test_batches_repeat_with_the_seed_and_change_with_it(tiny_images):
    def collect(seed, x, augmentation):
        dataset = pair_views(x, augmentation, batch_size=16, seed=seed)
        return [np.stack([v for v, _ in dataset]) for _ in range(2)]  # two epochs

    same = np.repeat(tiny_images[0][:1], 48, axis=0)
    # Only the order can differ where nothing is drawn, only views where all are alike.
    for x, augmentation in ((tiny_images[0], keep), (same, augment_views)):
        first, second = collect(1, x, augmentation)
        again = collect(1, x, augmentation)
        np.testing.assert_array_equal([first, second], again)
        assert (first != second).any()
        assert (first != collect(2, x, augmentation)[0]).any()
        assert len({batch.tobytes() for batch in first}) == 3


def test_other_inputs_than_pictures_may_have_views():
    series = np.random.default_rng(0).normal(size=(10, 7, 2)).astype("float32")

    def add_noise(x, seed):
        return x + tf.random.stateless_normal(tf.shape(x), seed)

    [(views, _)] = pair_views(series, add_noise, batch_size=10)
    assert views.shape == (20, 7, 2)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda x: x, {"batch_size": 1}, "`batch_size`.*batch_size=1"),
        (lambda x: x, {"batch_size": 49}, r"`batch_size`.*2\.\.\.48"),
        (lambda x: x[:1], {}, "`batch_size`"),
        (lambda x: x / 255, {}, r"`x`.*0\.\.\.255"),
        (lambda x: np.where(x > 200, np.nan, x), {}, "`x` must be finite"),
        (lambda x: np.where(x > 200, np.inf, x), {}, "`x` must be finite"),
    ],
)
def test_pairs_are_refused_where_training_could_only_fail(
    tiny_images, change, options, message
):
    options = {"batch_size": 16, **options}
    with pytest.raises(ValueError, match=message):
        pair_views(change(tiny_images[0].astype("float32")), augment_views, **options)


# The projection head


def test_projection_head_sits_on_the_shared_backbone():
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    projector = attach_projection_head(backbone, hidden_units=5, units=7)
    assert projector.output_shape == (None, 7)
    assert projector.get_layer("cnn") is backbone
    own = [layer for layer in projector.layers if "projection" in layer.name]
    assert [w.shape for layer in own for w in layer.weights] == [
        (6, 5),
        (5,),
        (5, 7),
        (7,),
    ]
    assert not projector.compiled


def test_projection_is_two_linear_maps_with_a_relu_between():
    backbone = build_mlp_backbone(SHAPE, hidden_units=(6,))
    projector = attach_projection_head(backbone, hidden_units=5, units=2)
    a, b, c, d = projector.get_weights()[-4:]
    x = np.random.default_rng(0).integers(0, 256, (9, *SHAPE))
    features = backbone(x).numpy()
    expected = np.maximum(features @ a + b, 0) @ c + d
    found = projector(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert found.min() < 0


def test_projection_is_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        projector = attach_projection_head(build_cnn_backbone(SHAPE, filters=(4,)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert projector(np.ones((2, *SHAPE))).dtype == "float32"


@pytest.mark.parametrize("options", [{"hidden_units": 0}, {"units": 0}])
def test_projection_head_needs_units(options):
    with pytest.raises(ValueError, match="`hidden_units` and `units`"):
        attach_projection_head(build_cnn_backbone(SHAPE, filters=(4,)), **options)


@pytest.mark.parametrize("attach", [attach_projection_head, build_autoencoder])
def test_backbone_must_return_features(attach):
    inputs = keras.Input(SHAPE)
    with pytest.raises(ValueError, match=r"`backbone`.*\(None, 8, 8, 2\)"):
        attach(keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs)))


# NT-Xent


def test_loss_of_orthogonal_pairs_is_the_one_worked_out_by_hand():
    # Cosine 1 with the partner, 0 with both views of the other picture.
    found = nt_xent_loss([0, 1, 0, 1], np.eye(2)[[0, 1, 0, 1]], 1.0)
    np.testing.assert_allclose(found, [np.log(1 + 2 / np.e)] * 4)


def test_loss_of_opposite_pictures_is_the_one_worked_out_by_hand():
    # Cosine 1 with the partner, -1 with four others, at temperature 1/2: e^2, e^-2.
    z = np.array([[1.0], [1], [-3], [-3], [-3], [-3]])
    found = nt_xent_loss([0, 0, 1, 1, 2, 2], z, 0.5).numpy()
    np.testing.assert_allclose(found[:2], [np.log(1 + 4 * np.exp(-4))] * 2)
    # and for one of these four: 1 with three of them, -1 with two
    np.testing.assert_allclose(found[2:], [np.log(3 + 2 * np.exp(-4))] * 4)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_loss_of_views_that_are_all_alike_is_that_of_guessing(n):
    pictures, _ = make_projections(n, 3)
    found = nt_xent_loss(pictures, np.ones((2 * n, 3)))
    np.testing.assert_allclose(found, [np.log(2 * n - 1)] * (2 * n), rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 3.0])
def test_loss_is_that_of_the_paper(temperature):
    pictures, z = make_projections(6, 4)
    expected = loop_over_views(pictures, z, temperature)
    found = nt_xent_loss(pictures, z, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_default_temperature_is_one_half():
    pictures, z = make_projections(4, 3)
    expected = loop_over_views(pictures, z, 0.5)
    np.testing.assert_allclose(nt_xent_loss(pictures, z), expected)


def test_loss_of_labels_is_the_supervised_contrastive_one():
    labels, (_, z) = np.array([0, 1, 1, 0, 1, 2, 2, 0]), make_projections(4, 3)
    expected = loop_over_views(labels, z, 0.2)
    np.testing.assert_allclose(nt_xent_loss(labels, z, 0.2), expected, rtol=1e-10)


def test_loss_follows_the_order_of_the_views():
    pictures, z = make_projections(5, 3)
    order = np.random.default_rng(0).permutation(10)
    found = np.array(nt_xent_loss(pictures[order], z[order]))
    np.testing.assert_allclose(found, np.array(nt_xent_loss(pictures, z))[order])


def test_loss_does_not_care_how_pictures_are_numbered():
    pictures, z = make_projections(5, 3)
    found = nt_xent_loss(100 - 7 * pictures, z)
    np.testing.assert_array_equal(found, nt_xent_loss(pictures, z))


def test_loss_is_the_same_if_all_first_and_second_views_are_exchanged():
    pictures, z = make_projections(5, 3)
    found = np.mean(nt_xent_loss(pictures, np.roll(z, 5, axis=0)))
    assert found == pytest.approx(np.mean(nt_xent_loss(pictures, z)))


def test_loss_depends_on_directions_only():
    pictures, z = make_projections(5, 3)
    expected = nt_xent_loss(pictures, z)
    lengths = np.random.default_rng(1).uniform(0.01, 100, (10, 1))
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(nt_xent_loss(pictures, z * lengths), expected)
    np.testing.assert_allclose(nt_xent_loss(pictures, z @ rotation), expected)


def test_gradient_agrees_with_finite_differences():
    pictures, z = make_projections(3, 2)
    variable = tf.Variable(z)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(nt_xent_loss(pictures, variable))
    found = tape.gradient(loss, variable).numpy()
    step = 1e-6
    for place in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[place] += step
        down[place] -= step
        change = np.sum(nt_xent_loss(pictures, up) - nt_xent_loss(pictures, down))
        assert found[place] == pytest.approx(change / (2 * step), abs=1e-6)


def test_loss_of_half_precision_is_taken_in_single():
    pictures, z = make_projections(5, 3)
    found = nt_xent_loss(pictures, z.astype("float16"), 0.01)
    assert found.dtype == "float32"
    expected = nt_xent_loss(pictures, z.astype("float16").astype("float64"), 0.01)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="`temperature`.*positive"):
        nt_xent_loss(*make_projections(2, 3), temperature)


@pytest.mark.parametrize(
    ("pictures", "z"),
    [((4,), (4,)), ((3,), (4, 2)), ((4, 1), (4, 2)), ((4,), (4, 2, 1))],
)
def test_loss_refuses_other_shapes(pictures, z):
    with pytest.raises(ValueError, match=r"`pictures`.*\(batch, d\)"):
        nt_xent_loss(np.zeros(pictures), np.ones(z))


@pytest.mark.parametrize("pictures", [[0, 0], [0, 0, 0], [0, 1], [0, 0, 1, 1, 2]])
def test_loss_refuses_what_has_no_partner_or_nothing_to_differ_from(pictures):
    with pytest.raises(ValueError, match="`pictures`.*two or more.*at least twice"):
        nt_xent_loss(pictures, np.ones((len(pictures), 2)))


def test_view_without_a_partner_costs_nothing_within_a_graph():
    pictures, z = np.array([0, 0, 1, 1, 2]), make_projections(3, 4)[1][:5]
    found = tf.function(nt_xent_loss)(tf.constant(pictures), tf.constant(z)).numpy()
    assert found[4] == 0
    losses = loop_over_views(np.array([0, 0, 1, 1]), z[:4], 0.5)
    assert (found[:4] > losses).all()  # it is one more wrong answer to the others


def test_nan_is_not_hidden():
    pictures, z = make_projections(4, 3)
    z[1, 2] = np.nan
    assert np.isnan(nt_xent_loss(pictures, z)).any()


NUMBERS = st.sampled_from([0, 0.1, -1, 3, 5e-324, 1e-200, 1e200, 1.7e308, -1.7e308])


@settings(deadline=None, max_examples=60)
@given(
    arrays("float64", (6, 2), elements=NUMBERS),
    st.sampled_from([5e-324, 1e-3, 1, 1e300]),
)
def test_loss_is_finite_and_at_least_zero_for_whatever_is_finite(z, temperature):
    for dtype in ("float64", "float32"):
        values = np.clip(z, -3e38, 3e38).astype(dtype) if dtype == "float32" else z
        found = nt_xent_loss([0, 1, 2, 0, 1, 2], values, temperature).numpy()
        assert np.isfinite(found).all() and (found > -1e-5).all()


# Pretraining


def test_pretraining_moves_the_backbone_and_leaves_the_head_behind(tiny_images):
    backbone = build_cnn_backbone(SHAPE, filters=(4, 8))
    names = [w.path for w in backbone.weights]
    start = backbone.get_weights()
    projector = attach_projection_head(backbone, hidden_units=8, units=8)
    projector.compile(keras.optimizers.Adam(0.01), nt_xent_loss)
    views = pair_views(tiny_images[0], augment_views, batch_size=24)
    history = projector.fit(views, epochs=12, shuffle=False, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0] - 0.2
    assert all(
        (a != b).any() for a, b in zip(start, backbone.get_weights(), strict=True)
    )
    assert [w.path for w in backbone.weights] == names
    assert backbone.output_shape == (None, 8)


def test_fit_minimises_the_mean_of_the_loss(tiny_images):
    backbone = build_mlp_backbone(SHAPE, hidden_units=(16,))
    projector = attach_projection_head(backbone)
    loss = functools.partial(nt_xent_loss, temperature=0.2)
    projector.compile(keras.optimizers.SGD(0.0), loss)
    x = tiny_images[0]
    [(views, pictures)] = pair_views(x, augment_views, batch_size=48)
    dataset = pair_views(x, augment_views, batch_size=48)
    history = projector.fit(dataset, shuffle=False, verbose=0)
    z = projector(views.numpy()).numpy().astype("float64")
    expected = np.mean(loop_over_views(pictures.numpy(), z, 0.2))
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-4)


def test_pretraining_repeats_with_its_seeds(tiny_images):
    def train():
        keras.utils.set_random_seed(1)
        backbone = build_cnn_backbone(SHAPE, filters=(4,))
        projector = attach_projection_head(backbone, hidden_units=4, units=4)
        projector.compile("sgd", nt_xent_loss)
        views = pair_views(tiny_images[0], augment_views, batch_size=16, seed=1)
        projector.fit(views, epochs=2, shuffle=False, verbose=0)
        return backbone.get_weights()

    for a, b in zip(train(), train(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_loss_is_registered_so_that_a_compiled_model_can_be_loaded():
    name = keras.saving.get_registered_name(nt_xent_loss)
    assert name == "transfer_tutorial>nt_xent_loss"


# The autoencoder


@pytest.mark.parametrize("shape", [(8, 8, 3), (12, 8, 1), (16, 20, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_come_out_in_the_shape_and_range_they_went_in(shape, dtype):
    autoencoder = build_autoencoder(build_mlp_backbone(shape), filters=(6, 5))
    x = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(dtype)
    found = autoencoder(x).numpy()
    assert found.shape == x.shape and found.dtype == "float32"
    assert 0 < found.min() < found.max() < 255
    assert np.abs(found - 127.5).max() < 100  # an untrained one says about the middle


def test_autoencoder_sees_an_image_through_its_features_only():
    backbone = build_mlp_backbone(SHAPE, hidden_units=(5,))
    autoencoder = build_autoencoder(backbone, filters=(4,))
    backbone.set_weights([0 * w for w in backbone.get_weights()])  # it sees nothing
    x = np.random.default_rng(0).integers(0, 256, (4, *SHAPE))
    found = autoencoder(x).numpy()
    np.testing.assert_array_equal(found, found[:1].repeat(4, axis=0))


def test_autoencoder_learns_to_rebuild_and_moves_the_backbone(tiny_images):
    x, _ = tiny_images
    x = np.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape).astype("float32")
    backbone = build_cnn_backbone(SHAPE, filters=(8,))
    start = backbone.get_weights()
    autoencoder = build_autoencoder(backbone, filters=(8, 8))
    assert autoencoder.get_layer("cnn") is backbone and not autoencoder.compiled
    autoencoder.compile(keras.optimizers.Adam(0.02), "mse")
    history = autoencoder.fit(x, x, epochs=30, batch_size=24, verbose=0)
    assert history.history["loss"][-1] < x.var(axis=0).mean() / 4  # the mean picture
    assert all(
        (a != b).any() for a, b in zip(start, backbone.get_weights(), strict=True)
    )


@pytest.mark.parametrize(
    ("shape", "filters"),
    [((8, 8), ()), ((8, 8), (4, 0)), ((8, 12), (4, 4, 4)), ((12, 8), (4, 4, 4))],
)
def test_stages_of_the_decoder_must_fit_the_image(shape, filters):
    backbone = build_mlp_backbone((*shape, 3))
    with pytest.raises(ValueError, match=rf"`filters`.*\({shape[0]}, {shape[1]}, 3\)"):
        build_autoencoder(backbone, filters=filters)


@pytest.mark.parametrize("shape", [(5,), (None, None, 3)])
def test_autoencoder_needs_images_of_a_fixed_shape(shape):
    inputs = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(inputs) if len(shape) == 3 else inputs
    with pytest.raises(ValueError, match="`backbone`.*fixed shape"):
        build_autoencoder(keras.Model(inputs, keras.layers.Dense(2)(x)))


@settings(deadline=None, max_examples=10)
@given(arrays("float32", (2, *SHAPE), elements=st.floats(0, 255, width=32)))
def test_projections_and_rebuilt_images_are_finite(x):
    keras.utils.set_random_seed(0)
    backbone = build_mlp_backbone(SHAPE, hidden_units=(4,))
    for attach in (
        attach_projection_head,
        functools.partial(build_autoencoder, filters=(4,)),
    ):
        assert np.isfinite(attach(backbone)(x)).all()
