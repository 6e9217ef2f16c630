import keras
import numpy as np
import pytest
import tensorflow as tf

from transfer_tutorial.backbones import (
    attach_head,
    build_series_gru_backbone,
    build_text_gru_backbone,
    build_transformer_backbone,
)
from transfer_tutorial.lora import add_lora

BACKBONES = {
    "text gru": (
        lambda dropout: build_text_gru_backbone(
            20, embedding_size=5, units=4, dropout=dropout
        ),
        8,
    ),
    "series gru": (
        lambda dropout: build_series_gru_backbone(3, units=4, dropout=dropout),
        8,
    ),
    "transformer": (
        lambda dropout: build_transformer_backbone(
            20, max_length=12, width=8, num_heads=2, dropout=dropout
        ),
        8,
    ),
}
LENGTHS = np.array([7, 1, 4, 7, 3])


def make_sequences(name):
    """Five padded sequences of 1 to 7 steps."""
    rng = np.random.default_rng(0)
    inside = np.arange(7) < LENGTHS[:, np.newaxis]
    if name == "series gru":
        return (rng.normal(size=(5, 7, 3)) * inside[..., np.newaxis]).astype("float32")
    return (rng.integers(1, 20, (5, 7)) * inside).astype("int32")


def pad(x, steps):
    return np.pad(x, [(0, 0), (0, steps)] + (x.ndim - 2) * [(0, 0)])


def infer(model, x):
    return np.asarray(model(x, training=False))


@pytest.fixture(params=BACKBONES)
def built(request):
    """A backbone whose weights are all random, its number of features, its inputs."""
    build, num_features = BACKBONES[request.param]
    backbone = build(0.0)
    rng = np.random.default_rng(0)
    backbone.set_weights([rng.normal(0, 0.5, w.shape) for w in backbone.get_weights()])
    return backbone, num_features, make_sequences(request.param)


def test_backbone_turns_sequences_into_rows_of_features(built):
    backbone, num_features, x = built
    assert backbone.output_shape == (None, num_features) and not backbone.compiled
    features = infer(backbone, x)
    assert features.shape == (5, num_features) and features.dtype == "float32"
    assert np.isfinite(features).all() and np.ptp(features, axis=0).min() > 0


# Keras warns when a sequence of one token looks at itself only.
@pytest.mark.filterwarnings("ignore:(?s).*softmax over axis -1:UserWarning")
def test_padding_does_not_change_the_features(built):
    backbone, _, x = built
    np.testing.assert_allclose(
        infer(backbone, pad(x, 5)), infer(backbone, x), rtol=1e-5, atol=1e-6
    )
    for row, length in zip(x, LENGTHS, strict=True):
        alone = infer(backbone, row[np.newaxis, :length])
        padded = infer(backbone, row[np.newaxis])
        np.testing.assert_allclose(padded, alone, rtol=1e-5, atol=1e-6)


def test_features_depend_on_every_step_and_on_the_order(built):
    backbone, _, x = built
    features = infer(backbone, x[:1])
    for step in range(7):
        changed = x[:1].copy()
        changed[0, step] = 19 if x.ndim == 2 else -x[0, step]
        assert np.abs(infer(backbone, changed) - features).max() > 1e-4
    assert np.abs(infer(backbone, x[:1, ::-1]) - features).max() > 1e-4


def test_features_of_a_sequence_do_not_depend_on_its_batch(built):
    backbone, _, x = built
    alone = np.concatenate([infer(backbone, row[np.newaxis]) for row in x])
    np.testing.assert_allclose(alone, infer(backbone, x), rtol=1e-5, atol=1e-6)


def test_nothing_but_padding_gives_finite_features(built):
    backbone, num_features, x = built
    features = infer(backbone, np.zeros_like(x))
    np.testing.assert_array_equal(features, np.zeros((5, num_features)))


def test_gradients_reach_every_weight(built):
    backbone, _, x = built
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(backbone(x, training=True)))
    gradients = tape.gradient(loss, [v.value for v in backbone.trainable_variables])
    for variable, gradient in zip(backbone.trainable_variables, gradients, strict=True):
        values = np.asarray(tf.convert_to_tensor(gradient))
        # A constant added to all keys changes no attention weight.
        assert "key/bias" in variable.path or np.abs(values).max() > 0


# Keras 3.15 saves in a way that NumPy 2.4 calls deprecated.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", BACKBONES)
def test_saved_and_loaded_classifier_predicts_the_same(name, tmp_path):
    build, _ = BACKBONES[name]
    x, classifier = make_sequences(name), attach_head(build(0.5), 3)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(infer(loaded, x), infer(classifier, x), rtol=1e-6)


@pytest.mark.parametrize("name", BACKBONES)
def test_dropout_acts_in_training_only(name):
    x, backbone = make_sequences(name), BACKBONES[name][0](0.5)
    kept = infer(backbone, x)
    np.testing.assert_array_equal(infer(backbone, x), kept)
    assert np.abs(np.asarray(backbone(x, training=True)) - kept).max() > 1e-4


