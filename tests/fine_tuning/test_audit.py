import inspect

import keras
import numpy as np
import pytest

from transfer_tutorial.backbones import (
    attach_head,
    build_cnn_backbone,
    build_mlp_backbone,
)
from transfer_tutorial.fine_tuning import (
    audit,
    audit_fine_tuning,
    format_audit,
    freeze_batch_norm,
    measure_moves,
    snapshot_weights,
)

SHAPE = (8, 8, 3)


@pytest.fixture
def classifier():
    return attach_head(build_cnn_backbone(SHAPE, filters=(4, 6)), 3)


@pytest.fixture
def trained(classifier, tiny_images):
    """Carefully fine-tuned: BatchNorm at rest, small steps."""
    freeze_batch_norm(classifier)
    before = snapshot_weights(classifier)
    train(classifier, tiny_images)
    return classifier, before


def train(classifier, data, *, learning_rate=1e-3, compile=True, epochs=1):
    if compile:
        optimizer = keras.optimizers.Adam(learning_rate)
        classifier.compile(optimizer, "sparse_categorical_crossentropy")
    classifier.fit(*data, epochs=epochs, batch_size=16, shuffle=False, verbose=0)


def find(rows):
    """The findings that are not empty, by part."""
    return {row["part"]: row["finding"] for row in rows if row["finding"]}


def test_careful_fine_tuning_is_without_a_finding(trained, tiny_images):
    assert find(audit_fine_tuning(*trained, tiny_images[0])) == {}


def test_the_audit_catches_fine_tuning_a_base_that_is_still_frozen(
    classifier, tiny_images
):
    classifier.layers[1].trainable = False
    before = snapshot_weights(classifier)
    train(classifier, tiny_images)
    findings = find(audit_fine_tuning(classifier, before, tiny_images[0]))
    assert set(findings) == {"backbone"}
    assert "no weight moved, it is frozen" in findings["backbone"]


def test_the_audit_catches_a_changed_trainable_without_compile(classifier, tiny_images):
    freeze_batch_norm(classifier)
    convolutions = [x for x in classifier.layers[1].layers if "conv" in x.name]
    for layer in convolutions:
        layer.trainable = False
    train(classifier, tiny_images)
    for layer in convolutions:
        layer.trainable = True
    before = snapshot_weights(classifier)
    train(classifier, tiny_images, compile=False)
    findings = find(audit_fine_tuning(classifier, before, tiny_images[0]))
    assert set(findings) == {"compile", "backbone"}
    assert "2 weights more and 0 fewer" in findings["compile"]
    assert "though it is trainable now" in findings["backbone"]
    train(classifier, tiny_images, compile=True)
    assert find(audit_fine_tuning(classifier, before, tiny_images[0])) == {}


def test_the_audit_catches_weights_that_learn_although_they_were_frozen(
    trained, tiny_images
):
    classifier, before = trained
    classifier.layers[1].trainable = False  # too late: `fit` has been traced
    train(classifier, tiny_images, compile=False)
    findings = find(audit_fine_tuning(classifier, before, tiny_images[0]))
    assert "0 weights more and 2 fewer" in findings["compile"]
    for layer in ("conv_1", "conv_2"):
        assert findings[f"cnn/{layer}"] == "moved, though it is frozen now"


def test_the_audit_catches_batch_norm_that_drifts_in_spite_of_training_false(
    tiny_images,
):
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    inputs = keras.Input(SHAPE)
    features = backbone(inputs, training=False)
    head = keras.layers.Dense(3, activation="softmax", name="head")
    classifier = keras.Model(inputs, head(features))
    before = snapshot_weights(classifier)
    train(classifier, tiny_images)
    findings = find(audit_fine_tuning(classifier, before, tiny_images[0]))
    assert set(findings) == {"cnn/batch_norm_1", "cnn/batch_norm_2"}
    assert all("statistics moved" in text for text in findings.values())


