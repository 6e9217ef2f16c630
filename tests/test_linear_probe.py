import io
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transfer_tutorial.backbones import (
    attach_head,
    build_cnn_backbone,
    build_mlp_backbone,
)
from transfer_tutorial.linear_probe import (
    extract_features,
    fit_linear_probe,
    load_or_compute,
    set_head_from_probe,
)

SHAPE = (8, 8, 3)


@pytest.fixture(scope="module")
def backbone():
    """A CNN whose BatchNorm gives another answer in training than at inference."""
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    rng = np.random.default_rng(0)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.weights])
    return backbone


def test_features_equal_the_backbone_in_inference_mode(backbone, tiny_images):
    images = tiny_images[0]
    features = extract_features(backbone, images, batch_size=10, verbose=0)
    assert isinstance(features, np.ndarray) and features.dtype == "float32"
    expected = np.asarray(backbone(images, training=False))
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
    in_training = np.asarray(backbone(images, training=True))
    assert np.max(np.abs(in_training - expected)) > 0.1


def test_extraction_leaves_a_trainable_backbone_as_it_was(backbone, tiny_images):
    before = backbone.get_weights()
    extract_features(backbone, tiny_images[0], verbose=0)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_extraction_drops_nothing(tiny_images):
    backbone = build_mlp_backbone(SHAPE, hidden_units=(16,), dropout=0.9)
    images = tiny_images[0]
    first, second = (extract_features(backbone, images, verbose=0) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            np.zeros((0, *SHAPE), "uint8"),
            r"`x` must have at least one row.* Received: .* \(0, 8, 8, 3\)",
        ),
        (
            np.full((2, *SHAPE), 0.25, "float32"),
            r"`x` must hold images in 0\.\.\.255.* Received: float32 .* maximum 0.25",
        ),
    ],
)
def test_extraction_names_what_it_cannot_use(backbone, x, message):
    with pytest.raises(ValueError, match=message):
        extract_features(backbone, x)


ARRAYS = [
    np.linspace(0, 1, 6, dtype="float32").reshape(2, 3),
    np.array(["good", "bad"]),
    np.array(3),
]


@pytest.mark.parametrize("array", ARRAYS, ids=["numbers", "text", "scalar"])
def test_cache_computes_once_and_gives_the_same_array_again(tmp_path, array):
    calls = []

    def compute():
        calls.append(1)
        return array

    path = tmp_path / "new" / "folder" / "features.npy"
    for _ in range(3):
        result = load_or_compute(path, compute)
        np.testing.assert_array_equal(result, array)
        assert result.dtype == array.dtype
    assert len(calls) == 1
    assert [file.name for file in path.parent.iterdir()] == ["features.npy"]
    np.testing.assert_array_equal(np.load(path), array)


def test_cache_takes_a_path_as_text_and_a_list_of_numbers(tmp_path):
    path = str(tmp_path / "numbers.npy")
    load_or_compute(path, lambda: [1, 2])
    assert load_or_compute(path, lambda: [3]).tolist() == [1, 2]


def test_cache_is_empty_after_compute_failed(tmp_path):
    with pytest.raises(ZeroDivisionError):
        load_or_compute(tmp_path / "features.npy", lambda: 1 / 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_cache_is_empty_after_writing_failed_half_way(tmp_path, monkeypatch, error):
    def save_half(file, array, **options):
        file.write(array.tobytes()[:4])
        raise error

    monkeypatch.setattr(np, "save", save_half)
    with pytest.raises(type(error)):
        load_or_compute(tmp_path / "features.npy", lambda: np.arange(9))
    assert not list(tmp_path.iterdir())


CRASH = """
import os, sys
import numpy as np
from transfer_tutorial.linear_probe import load_or_compute

def save_half(file, array, **options):
    file.write(b"half")
    file.flush()
    os._exit(7)

np.save = save_half
load_or_compute(sys.argv[1], lambda: np.arange(9))
"""


def test_process_that_dies_while_it_writes_leaves_no_cache_behind(tmp_path):
    path = tmp_path / "features.npy"
    died = subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False)
    assert died.returncode == 7
    [partial] = tmp_path.iterdir()
    assert partial.read_bytes() == b"half"  # it died where it was meant to
    assert load_or_compute(path, lambda: np.arange(3)).tolist() == [0, 1, 2]