@pytest.mark.parametrize("name", BACKBONES)
def test_initial_weights_repeat_with_the_global_seed(name):
    weights = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        weights.append(BACKBONES[name][0](0.0).get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.all(weights[0] != weights[2])


@pytest.mark.parametrize("name", BACKBONES)
def test_a_classifier_learns_which_sequences_are_which(name):
    # Five sequences, each its own class: any of the networks can learn them by heart.
    x, y = make_sequences(name), np.arange(5)
    classifier = attach_head(BACKBONES[name][0](0.0), 5)
    classifier.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    rows = np.tile(y, 80)  # one epoch of 80 steps: an epoch itself costs time, too
    classifier.fit(x[rows], y[rows], batch_size=5, shuffle=False, verbose=0)
    assert infer(classifier, x).argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


def run_gru_by_hand(x, kernel, recurrent, bias):
    """The state after the last step, as Cho et al. write it (Keras' `reset_after`)."""

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    h = np.zeros(recurrent.shape[0])
    for step in x:
        a, b = step @ kernel + bias[0], h @ recurrent + bias[1]
        (az, ar, ac), (bz, br, bc) = np.split(a, 3), np.split(b, 3)
        update, reset = sigmoid(az + bz), sigmoid(ar + br)
        h = update * h + (1 - update) * np.tanh(ac + reset * bc)
    return h


def test_gru_features_are_what_numpy_computes_forwards_and_backwards():
    backbone = build_series_gru_backbone(3, units=4)
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.5, w.shape) for w in backbone.get_weights()]
    backbone.set_weights(weights)
    for row, length in zip(make_sequences("series gru"), LENGTHS, strict=True):
        steps = row[:length]
        forwards = run_gru_by_hand(steps, *weights[:3])
        backwards = run_gru_by_hand(steps[::-1], *weights[3:])
        [features] = infer(backbone, row[np.newaxis])
        expected = np.concatenate([forwards, backwards])
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_attention_weights_sum_to_1_and_skip_padding():
    backbone = BACKBONES["transformer"][0](0.0)
    attention = keras.Model(
        backbone.input, backbone.get_layer("block_2_attention").output
    )
    weights = infer(attention, make_sequences("transformer"))
    assert weights.shape == (5, 2, 7, 7)  # batch, heads, query, key
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    for row, length in zip(weights, LENGTHS, strict=True):
        assert (row[:, :, length:] == 0).all() and (row[:, :, :length] > 0).all()


def test_a_transformer_attends_as_keras_does():
    x = np.random.default_rng(0).integers(1, 20, (5, 7)).astype("int32")
    backbone = BACKBONES["transformer"][0](0.0)
    rng = np.random.default_rng(0)
    backbone.set_weights([rng.normal(0, 0.5, w.shape) for w in backbone.get_weights()])
    layers = [backbone.get_layer(f"block_1_{n}") for n in ("attention_norm", "output")]
    ends = keras.Model(backbone.input, [layer.output for layer in layers])
    inside, expected = (np.asarray(t) for t in ends(x))
    keras_layer = keras.layers.MultiHeadAttention(2, 4)
    keras_layer.build(inside.shape, inside.shape)
    weights = []
    for part in ("query", "key", "value"):
        kernel, bias = backbone.get_layer(f"block_1_{part}").get_weights()
        weights += [kernel.reshape(8, 2, 4), bias.reshape(2, 4)]
    kernel, bias = backbone.get_layer("block_1_output").get_weights()
    keras_layer.set_weights([*weights, kernel.reshape(2, 4, 8), bias])
    found = np.asarray(keras_layer(inside, inside))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_transformer_has_the_parameters_counted_by_hand():
    backbone = build_transformer_backbone(20, max_length=12, width=8, num_blocks=3)
    # Query, key, value and output; hidden layer and projection; two norms.
    block = 4 * (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8) + 2 * 16
    assert backbone.count_params() == 20 * 8 + 12 * 8 + 3 * block + 16


def test_transformer_takes_lora_on_its_attention():
    backbone = BACKBONES["transformer"][0](0.0)
    x = make_sequences("transformer")
    adapted = add_lora(backbone, 2, layer_names=["block_1_query", "block_2_value"])
    np.testing.assert_allclose(infer(adapted, x), infer(backbone, x), rtol=1e-5)
    assert len(adapted.trainable_variables) == 4


@pytest.mark.parametrize("jit_compile", [False, True])
def test_transformer_refuses_more_tokens_than_it_has_positions(jit_compile):
    backbone = BACKBONES["transformer"][0](0.0)
    run = tf.function(backbone, jit_compile=jit_compile)
    assert run(np.ones((2, 12), "int32")).shape == (2, 8)
    errors = (ValueError, tf.errors.InvalidArgumentError)
    with pytest.raises(errors, match="13"):
        run(np.ones((2, 13), "int32"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build_text_gru_backbone(2),
            "`vocabulary_size` .* Received: vocabulary_size=2",
        ),
        (lambda: build_text_gru_backbone(9, units=0), "`units` .* units=0"),
        (
            lambda: build_text_gru_backbone(9, embedding_size=0),
            "`embedding_size` .* embedding_size=0",
        ),
        (lambda: build_series_gru_backbone(0), "`num_channels` .* num_channels=0"),
        (lambda: build_series_gru_backbone(3, units=0), "`units` .* units=0"),
        (
            lambda: build_transformer_backbone(2),
            "`vocabulary_size` .* vocabulary_size=2",
        ),
        (
            lambda: build_transformer_backbone(9, width=10, num_heads=4),
            "`num_heads` must divide `width`.* width=10, num_heads=4",
        ),
        (lambda: build_transformer_backbone(9, num_blocks=0), "num_blocks=0"),
        (lambda: build_transformer_backbone(9, max_length=1), "max_length=1"),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
