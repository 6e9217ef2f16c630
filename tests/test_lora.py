import keras
import numpy as np
import pytest

from transfer_tutorial.backbones import (
    attach_head,
    build_cnn_backbone,
    build_mlp_backbone,
    build_residual_backbone,
)
from transfer_tutorial.fine_tuning import count_parameters
from transfer_tutorial.lora import (
    BottleneckAdapter,
    LoRA,
    add_adapters,
    add_lora,
    merge_lora,
)

SHAPE = (8, 8, 3)
LOSS = "sparse_categorical_crossentropy"
BUILDERS = {
    "mlp": lambda: build_mlp_backbone(SHAPE, hidden_units=(6, 5)),
    "cnn": lambda: build_cnn_backbone(SHAPE, filters=(4, 6)),
    "residual": lambda: build_residual_backbone(SHAPE, filters=(4, 6)),
}
every_backbone = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def adapt(build):
    """A backbone, and the same with LoRA and with adapters, sharing its weights."""
    backbone = build()
    last = backbone.layers[-1 if "mlp" in backbone.name else -4]
    return backbone, {
        "lora": add_lora(backbone, 2),
        "adapters": add_adapters(backbone, 2, layer_names=[last.name]),
    }


def train(backbone, data, *, epochs=1):
    """Train a new head and what is free in the backbone; return the classifier."""
    classifier = attach_head(backbone, 3)
    classifier.compile(keras.optimizers.Adam(0.01), LOSS, run_eagerly=True)
    classifier.fit(*data, epochs=epochs, shuffle=False, verbose=0)
    return classifier


@every_backbone
def test_an_adapted_backbone_starts_as_what_it_was(build, tiny_images):
    backbone, adapted = adapt(build)
    expected = backbone(tiny_images[0]).numpy()
    for model in adapted.values():
        assert model.name == backbone.name
        found = model(tiny_images[0]).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@every_backbone