@pytest.mark.parametrize("scale", [lambda x: x / 255, lambda x: x / 127.5 - 1])
def test_the_audit_catches_inputs_that_are_scaled_twice(trained, tiny_images, scale):
    findings = find(audit_fine_tuning(*trained, scale(tiny_images[0].astype(float))))
    assert set(findings) == {"inputs"}
    assert "expected 0...255" in findings["inputs"]


def test_the_audit_catches_a_rate_that_wrecks_the_features(classifier, tiny_images):
    freeze_batch_norm(classifier)
    before = snapshot_weights(classifier)
    train(classifier, tiny_images, learning_rate=0.3)
    findings = find(audit_fine_tuning(classifier, before, tiny_images[0]))
    assert {"cnn/conv_1", "cnn/conv_2"} <= set(findings)
    assert "lower the learning rate" in findings["cnn/conv_1"]


def test_the_largest_move_is_the_readers_to_set(trained, tiny_images):
    moves = {row["layer"]: row["moved"] for row in measure_moves(*trained)}
    limit = (moves["cnn/conv_1"] + moves["cnn/conv_2"]) / 2
    rows = audit_fine_tuning(*trained, tiny_images[0], largest_move=limit)
    [part] = find(rows)
    assert moves[part] == max(moves["cnn/conv_1"], moves["cnn/conv_2"])


@pytest.mark.parametrize(
    ("inputs", "expected_range", "finding"),
    [
        ([[0.0, 255.0]], (0, 255), ""),
        ([[0.0, 256.0]], (0, 255), "outside the range: 0...256, expected 0...255"),
        ([[-1.0, 200.0]], (0, 255), "outside the range: -1...200, expected 0...255"),
        ([[-1.0, 1.0]], (-1, 1), ""),
        ([[0.0, 0.02]], (-1, 1), "scaled already"),
        ([[0, 1]], (0, 255), "scaled already"),
        ([[0.0, np.nan]], (0, 255), "not all inputs are finite"),
        ([[0, 30000]], None, ""),
        (["some", "words"], (0, 255), ""),
    ],
)
def test_the_range_of_inputs_is_held_against_the_expected_one(
    inputs, expected_range, finding
):
    found = audit._check_range(np.array(inputs), expected_range)
    assert found.startswith(finding) and bool(found) == bool(finding)


@pytest.mark.parametrize(
    ("outputs", "finding"),
    [
        ([[0.25, 0.75], [1.0, 0.0]], ""),
        ([[2.0, -1.0]], "not probabilities: row sums 1...1"),
        ([[0.6, 0.6]], "not probabilities: row sums 1.2...1.2"),
        ([[0.6]], "not one probability a class: shape (1, 1)"),
        ([0.6], "not one probability a class: shape (1,)"),
        ([[np.nan, 1.0]], "not finite: training diverged"),
    ],
)
def test_outputs_are_probabilities_or_named(outputs, finding):
    assert audit._check_probabilities(outputs) == finding


def test_a_model_that_was_not_compiled_is_named(classifier, tiny_images):
    rows = audit_fine_tuning(classifier, snapshot_weights(classifier), tiny_images[0])
    assert find(rows)["compile"] == "not compiled"


def test_moves_are_those_worked_out_by_hand():
    classifier = attach_head(build_mlp_backbone((2,), hidden_units=(2,)), 2)
    hidden = classifier.layers[1].get_layer("dense_1")
    hidden.set_weights([np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([4.0, 0.0])])
    before = snapshot_weights(classifier)
    hidden.set_weights([np.array([[3.0, 1.0], [0.0, 0.0]]), np.array([4.0, 0.0])])
    [first, head] = measure_moves(classifier, before)
    assert first == {
        "layer": "mlp/dense_1",
        "trainable": True,
        "moved": pytest.approx(1 / 5),  # from norm sqrt(9 + 16) by 1
        "statistics_moved": None,
    }
    assert head["layer"] == "head" and head["moved"] == 0


