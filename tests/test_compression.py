import keras
import numpy as np
import pytest

from transfer_tutorial.backbones import build_mlp_backbone, build_residual_backbone
from transfer_tutorial.compression import fold_batch_norm
from transfer_tutorial.pretrained import (
    build_efficientnet_lite0_backbone,
    build_source_cnn_backbone,
)


def randomise(model):
    """Give every BatchNorm statistics, scales and offsets that matter."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()]
            )


def find_norms(model):
    kind = keras.layers.BatchNormalization
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize(
    "build", [build_source_cnn_backbone, lambda: build_efficientnet_lite0_backbone(32)]
)
def test_folding_the_shipped_backbones_keeps_their_features(build):
    backbone = build()
    x = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3))
    expected = backbone.predict(x, verbose=0)
    folded = fold_batch_norm(backbone)
    assert find_norms(backbone) and not find_norms(folded)
    assert folded.count_params() < backbone.count_params()
    found = folded.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(backbone.predict(x, verbose=0), expected)


def build_mixed(**norm_options):
    """Dense with bias, depthwise with a multiplier, strided: a norm behind each."""
    inputs = keras.Input((6, 6, 3))
    x = inputs
    for layer in (
        keras.layers.Conv2D(4, 3, strides=2, bias_initializer="ones"),
        keras.layers.DepthwiseConv2D(1, depth_multiplier=2),
        keras.layers.Dense(5, bias_initializer="ones"),
    ):
        x = layer(x)
        x = keras.layers.BatchNormalization(**norm_options)(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize(
    "options", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.5}], ids=str
)
def test_folding_works_behind_every_kind_of_layer(options):
    model = build_mixed(**options)
    randomise(model)
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 3))
    expected = model.predict(x, verbose=0)
    found = fold_batch_norm(model).predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_folded_is_kept():
    inputs = keras.Input((6,))
    linear = keras.layers.Dense(4, name="linear")(inputs)
    behind = keras.layers.BatchNormalization(name="folded")(linear)
    active = keras.layers.Dense(4, activation="relu", name="active")(behind)
    kept = keras.layers.BatchNormalization(name="behind_relu")(active)
    shared = keras.layers.Dense(4, name="shared")(kept)
    normed = keras.layers.BatchNormalization(name="of_two_uses")(shared)
    model = keras.Model(inputs, keras.layers.Add()([shared, normed]))
    randomise(model)
    x = np.random.default_rng(0).normal(size=(5, 6))
    folded = fold_batch_norm(model)
    assert find_norms(folded) == ["behind_relu", "of_two_uses"]
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(folded.predict(x, verbose=0), expected, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_folded_backbone_is_saved_and_loaded(tmp_path):
    backbone = build_residual_backbone((8, 8, 3), filters=(4, 6))
    randomise(backbone)
    folded = fold_batch_norm(backbone)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    x = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3))
    expected = folded.predict(x, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)


def test_nothing_to_fold_is_named():
    with pytest.raises(ValueError, match="`backbone` must have .* 'mlp', without one"):
        fold_batch_norm(build_mlp_backbone((4,)))
