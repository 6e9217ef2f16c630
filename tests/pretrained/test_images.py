import json
import shutil

import keras
import matplotlib.cbook
import matplotlib.image
import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_sample_image

from transfer_tutorial.backbones import attach_head, build_residual_backbone
from transfer_tutorial.datasets import (
    CIFAR10_CLASSES,
    SOURCE_CLASSES,
    load_cifar10_mini,
    select_classes,
)
from transfer_tutorial.pretrained import (
    attach_imagenet_head,
    attach_source_head,
    build_efficientnet_lite0_backbone,
    build_source_cnn_backbone,
    images,
)


@pytest.fixture(scope="session")
def lite0():
    """EfficientNet-Lite0 on the smallest images, shared by all tests."""
    return build_efficientnet_lite0_backbone(32)


@pytest.fixture(scope="session")
def source_cnn():
    return build_source_cnn_backbone()


@pytest.fixture(scope="session")
def pictures():
    """Five of CIFAR-10's test pictures."""
    return load_cifar10_mini()[1][0][:5]


@pytest.fixture(params=["lite0", "source_cnn"])
def backbone(request):
    return request.getfixturevalue(request.param)


def infer(model, x):
    return np.asarray(model(x, training=False))


def load_grace_hopper():
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return matplotlib.image.imread(file, format="jpg")