def make_damaged_files():
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, np.arange(100))
    np.savez(npz, np.arange(100))
    return {
        "empty": b"",
        "truncated": npy.getvalue()[:-8],
        "no header": npy.getvalue()[:20],
        "text": b"not an array",
        "several arrays": npz.getvalue(),
        "truncated zip": npz.getvalue()[:50],
        "pickle": pickle.dumps([1, 2, 3]),
    }


DAMAGED = make_damaged_files()


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_cache_is_named_and_not_computed_again_silently(tmp_path, damage):
    path = tmp_path / "features.npy"
    path.write_bytes(DAMAGED[damage])
    with pytest.raises(OSError, match=r"features\.npy is damaged: .* Delete it"):
        load_or_compute(path, lambda: np.arange(3))
    assert path.read_bytes() == DAMAGED[damage]


def test_cache_never_runs_code_that_is_stored_in_the_file(tmp_path):
    path = tmp_path / "features.npy"
    np.save(path, np.array([{"any": "object"}], dtype=object), allow_pickle=True)
    with pytest.raises(OSError, match="is damaged: Object arrays"):
        load_or_compute(path, lambda: np.arange(3))


def test_cache_refuses_objects(tmp_path):
    message = r"`compute` .* Received: dtype object, shape \(2,\)"
    with pytest.raises(ValueError, match=message):
        load_or_compute(tmp_path / "x.npy", lambda: np.array([{}, None]))
    assert not list(tmp_path.iterdir())


