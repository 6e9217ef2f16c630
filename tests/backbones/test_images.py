import keras
import numpy as np
import pytest

from transfer_tutorial.backbones import (
    attach_head,
    build_cnn_backbone,
    build_mlp_backbone,
    build_residual_backbone,
)

SHAPE = (8, 8, 3)
# How to build each backbone, its number of features, and how it scales 0...255.
BACKBONES = {
    "mlp": (
        lambda: build_mlp_backbone(SHAPE, hidden_units=(7, 5)),
        5,
        lambda x: x / 255,
    ),
    "mlp with dropout": (
        lambda: build_mlp_backbone(SHAPE, hidden_units=(7, 5), dropout=0.5),
        5,
        lambda x: x / 255,
    ),
    "cnn": (
        lambda: build_cnn_backbone(SHAPE, filters=(4, 6)),
        6,
        lambda x: x / 127.5 - 1,
    ),
    "residual": (
        lambda: build_residual_backbone(SHAPE, filters=(4, 6)),
        6,
        lambda x: x / 127.5 - 1,
    ),
}


@pytest.fixture(params=BACKBONES)
def built(request):
    """A backbone as if it had been trained, its number of features and its scaling."""
    build, num_features, scale = BACKBONES[request.param]
    backbone = build()
    rng = np.random.default_rng(0)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.weights])
    return backbone, num_features, scale


def infer(model, x):
    return np.asarray(model(x, training=False))


def test_backbone_turns_images_into_rows_of_features(built, tiny_images):
    backbone, num_features, _ = built
    assert backbone.output_shape == (None, num_features)
    features = infer(backbone, tiny_images[0])
    assert features.shape == (48, num_features) and features.dtype == "float32"
    assert np.isfinite(features).all() and np.ptp(features) > 0


def test_backbone_is_not_compiled(built):
    backbone = built[0]
    assert not backbone.compiled
    assert not attach_head(backbone, 3).compiled


def test_backbone_takes_integers_and_floats_alike(built, tiny_images):
    backbone, images = built[0], tiny_images[0]
    np.testing.assert_array_equal(
        infer(backbone, images), infer(backbone, images.astype("float32"))
    )


def test_backbone_scales_its_input_itself(built, tiny_images):
    backbone, _, scale = built
    rest = keras.Model(backbone.get_layer("rescaling").output, backbone.output)
    images = tiny_images[0] + np.float32(0.75)  # floats need not be whole numbers
    expected = infer(rest, scale(images))
    np.testing.assert_allclose(infer(backbone, images), expected, rtol=1e-4, atol=1e-5)


def test_features_of_an_image_do_not_depend_on_its_batch(built, tiny_images):
    backbone, images = built[0], tiny_images[0]
    alone = np.concatenate([infer(backbone, image[None]) for image in images[:3]])
    np.testing.assert_allclose(alone, infer(backbone, images)[:3], rtol=1e-5, atol=1e-5)


# Keras 3.15 saves in a way that NumPy 2.4 calls deprecated.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_saved_and_loaded_classifier_predicts_the_same(built, tiny_images, tmp_path):
    classifier = attach_head(built[0], 3, dropout=0.5)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    expected = infer(classifier, tiny_images[0])
    np.testing.assert_array_equal(infer(loaded, tiny_images[0]), expected)
    predicted = loaded(tiny_images[0]).numpy()
    np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-6)
    assert loaded.get_layer(built[0].name).count_params() == built[0].count_params()