def get_batch_norms(backbone):
    return [
        layer
        for layer in backbone.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


@pytest.mark.parametrize(
    ("make_photograph", "best", "likely"),
    [
        # 698 palace; 442 bell cote, 663 monastery, 975 lakeside
        (lambda: load_sample_image("china.jpg"), 698, {442, 663, 975}),
        # 985 daisy; 309 bee
        (lambda: load_sample_image("flower.jpg"), 985, {309}),
        # 652 military uniform; 834 suit, 906 Windsor tie
        (load_grace_hopper, 652, {834, 906}),
    ],
    ids=["temple by a lake", "flower", "admiral"],
)
def test_known_photographs_get_the_imagenet_classes_that_they_show(
    imagenet_classifier, make_photograph, best, likely
):
    photograph = make_photograph()
    assert photograph.dtype == "uint8"
    [probabilities] = infer(imagenet_classifier, photograph[np.newaxis])
    ranked = np.argsort(probabilities)[::-1][:5].tolist()
    assert ranked[0] == best and likely <= set(ranked)


@pytest.fixture(scope="session")
def imagenet_classifier():
    """At 224 pixels, the size that the weights were trained at."""
    return attach_imagenet_head(build_efficientnet_lite0_backbone(224))


def test_lite0_has_the_convolutions_of_efficientnet_b0_without_its_attention(lite0):
    def list_convolutions(model):
        kinds = keras.layers.Conv2D, keras.layers.DepthwiseConv2D
        return [
            (type(layer), tuple(layer.kernel.shape), layer.strides)
            for layer in model.layers
            if isinstance(layer, kinds) and "_se_" not in layer.name
        ]

    b0 = keras.applications.EfficientNetB0(weights=None, include_top=False)
    assert list_convolutions(lite0) == list_convolutions(b0)


def test_lite0_has_49_batch_norms_with_the_epsilon_it_was_trained_with(lite0):
    # Stem, top, two in the first block and three in each of the other fifteen.
    assert len(get_batch_norms(lite0)) == 1 + 1 + 2 + 15 * 3
    assert {layer.epsilon for layer in get_batch_norms(lite0)} == {1e-3}


def test_lite0_has_as_many_parameters_as_were_published(lite0):
    # 4.65 million, of which the head for 1,000 classes has 1,281,000.
    learnt = sum(int(np.prod(v.shape)) for v in lite0.trainable_weights)
    assert learnt + 1281 * 1000 == 4_652_008


def test_lite0_scales_raw_bytes_as_it_was_trained(lite0, pictures):
    rest = keras.Model(lite0.get_layer("rescaling").output, lite0.output)
    scaled = (pictures.astype("float32") - 127) / 128
    expected = infer(rest, scaled)
    np.testing.assert_allclose(infer(lite0, pictures), expected, rtol=1e-3, atol=1e-4)


def test_lite0_takes_images_of_any_size(lite0):
    rng = np.random.default_rng(0)
    for shape in [(1, 1), (20, 50), (70, 40)]:
        features = infer(lite0, rng.integers(0, 256, (1, *shape, 3)))
        assert features.shape == (1, 1280) and np.isfinite(features).all()


def test_lite0_resizes_a_square_image_bilinearly(lite0):
    image = load_sample_image("flower.jpg")[np.newaxis, :400, :400].astype("float32")
    small = keras.ops.image.resize(image, (32, 32), "bilinear")
    np.testing.assert_allclose(
        infer(lite0, image), infer(lite0, small), rtol=1e-3, atol=1e-4
    )


def test_lite0_sees_the_middle_of_an_oblong_image(lite0, pictures):
    framed = np.pad(pictures, [(0, 0), (0, 0), (16, 16), (0, 0)], constant_values=255)
    expected = infer(lite0, pictures)
    np.testing.assert_allclose(infer(lite0, framed), expected, rtol=1e-3, atol=1e-4)


def test_source_cnn_is_the_residual_backbone_with_other_weights(source_cnn, pictures):
    residual = build_residual_backbone((32, 32, 3))
    for mine, theirs in zip(source_cnn.layers[1:], residual.layers[1:], strict=True):
        assert mine.get_config() == theirs.get_config()
    residual.set_weights(source_cnn.get_weights())
    np.testing.assert_allclose(
        infer(source_cnn, pictures), infer(residual, pictures), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("image_size", [16, None])
def test_source_cnn_of_any_size_has_the_same_weights(source_cnn, pictures, image_size):
    sized = build_source_cnn_backbone(image_size=image_size)

    for ours, usual in zip(sized.get_weights(), source_cnn.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, usual)
    assert infer(sized, pictures[:, :16, :16]).shape == (5, 128)
    assert infer(attach_source_head(sized), pictures[:, :16, :16]).shape == (5, 6)


def test_source_cnn_for_any_size_gives_the_usual_features(source_cnn, pictures):
    any_size = build_source_cnn_backbone(image_size=None)

    expected = infer(source_cnn, pictures)
    np.testing.assert_allclose(
        infer(any_size, pictures), expected, rtol=1e-4, atol=1e-5
    )


def test_source_cnn_has_nine_batch_norms(source_cnn):
    # Stem, two in each of three stages, one in each of two shortcuts.
    assert len(get_batch_norms(source_cnn)) == 1 + 3 * 2 + 2


def test_source_head_names_its_classes_in_order_and_is_as_good_as_stated(source_cnn):
    x, y = load_cifar10_mini()[1]
    labels = [CIFAR10_CLASSES.index(name) for name in SOURCE_CLASSES]
    x, y = select_classes(x, y, labels)
    y_pred = infer(attach_source_head(source_cnn), x).argmax(axis=1)
    stated = json.loads((images._WEIGHTS / "source_cnn.json").read_text())
    # These 600 pictures are among the test pictures of the stated accuracy. Were
    # they drawn from them at random, one draw in a million would have fewer right.
    total = stated["test_images"]
    right = round(total * stated["test_accuracy"])
    assert np.sum(y_pred == y) >= stats.hypergeom.ppf(1e-6, total, right, len(y))


def test_backbone_fulfils_the_contract(backbone, pictures):
    num_features = {"efficientnet_lite0": 1280, "source_cnn": 128}[backbone.name]
    assert not backbone.compiled
    assert backbone.output_shape == (None, num_features)
    features = infer(backbone, pictures)
    assert features.shape == (5, num_features) and features.dtype == "float32"
    assert np.isfinite(features).all() and np.all(np.ptp(features, axis=1) > 0)
    assert infer(attach_head(backbone, 4), pictures).shape == (5, 4)


def test_backbone_takes_integers_and_floats_alike(backbone, pictures):
    floats = infer(backbone, pictures.astype("float32"))
    np.testing.assert_allclose(infer(backbone, pictures), floats, rtol=1e-5, atol=1e-5)


def test_features_of_an_image_do_not_depend_on_its_batch(backbone, pictures):
    alone = np.concatenate([infer(backbone, picture[None]) for picture in pictures])
    np.testing.assert_allclose(infer(backbone, pictures), alone, rtol=1e-3, atol=1e-4)


def test_a_call_without_training_is_inference_and_moves_nothing(backbone, pictures):
    classifier, before = attach_head(backbone, 2), backbone.get_weights()
    for model in (backbone, classifier):
        np.testing.assert_array_equal(model(pictures), infer(model, pictures))
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_batch_norm_of_lite0_learns_in_training(pictures):
    backbone = build_efficientnet_lite0_backbone(32, weights=None)
    norm = backbone.get_layer("top_batch_norm")
    before = norm.moving_variance.numpy()
    attach_head(backbone, 2)(pictures, training=True)
    assert np.all(norm.moving_variance.numpy() != before)


# Keras 3.15 saves in a way that NumPy 2.4 calls deprecated.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_saved_and_loaded_backbone_gives_the_same_features(
    backbone, pictures, tmp_path
):
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    predicted = loaded.predict(pictures, verbose=0)
    expected = infer(backbone, pictures)
    np.testing.assert_allclose(predicted, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda weights: build_efficientnet_lite0_backbone(32, weights=weights), 0),
        (lambda weights: build_source_cnn_backbone(weights=weights), 1),
    ],
    ids=["lite0", "source_cnn"],
)
def test_without_weights_the_same_network_starts_at_random(request, build, name):
    trained = request.getfixturevalue(["lite0", "source_cnn"][name])
    random = build(None)
    assert [w.shape for w in random.weights] == [w.shape for w in trained.weights]
    for layer in get_batch_norms(random):
        gamma, beta, mean, variance = layer.get_weights()
        assert np.all(gamma == 1) and np.all(beta == 0)
        assert np.all(mean == 0) and np.all(variance == 1)
    kernels = [
        (mine, theirs)
        for mine, theirs in zip(
            random.get_weights(), trained.get_weights(), strict=True
        )
        if mine.ndim == 4
    ]
    assert all(np.all(mine != theirs) for mine, theirs in kernels)