def make_rows(rows_per_class, *, separation=1.0, num_classes=3, width=5, seed=0):
    """Features of overlapping classes, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_classes).repeat(rows_per_class)
    centres = separation * np.eye(num_classes, width)
    return centres[labels] + rng.normal(size=(len(labels), width)), labels


def get_strength(probe):
    return probe[-1].C


# With one fold fewer, the second and the third would choose another strength.
@pytest.mark.parametrize(
    ("rows_per_class", "num_folds", "separation"),
    [(2, 2, 2), (3, 3, 0.2), (20, 3, 0.6)],
    ids=str,
)
def test_probe_is_the_logistic_regression_that_cross_validation_chooses(
    rows_per_class, num_folds, separation
):
    features, labels = make_rows(rows_per_class, separation=separation)

    def make_probe(strength):
        regression = LogisticRegression(C=strength, max_iter=1000)
        return make_pipeline(StandardScaler(), regression)

    folds = StratifiedKFold(num_folds, shuffle=True, random_state=5)
    options = {"cv": folds, "scoring": "neg_log_loss"}
    score_of = {
        strength: cross_val_score(
            make_probe(strength), features, labels, **options
        ).mean()
        for strength in (1e-4, 1e-3, 1e-2, 1e-1)
    }
    best = max(score_of, key=score_of.get)
    expected = make_probe(best).fit(features, labels)
    probe = fit_linear_probe(features, labels, seed=5)
    assert get_strength(probe) == best
    np.testing.assert_array_equal(probe[-1].coef_, expected[-1].coef_)


def test_probe_regularises_more_when_the_features_say_nothing():
    noise = fit_linear_probe(*make_rows(20, separation=0))
    signal = fit_linear_probe(*make_rows(20, separation=20))
    assert get_strength(noise) < get_strength(signal)


@pytest.mark.parametrize(
    "labels", [[0, 1], [4, 7, 7, 7]], ids=["two rows", "one alone"]
)
def test_probe_fits_where_a_class_has_a_single_row(labels):
    features = make_rows(1, num_classes=len(labels))[0]
    probe = fit_linear_probe(features, np.array(labels))
    assert get_strength(probe) == 0.01
    assert probe.predict_proba(features).shape == (len(labels), 2)
    assert set(probe.predict(features)) <= set(labels)


def test_probe_of_two_far_classes_finds_the_label_of_a_single_row_each():
    probe = fit_linear_probe(np.array([[0.0, 5.0], [9.0, 5.0]]), [0, 1])
    assert probe.predict([[1, 5], [8, 5]]).tolist() == [0, 1]


def test_probe_is_indifferent_to_shift_and_scale_of_the_features():
    features, labels = make_rows(10)
    probe = fit_linear_probe(features, labels)
    moved = fit_linear_probe(1000 * features - 5, labels)
    np.testing.assert_allclose(
        probe.predict_proba(features),
        moved.predict_proba(1000 * features - 5),
        rtol=1e-4,
    )


def test_probe_ignores_a_constant_feature():
    features, labels = make_rows(10)
    with_constant = np.pad(features, [(0, 0), (0, 1)], constant_values=3)
    probe = fit_linear_probe(with_constant, labels)
    np.testing.assert_array_equal(probe[-1].coef_[:, -1], 0)
    expected = fit_linear_probe(features, labels).predict_proba(features)
    found = probe.predict_proba(with_constant)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_probe_is_the_same_each_time():
    rows = make_rows(10)
    first, again = (fit_linear_probe(*rows).predict_proba(rows[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_seed_of_the_probe_is_the_seed_of_its_folds():
    chosen = {
        get_strength(fit_linear_probe(*make_rows(4, separation=0.5), seed=seed))
        for seed in range(10)
    }
    assert len(chosen) > 1


FEATURES, LABELS = make_rows(4)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (FEATURES, LABELS[:-1], r"`features` .* Received: .*\(12, 5\), labels \(11,\)"),
        (FEATURES[0], LABELS[:5], r"`features` .* Received: features \(5,\)"),
        (np.where(FEATURES > 2, np.nan, FEATURES), LABELS, "`features` .*: NaN or inf"),
        (FEATURES, LABELS * 0 + 2, r"`labels` .* Received: \[2\]"),
        (FEATURES[:0], LABELS[:0], r"`labels` .* Received: \[\]"),
    ],
    ids=["lengths", "one row", "nan", "one class", "none"],
)
def test_bad_input_names_the_argument_and_what_was_received(features, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_linear_probe(features, labels)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_head_set_from_a_probe_gives_the_probes_probabilities(
    backbone, tiny_images, num_classes
):
    x, y = tiny_images
    x, y = x[y < num_classes], y[y < num_classes]
    features = extract_features(backbone, x, verbose=0)
    probe = fit_linear_probe(features, y)
    classifier = attach_head(backbone, num_classes)
    before = classifier(x).numpy()
    set_head_from_probe(classifier, probe)
    expected = probe.predict_proba(features)
    found = classifier(x).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.max(np.abs(before - expected)) > 0.01


def test_a_probe_that_does_not_fit_the_head_is_named(backbone, tiny_images):
    x, y = tiny_images
    features = extract_features(backbone, x, verbose=0)
    classifier = attach_head(backbone, 3)
    weights = classifier.get_weights()
    for probe, received in [
        (fit_linear_probe(features[:, :5], y), r"5 features, classes \[0, 1, 2\]"),
        (fit_linear_probe(features, y % 2), r"6 features, classes \[0, 1\]"),
        (fit_linear_probe(features, y + 1), r"6 features, classes \[1, 2, 3\]"),
    ]:
        with pytest.raises(ValueError, match=f"`probe` must map .* {received}"):
            set_head_from_probe(classifier, probe)
    for old, new in zip(weights, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("dead", [1e-33, 1e-9])
def test_a_dead_feature_gets_no_weight_in_the_probe_and_the_head(dead):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    features = rng.normal(size=(60, 5)).astype("float32")
    features[:, 0] += 2 * y
    features[:, 3] *= dead  # by chance it tells the classes a little apart
    probe = fit_linear_probe(features, y)
    assert probe[-1].coef_[0, 3] == 0 and probe[-1].coef_[0, 0] != 0
    inputs = keras.Input((5,))
    classifier = attach_head(keras.Model(inputs, keras.layers.Identity()(inputs)), 2)
    set_head_from_probe(classifier, probe)
    assert np.abs(classifier.get_layer("head").kernel).max() < 100
    found = classifier(features).numpy()
    np.testing.assert_allclose(found, probe.predict_proba(features), atol=1e-5)


def test_small_features_count_in_the_probe():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    features = rng.normal(size=(60, 2))
    features[:, 1] = 1e-4 * (y + rng.normal(0, 0.1, 60))
    assert np.mean(fit_linear_probe(features, y).predict(features) == y) == 1


def test_probe_on_float32_is_the_probe_on_float64():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 64)).astype("float32")
    labels = np.arange(20) % 2
    single = fit_linear_probe(features, labels)
    double = fit_linear_probe(features.astype("float64"), labels)
    np.testing.assert_array_equal(single[-1].coef_, double[-1].coef_)
