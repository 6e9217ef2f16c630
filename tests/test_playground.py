import json

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from transfer_tutorial.playground import load_head
from transfer_tutorial.pretrained import build_source_cnn_backbone


@pytest.fixture
def backbone():
    """The mean of each colour: a backbone whose features are known."""
    inputs = keras.Input((2, 2, 3))
    features = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, features, name="source_cnn")


@pytest.fixture
def content():
    """A head that says "cat" where red is stronger than blue."""
    return {
        "format": "transfer-tutorial-head",
        "version": 1,
        "backbone": "source_cnn",
        "class_names": ["cat", "ship"],
        "kernel": [[0.01, 0.0], [0.0, 0.0], [0.0, 0.01]],
        "bias": [0.5, 0.0],
    }


def write(folder, content):
    path = folder / "head.json"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def test_probabilities_are_those_of_the_head(tmp_path, backbone, content):
    classifier = load_head(write(tmp_path, content), backbone)
    image = np.full((1, 2, 2, 3), [200, 7, 100], "uint8")
    # logits 0.01 * 200 + 0.5 = 2.5 and 0.01 * 100 = 1: e^1.5 to 1
    expected = np.exp(1.5) / (np.exp(1.5) + 1)
    assert_allclose(classifier(image).numpy(), [[expected, 1 - expected]])


def test_names_are_in_the_order_of_the_probabilities(tmp_path, backbone, content):
    classifier = load_head(str(write(tmp_path, content)), backbone)
    assert list(classifier.class_names) == ["cat", "ship"]


def test_classifier_is_uncompiled_and_shares_the_backbone(tmp_path, backbone, content):
    classifier = load_head(write(tmp_path, content), backbone)
    assert not classifier.compiled
    assert classifier.get_layer("source_cnn") is backbone
    assert classifier.layers[-1].name == "head"


def test_head_fits_the_source_cnn(tmp_path, content):
    content["kernel"] = np.zeros((128, 2)).tolist()
    content["bias"] = [0.0, np.log(3.0)]
    classifier = load_head(write(tmp_path, content), build_source_cnn_backbone())
    images = np.zeros((1, 32, 32, 3), "uint8")
    assert_allclose(classifier(images).numpy(), [[0.25, 0.75]], rtol=1e-6)


@pytest.mark.parametrize("text", ["", "{", "a,b\n1,2\n"])
def test_file_that_is_no_json_is_named(tmp_path, backbone, text):
    with pytest.raises(ValueError, match=r"must be a JSON file.*head\.json"):
        load_head(write(tmp_path, text), backbone)


def test_picture_instead_of_json_is_named(tmp_path, backbone):
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(ValueError, match=r"must be a JSON file.*cat\.png"):
        load_head(path, backbone)


@pytest.mark.parametrize("other", [[], 3, None, {}, {"format": "another"}])
def test_json_of_another_kind_is_refused(tmp_path, backbone, other):
    with pytest.raises(ValueError, match="must be a head from the playground"):
        load_head(write(tmp_path, other), backbone)


def test_head_of_a_later_version_is_refused(tmp_path, backbone, content):
    content["version"] = 2
    with pytest.raises(ValueError, match="must be a head from the playground"):
        load_head(write(tmp_path, content), backbone)


def test_another_backbone_is_refused(tmp_path, backbone, content):
    content["backbone"] = "minilm_l6"
    with pytest.raises(ValueError, match="minilm_l6.*Received: 'source_cnn'"):
        load_head(write(tmp_path, content), backbone)


@pytest.mark.parametrize("key", ["class_names", "kernel", "bias"])
def test_missing_part_is_named(tmp_path, backbone, content, key):
    del content[key]
    with pytest.raises(ValueError, match=f"incomplete.*{key}"):
        load_head(write(tmp_path, content), backbone)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernel", [[0.01, 0.0], [0.0, 0.0]]),  # two features of three
        ("kernel", [0.01, 0.0, 0.01]),
        ("bias", [0.5]),
        ("class_names", ["cat", "ship", "deer"]),
    ],
)
def test_shapes_that_do_not_fit_are_told(tmp_path, backbone, content, key, value):
    content[key] = value
    with pytest.raises(ValueError, match="must have shapes"):
        load_head(write(tmp_path, content), backbone)


def test_a_single_class_is_no_head(tmp_path, backbone, content):
    content.update(class_names=["cat"], kernel=[[0.01]] * 3, bias=[0.0])
    with pytest.raises(ValueError, match="at least 2 classes"):
        load_head(write(tmp_path, content), backbone)


@pytest.mark.parametrize("rows", [[[0.01, 0.0], [0.0]], [["a", "b"]] * 3, {"a": 1}])
def test_rows_that_are_no_numbers_are_refused(tmp_path, backbone, content, rows):
    content["kernel"] = rows
    with pytest.raises(ValueError, match="incomplete"):
        load_head(write(tmp_path, content), backbone)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_number_that_is_not_finite_is_refused(tmp_path, backbone, content, value):
    content["bias"] = [value, 0.0]
    with pytest.raises(ValueError, match="not finite"):
        load_head(write(tmp_path, content), backbone)


def test_missing_file_is_named(tmp_path, backbone):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_head(tmp_path / "nowhere.json", backbone)