HEADS = {
    "efficientnet_lite0.npz": ("lite0", attach_imagenet_head, 1000),
    "source_cnn.npz": ("source_cnn", attach_source_head, 6),
}


@pytest.mark.parametrize("file", HEADS)
def test_head_shares_the_backbone_and_gives_probabilities(request, pictures, file):
    backbone, attach, num_classes = HEADS[file]
    backbone = request.getfixturevalue(backbone)
    classifier = attach(backbone)
    assert classifier.get_layer(backbone.name) is backbone
    assert not classifier.compiled and classifier.layers[-1].name == "head"
    probabilities = infer(classifier, pictures)
    assert probabilities.shape == (5, num_classes)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-4)


@pytest.mark.parametrize("file", HEADS)
def test_every_stored_array_is_a_weight_of_backbone_or_head(request, file):
    backbone, attach, _ = HEADS[file]
    backbone = request.getfixturevalue(backbone)
    weights = {
        f"{layer.name}/{variable.name}": value
        for layer in [*backbone.layers, attach(backbone).layers[-1]]
        for variable, value in zip(layer.weights, layer.get_weights(), strict=True)
    }
    with np.load(images._WEIGHTS / file, allow_pickle=False) as stored:
        assert set(stored) == set(weights)
        for name in stored:
            np.testing.assert_array_equal(stored[name].astype("float32"), weights[name])


@pytest.fixture
def weights_copy(tmp_path, monkeypatch):
    """Let the package read a copy of its weights that a test may damage."""
    for path in images._WEIGHTS.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(images, "_WEIGHTS", tmp_path)
    return tmp_path


@pytest.fixture(params=["imagenet head", "source head", "lite0", "source cnn"])
def read_weights(request, lite0, source_cnn):
    """Something that reads bundled weights, and the name of their file."""
    return {
        "imagenet head": (lambda: attach_imagenet_head(lite0), "efficientnet_lite0"),
        "source head": (lambda: attach_source_head(source_cnn), "source_cnn"),
        "lite0": (lambda: build_efficientnet_lite0_backbone(32), "efficientnet_lite0"),
        "source cnn": (build_source_cnn_backbone, "source_cnn"),
    }[request.param]


def test_missing_weights_are_named_with_a_way_out(weights_copy, read_weights):
    read, name = read_weights
    (weights_copy / f"{name}.npz").unlink()
    message = f"{name}.npz is missing.*build_weights.py {name}"
    with pytest.raises(FileNotFoundError, match=message):
        read()


def test_weights_with_one_wrong_bit_are_named_with_a_way_out(
    weights_copy, read_weights
):
    read, name = read_weights
    content = bytearray((weights_copy / f"{name}.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (weights_copy / f"{name}.npz").write_bytes(content)
    message = f"{name}.npz is damaged.*build_weights.py {name}"
    with pytest.raises(OSError, match=message):
        read()


def test_missing_checksums_are_named_with_a_way_out(weights_copy, source_cnn):
    (weights_copy / "SHA256SUMS").unlink()
    with pytest.raises(FileNotFoundError, match="SHA256SUMS is missing.*build_weights"):
        attach_source_head(source_cnn)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build_efficientnet_lite0_backbone(31),
            "`image_size` .* Received: image_size=31",
        ),
        (
            lambda: build_efficientnet_lite0_backbone(weights="cifar10"),
            "`weights` .* Received: weights='cifar10'",
        ),
        (
            lambda: build_source_cnn_backbone(image_size=3),
            "`image_size` .* at least 4, or None. Received: image_size=3",
        ),
        (
            lambda: build_source_cnn_backbone(image_size=16.0),
            "`image_size` .* Received: image_size=16.0",
        ),
        (
            lambda: build_source_cnn_backbone(weights="imagenet"),
            "`weights` .* Received: weights='imagenet'",
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("attach", "name", "num_features"),
    [
        (attach_imagenet_head, "source_cnn", 1280),
        (attach_imagenet_head, "efficientnet_lite0", 128),
        (attach_source_head, "efficientnet_lite0", 128),
        (attach_source_head, "source_cnn", 1280),
    ],
)
def test_head_is_refused_for_another_network(attach, name, num_features):
    pooling, dense = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense
    layers = [keras.Input((32, 32, 3)), pooling, dense(num_features)]
    message = rf"`backbone` .* Received: '{name}' .* \(None, {num_features}\)"
    with pytest.raises(ValueError, match=message):
        attach(keras.Sequential(layers, name=name))