def test_statistics_are_measured_apart_from_scale_and_offset(classifier):
    layer = classifier.layers[1].get_layer("batch_norm_1")
    before = snapshot_weights(classifier)
    gamma, beta, mean, variance = layer.get_weights()
    layer.set_weights([gamma, beta, mean, 1.5 * variance])
    rows = {row["layer"]: row for row in measure_moves(classifier, before)}
    assert rows["cnn/batch_norm_1"]["moved"] == 0
    assert rows["cnn/batch_norm_1"]["statistics_moved"] == pytest.approx(0.5)
    assert rows["cnn/batch_norm_2"]["statistics_moved"] == 0
    layer.set_weights([1.5 * gamma, beta, mean, variance])
    rows = {row["layer"]: row for row in measure_moves(classifier, before)}
    assert rows["cnn/batch_norm_1"]["moved"] == pytest.approx(0.5)
    assert rows["cnn/batch_norm_1"]["statistics_moved"] == 0


def test_a_weight_that_began_at_zero_has_moved_infinitely_far():
    layer = keras.layers.Dense(2, kernel_initializer="zeros", name="head")
    model = keras.Sequential([keras.Input((2,)), layer])
    before = snapshot_weights(model)
    assert measure_moves(model, before)[0]["moved"] == 0
    layer.set_weights([np.eye(2), np.zeros(2)])
    assert measure_moves(model, before)[0]["moved"] == np.inf


def test_a_snapshot_does_not_follow_the_weights(classifier):
    before = snapshot_weights(classifier)
    kept = before["head"][0].copy()
    classifier.get_layer("head").set_weights([kept + 1, before["head"][1]])
    np.testing.assert_array_equal(before["head"][0], kept)


def test_the_audit_changes_nothing(trained, tiny_images):
    classifier, before = trained
    weights, flags = classifier.get_weights(), len(classifier.trainable_variables)
    state = [v.numpy() for v in classifier.optimizer.variables]
    audit_fine_tuning(classifier, before, tiny_images[0])
    for old, new in zip(weights, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for old, new in zip(state, classifier.optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert len(classifier.trainable_variables) == flags


def test_the_table_prints_what_moved_and_counts_what_rests(trained, tiny_images):
    rows = audit_fine_tuning(*trained, tiny_images[0])
    lines = format_audit(rows).splitlines()
    assert lines[0].split() == ["part", "trainable", "moved", "statistics", "finding"]
    assert [line.split() for line in lines[1:5]] == [
        [part, "ok"] for part in ("inputs", "outputs", "compile", "backbone")
    ]
    assert lines[5].split()[:2] == ["cnn/conv_1", "yes"]
    assert lines[-1] == "(2 more layers are frozen and at rest)"
    assert len(lines) == 9  # conv_1, conv_2 and head, and the four lines of checks


def test_the_table_shows_every_finding(classifier, tiny_images):
    before = snapshot_weights(classifier)
    train(classifier, tiny_images, learning_rate=0.3)
    rows = audit_fine_tuning(classifier, before, tiny_images[0] / 255)
    text = format_audit(rows)
    assert len(find(rows)) >= 4
    assert all(finding in text for finding in find(rows).values())


def test_the_file_can_be_pasted_alone(trained, tiny_images):
    namespace = {}
    exec(inspect.getsource(audit), namespace)
    expected = audit_fine_tuning(*trained, tiny_images[0])
    assert namespace["audit_fine_tuning"](*trained, tiny_images[0]) == expected


def test_a_snapshot_of_another_model_is_named(classifier):
    other = attach_head(build_cnn_backbone(SHAPE, filters=(4, 5)), 3)
    with pytest.raises(ValueError, match="`before` .* 'cnn/conv_2'"):
        measure_moves(classifier, snapshot_weights(other))
    with pytest.raises(ValueError, match="`before` .* 'cnn/conv_1'"):
        measure_moves(classifier, {})


def test_an_empty_batch_is_named(trained, tiny_images):
    with pytest.raises(ValueError, match="`inputs` must hold at least one row"):
        audit_fine_tuning(*trained, tiny_images[0][:0])