@pytest.mark.parametrize("method", ["lora", "adapters"])
def test_what_is_counted_as_trainable_is_what_moves(build, method, tiny_images):
    backbone, adapted = adapt(build)
    frozen = backbone.get_weights()
    classifier = attach_head(adapted[method], 3)
    start = {v.path: v.numpy() for v in classifier.variables}
    classifier.compile(keras.optimizers.Adam(0.01), LOSS, run_eagerly=True)
    classifier.fit(*tiny_images, epochs=2, shuffle=False, verbose=0)
    moved = [v for v in classifier.variables if np.any(v.numpy() != start[v.path])]
    trainable, _ = count_parameters(classifier)
    assert sum(int(np.prod(v.shape)) for v in moved) == trainable
    for old, new in zip(frozen, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_number_of_parameters_is_the_one_worked_out_by_hand():
    lora = add_lora(build_cnn_backbone(SHAPE, filters=(4, 6)), 2)
    # A of (9 * channels, 2) and B of (2, filters), for both convolutions; no bias
    assert count_parameters(lora)[0] == 2 * (27 + 4) + 2 * (36 + 6)
    lora = add_lora(build_mlp_backbone((10,), hidden_units=(6, 5)), 3)
    assert count_parameters(lora)[0] == 3 * (10 + 6) + 3 * (6 + 5)  # biases frozen
    mlp = build_mlp_backbone((10,), hidden_units=(6, 5))
    adapted = add_adapters(mlp, 2, layer_names=["dense_1", "dense_2"])
    expected = (6 * 2 + 2 + 2 * 6 + 6) + (5 * 2 + 2 + 2 * 5 + 5)
    assert count_parameters(adapted)[0] == expected


def test_lora_of_a_dense_layer_is_the_formula():
    rng = np.random.default_rng(0)
    layer = keras.layers.Dense(3, activation="relu")
    layer.build((None, 4))
    kernel, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    layer.set_weights([kernel, bias])
    lora = LoRA(layer, 2, alpha=6)
    lora.build((None, 4))
    a, b, x = rng.normal(size=(4, 2)), rng.normal(size=(2, 3)), rng.normal(size=(5, 4))
    lora.lora_a.assign(a)
    lora.lora_b.assign(b)
    expected = np.maximum(x @ kernel + 6 / 2 * x @ a @ b + bias, 0)
    np.testing.assert_allclose(lora(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same"},
        {"padding": "valid", "strides": 2},
        {"padding": "same", "dilation_rate": 2, "activation": "relu"},
        {"padding": "same", "use_bias": False},
    ],
)
def test_lora_of_a_convolution_is_a_narrow_convolution_and_a_wide_one(options):
    """Oracle: a 3x3 convolution to `rank` channels, then 1x1, added in Keras itself."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 9, 3)).astype("float32")
    activation = keras.activations.get(options.pop("activation", None))
    layer = keras.layers.Conv2D(4, 3, activation=activation, **options)
    lora = LoRA(layer, 2, alpha=1)
    lora.build(x.shape)
    lora.lora_b.assign(rng.normal(size=(2, 4)))
    options["use_bias"] = False
    down, up = keras.layers.Conv2D(2, 3, **options), keras.layers.Conv2D(4, 1)
    update = keras.Sequential([keras.Input((9, 9, 3)), down, up])
    down.kernel.assign(np.reshape(lora.lora_a, (3, 3, 3, 2)))
    up.kernel.assign(np.reshape(lora.lora_b, (1, 1, 2, 4)))
    plain = keras.layers.Conv2D(4, 3, **options)
    plain.build(x.shape)
    plain.kernel.assign(layer.kernel)
    expected = activation(plain(x) + 0.5 * update(x))
    np.testing.assert_allclose(lora(x), expected, rtol=1e-4, atol=1e-5)


@every_backbone
def test_merging_keeps_the_outputs_and_leaves_plain_layers(build, tiny_images):
    backbone = build()
    untouched = backbone(tiny_images[0]).numpy()
    lora = add_lora(backbone, 2, alpha=4)
    train(lora, tiny_images, epochs=3)
    tuned = lora(tiny_images[0]).numpy()
    merged = merge_lora(lora)
    found = merged(tiny_images[0]).numpy()
    np.testing.assert_allclose(found, tuned, rtol=1e-4, atol=1e-5)
    assert np.max(np.abs(tuned - untouched)) > 1e-3
    assert [type(x) for x in merged.layers] == [type(x) for x in backbone.layers]
    assert merged.count_params() == backbone.count_params()
    # Without its updates the original is still there, to the last bit.
    after = backbone(tiny_images[0]).numpy()
    np.testing.assert_array_equal(after, untouched)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@every_backbone
@pytest.mark.parametrize("method", ["lora", "adapters"])
def test_an_adapted_classifier_is_saved_and_loaded(
    build, method, tiny_images, tmp_path
):
    _, adapted = adapt(build)
    classifier = train(adapted[method], tiny_images)
    classifier.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = classifier(tiny_images[0]).numpy()
    np.testing.assert_array_equal(loaded(tiny_images[0]).numpy(), expected)
    assert count_parameters(loaded) == count_parameters(classifier)


def test_an_adapter_is_the_formula():
    rng = np.random.default_rng(0)
    layer = keras.layers.Dense(4)
    layer.build((None, 3))
    adapter = BottleneckAdapter(layer, 2)
    adapter.build((None, 3))
    down, up = rng.normal(size=(4, 2)), rng.normal(size=(2, 4))
    adapter.down.set_weights([down, np.array([0.1, -0.1])])
    adapter.up.set_weights([up, np.arange(4)])
    x = rng.normal(size=(5, 3))
    y = x @ layer.kernel.numpy() + layer.bias.numpy()
    expected = y + np.maximum(y @ down + [0.1, -0.1], 0) @ up + np.arange(4)
    np.testing.assert_allclose(adapter(x), expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_behind_which_an_adapter_sits_stays_at_rest(tiny_images):
    backbone = build_residual_backbone(SHAPE, filters=(4, 6))
    names = [x.name for x in backbone.layers if x.name.endswith("second_batch_norm")]
    adapted = add_adapters(backbone, 2, layer_names=names)
    norms = [x for x in backbone.layers if "batch_norm" in x.name]
    before = [x.get_weights() for x in norms]
    train(adapted, tiny_images)
    for layer, weights in zip(norms, before, strict=True):
        for old, new in zip(weights, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_only_the_named_layers_are_updated():
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    adapted = add_lora(backbone, 2, layer_names=["conv_2"])
    kinds = {layer.name: type(layer) for layer in adapted.layers}
    assert kinds["conv_2"] is LoRA and kinds["conv_1"] is keras.layers.Conv2D
    assert len(adapted.trainable_variables) == 2


def test_making_everything_trainable_frees_the_frozen_kernels_as_documented():
    adapted = add_lora(build_mlp_backbone((10,), hidden_units=(6,)), 2)
    assert count_parameters(adapted)[0] == 2 * (10 + 6)
    adapted.trainable = False
    adapted.trainable = True
    assert count_parameters(adapted)[0] == 10 * 6 + 6 + 2 * (10 + 6)


@pytest.mark.parametrize("rank", [0, -1, 5])
def test_a_rank_that_does_not_fit_is_named_with_its_layer(rank):
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    with pytest.raises(ValueError, match=rf"`rank` .* 'conv_1'.*Received: rank={rank}"):
        add_lora(backbone, rank)
    assert backbone.trainable_variables, "nothing was frozen before the error"


def test_the_largest_rank_that_fits_is_accepted():
    add_lora(build_cnn_backbone(SHAPE, filters=(4, 6)), 4)


@pytest.mark.parametrize("name", ["conv_9", "batch_norm_1", "pool_1"])
def test_a_layer_that_cannot_take_lora_is_named(name):
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    with pytest.raises(ValueError, match=rf"`layer_names` .* Received: \['{name}'\]"):
        add_lora(backbone, 1, layer_names=["conv_1", name])


def test_a_backbone_without_fitting_layers_is_named():
    inputs = keras.Input(SHAPE)
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    with pytest.raises(ValueError, match="`layer_names` .* Received: none"):
        add_lora(backbone, 1)
    with pytest.raises(ValueError, match="`layer` must be Dense .* DepthwiseConv2D"):
        LoRA(keras.layers.DepthwiseConv2D(3), 1)


def test_nothing_to_merge_is_named():
    with pytest.raises(
        ValueError, match="`backbone` must hold LoRA .* 'cnn' with none"
    ):
        merge_lora(build_cnn_backbone(SHAPE, filters=(4, 6)))


@pytest.mark.parametrize("units", [0, -1, 5])
def test_a_width_that_does_not_fit_is_named_with_its_layer(units):
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    names = ["batch_norm_1", "batch_norm_2"]
    message = (
        rf"`units` must be in 1\.\.\.4, .* 'batch_norm_1'. Received: units={units}"
    )
    with pytest.raises(ValueError, match=message):
        add_adapters(backbone, units, layer_names=names)


def test_an_adapter_behind_a_layer_that_does_not_exist_is_named():
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    with pytest.raises(ValueError, match=r"`layer_names` .* Received: \['conv_9'\]"):
        add_adapters(backbone, 1, layer_names=["conv_9"])
    with pytest.raises(ValueError, match="`layer_names` .* Received: none"):
        add_adapters(backbone, 1, layer_names=[])