@pytest.mark.parametrize("name", BACKBONES)
def test_initial_weights_repeat_with_the_global_seed(name):
    weights = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        weights.append(BACKBONES[name][0]().get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.all(weights[0] != weights[2])


def test_mlp_computes_what_numpy_computes(tiny_images):
    backbone = build_mlp_backbone(SHAPE, hidden_units=(7, 5))
    x = tiny_images[0].reshape(48, -1) / 255
    for name in ("dense_1", "dense_2"):
        kernel, bias = backbone.get_layer(name).get_weights()
        x = np.maximum(x @ kernel + bias, 0)
    np.testing.assert_allclose(infer(backbone, tiny_images[0]), x, rtol=1e-4, atol=1e-5)


def test_mlp_drops_features_in_training_only(tiny_images):
    backbone = build_mlp_backbone(SHAPE, hidden_units=(64,), dropout=0.5)
    dropped = np.asarray(backbone(tiny_images[0], training=True))
    kept = infer(backbone, tiny_images[0])
    lost = (dropped == 0) & (kept > 0)
    # Of about 1,500 active features half are lost; 0.4 to 0.6 is eight deviations.
    assert 0.4 < lost.sum() / (kept > 0).sum() < 0.6
    np.testing.assert_allclose(dropped[~lost], 2 * kept[~lost], rtol=1e-4)


def test_cnn_has_the_layers_and_parameters_counted_by_hand():
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    # Two convolutions 3x3 without bias, and four numbers a filter for BatchNorm.
    assert backbone.count_params() == 9 * 3 * 4 + 4 * 4 + 9 * 4 * 6 + 4 * 6
    stage = [
        keras.layers.Conv2D,
        keras.layers.BatchNormalization,
        keras.layers.ReLU,
        keras.layers.MaxPooling2D,
    ]
    assert [type(layer) for layer in backbone.layers[2:-1]] == 2 * stage


def test_cnn_halves_the_image_in_each_stage_and_averages_what_is_left(tiny_images):
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    shapes = [backbone.get_layer(f"pool_{i}").output.shape for i in (1, 2)]
    assert shapes == [(None, 4, 4, 4), (None, 2, 2, 6)]
    positions = keras.Model(backbone.input, backbone.get_layer("pool_2").output)
    expected = infer(positions, tiny_images[0]).mean(axis=(1, 2))
    features = infer(backbone, tiny_images[0])
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_cnn_takes_images_as_small_as_its_stages_allow():
    backbone = build_cnn_backbone((4, 9, 1), filters=(2, 3))
    assert infer(backbone, np.zeros((1, 4, 9, 1))).shape == (1, 3)


def test_residual_backbone_has_the_parameters_counted_by_hand():
    backbone = build_residual_backbone(SHAPE, filters=(4, 6))
    stem = 9 * 3 * 4 + 4 * 4
    first_stage = 2 * (9 * 4 * 4 + 4 * 4)
    shortcut = 4 * 6 + 4 * 6
    second_stage = (9 * 4 * 6 + 4 * 6) + (9 * 6 * 6 + 4 * 6)
    assert backbone.count_params() == stem + first_stage + shortcut + second_stage


@pytest.mark.parametrize(
    ("stem", "sides"), [({}, (4, 2, 1)), ({"stem_strides": 1}, (8, 4, 2))]
)
def test_residual_backbone_halves_in_the_stem_and_each_stage_but_the_first(stem, sides):
    backbone = build_residual_backbone(SHAPE, filters=(4, 6, 8), **stem)
    shapes = [backbone.get_layer(f"stage_{i}_relu").output.shape for i in (1, 2, 3)]
    assert [shape[1:3] for shape in shapes] == [(side, side) for side in sides]


def test_residual_block_whose_branch_is_zero_passes_its_input_on(tiny_images):
    backbone = build_residual_backbone(SHAPE, filters=(4, 6))
    norm = backbone.get_layer("stage_1_second_batch_norm")
    norm.set_weights([np.zeros(4), np.zeros(4), np.zeros(4), np.ones(4)])
    names = "stem_relu", "stage_1_relu"
    outputs = [backbone.get_layer(name).output for name in names]
    before, after = keras.Model(backbone.input, outputs)(tiny_images[0])
    np.testing.assert_array_equal(before, after)


def test_head_turns_features_into_probabilities(built, tiny_images):
    backbone = built[0]
    classifier = attach_head(backbone, 3)
    probabilities = infer(classifier, tiny_images[0])
    head = classifier.layers[-1]
    assert head.name == "head" and classifier.get_layer(backbone.name) is backbone
    kernel, bias = head.get_weights()
    logits = infer(backbone, tiny_images[0]) @ kernel + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)


def test_two_classifiers_share_the_weights_of_one_backbone(tiny_images):
    backbone = build_mlp_backbone(SHAPE, hidden_units=(5,))
    trained, other = attach_head(backbone, 3), attach_head(backbone, 4)
    backbone_before = backbone.get_weights()
    head_before = other.get_layer("head").get_weights()
    trained.compile("sgd", "sparse_categorical_crossentropy")
    trained.fit(*tiny_images, verbose=0)
    for before, variable in zip(backbone_before, backbone.weights, strict=True):
        assert np.any(before != np.asarray(variable.value))
    for mine, theirs in zip(backbone.weights, other.weights[:2], strict=True):
        assert mine is theirs
    for before, after in zip(
        head_before, other.get_layer("head").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_head_drops_features_in_training_only(tiny_images):
    classifier = attach_head(build_mlp_backbone(SHAPE), 3, dropout=0.9)
    images = tiny_images[0]
    np.testing.assert_array_equal(infer(classifier, images), infer(classifier, images))
    assert np.any(
        np.asarray(classifier(images, training=True)) != infer(classifier, images)
    )


def test_classifier_takes_the_type_and_the_shape_that_its_backbone_takes():
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(10, 4)(tokens)
    backbone = keras.Model(tokens, keras.layers.GlobalAveragePooling1D()(x))
    classifier = attach_head(backbone, 2)
    assert classifier.inputs[0].dtype == "int32"
    assert classifier.input_shape == (None, None)


def test_probabilities_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        classifier = attach_head(build_mlp_backbone(SHAPE), 3)
    finally:
        keras.config.set_dtype_policy("float32")
    features, probabilities = classifier.layers[-2].output, classifier.output
    assert (features.dtype, probabilities.dtype) == ("float16", "float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build_mlp_backbone(SHAPE, hidden_units=()),
            r"`hidden_units` .* Received: hidden_units=\(\)",
        ),
        (
            lambda: build_cnn_backbone(SHAPE, filters=()),
            r"`filters` .* Received: filters=\(\) for input_shape=\(8, 8, 3\)",
        ),
        (
            lambda: build_cnn_backbone((8, 7, 3), filters=(2, 2, 2)),
            r"`filters` .* Received: filters=\(2, 2, 2\) for input_shape=\(8, 7, 3\)",
        ),
        (
            lambda: build_residual_backbone(SHAPE, filters=()),
            r"`filters` .* Received: filters=\(\)",
        ),
        (
            lambda: attach_head(build_mlp_backbone(SHAPE), 1),
            "`num_classes` .* Received: num_classes=1",
        ),
        (
            lambda: attach_head(
                keras.Sequential([keras.Input(SHAPE), keras.layers.ReLU()]), 3
            ),
            r"`backbone` .* Received: output shape \(None, 8, 8, 3\)",
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
