import keras
import numpy as np
import pytest

from transfer_tutorial.backbones import (
    attach_head,
    build_cnn_backbone,
    build_mlp_backbone,
)
from transfer_tutorial.fine_tuning import freeze_batch_norm
from transfer_tutorial.l2_sp import L2SP, add_l2_sp

SHAPE = (8, 8, 3)
LOSS = "sparse_categorical_crossentropy"


@pytest.fixture
def classifier():
    return attach_head(build_mlp_backbone(SHAPE, hidden_units=(5, 4)), 3)


def train(classifier, data, *, epochs=3):
    classifier.compile(keras.optimizers.SGD(0.01), LOSS)
    classifier.fit(*data, epochs=epochs, shuffle=False, verbose=0)


def test_penalty_is_the_one_worked_out_by_hand():
    penalty = L2SP(np.array([1.0, 2.0]), 0.5)
    # 0.5 / 2 * (3^2 + 4^2)
    assert float(penalty(keras.ops.array([4.0, -2.0]))) == pytest.approx(6.25)
    assert float(penalty(keras.ops.array([1.0, 2.0]))) == 0


def test_penalty_pulls_by_strength_times_the_way():
    variable = keras.Variable(np.array([4.0, -2.0], "float32"))
    variable.regularizer = L2SP(np.array([1.0, 2.0]), 0.5)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = variable.regularizer(variable)
    np.testing.assert_allclose(tape.gradient(loss, variable.value), [1.5, -2.0])


def test_the_loss_of_fit_and_evaluate_grows_by_the_penalty(classifier, tiny_images):
    backbone = classifier.layers[1]
    classifier.compile("sgd", LOSS)
    add_l2_sp(backbone, 3.0)
    start = backbone.get_weights()
    classifier.compile("sgd", LOSS)
    free = classifier.evaluate(*tiny_images, verbose=0)  # no way yet, no penalty
    backbone.set_weights([w + 0.1 for w in start])
    moved = keras.losses.sparse_categorical_crossentropy(
        tiny_images[1], classifier(tiny_images[0]).numpy()
    )
    penalty = 1.5 * 0.1**2 * sum(w.size for w in start)
    loss = classifier.evaluate(*tiny_images, verbose=0)
    assert loss == pytest.approx(float(np.mean(moved)) + penalty, rel=1e-3)
    assert loss != pytest.approx(free)


def test_a_strong_penalty_keeps_the_backbone_and_not_the_head(classifier, tiny_images):
    backbone, head = classifier.layers[1], classifier.get_layer("head")
    start, head_start = classifier.get_weights(), head.get_weights()

    def measure_way():
        pairs = zip(backbone.get_weights(), start[:4], strict=True)
        return sum(np.sum(np.square(now - then)) for now, then in pairs)

    train(classifier, tiny_images)
    free = measure_way()
    classifier.set_weights(start)
    add_l2_sp(backbone, 50.0)
    train(classifier, tiny_images)
    assert 0 < measure_way() < 0.5 * free
    assert np.any(head.get_weights()[0] != head_start[0])
    assert len(classifier.losses) == len(backbone.trainable_variables) == 4


def test_strength_zero_takes_the_penalty_away(classifier, tiny_images):
    start = classifier.get_weights()
    train(classifier, tiny_images)
    free = classifier.get_weights()
    classifier.set_weights(start)
    add_l2_sp(classifier.layers[1], 50.0)
    add_l2_sp(classifier.layers[1], 0)
    assert classifier.losses == []
    train(classifier, tiny_images)
    for old, new in zip(free, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_frozen_weights_are_not_tied():
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    freeze_batch_norm(backbone)
    add_l2_sp(backbone, 1.0)
    assert len(backbone.losses) == 2  # the two kernels


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_penalty_is_not_saved_with_the_model(classifier, tmp_path):
    add_l2_sp(classifier.layers[1], 1.0)
    assert len(classifier.losses) == 4
    classifier.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").losses == []


def test_a_penalty_comes_back_from_its_settings():
    penalty = L2SP(np.array([[1.0, 2.0]]), 0.5)
    again = L2SP.from_config(penalty.get_config())
    x = keras.ops.array([[4.0, -2.0]])
    assert float(again(x)) == float(penalty(x))


@pytest.mark.parametrize("strength", [-1, -1e-9, np.nan])
def test_a_negative_strength_is_named(classifier, strength):
    with pytest.raises(ValueError, match="`strength` must be at least 0. Received: "):
        add_l2_sp(classifier.layers[1], strength)
    with pytest.raises(ValueError, match="`strength` must be at least 0. Received: "):
        L2SP(np.zeros(2), strength)


def test_a_frozen_backbone_is_named(classifier):
    classifier.layers[1].trainable = False
    with pytest.raises(ValueError, match="`backbone` .* Received: 'mlp', which is"):
        add_l2_sp(classifier.layers[1], 1.0)
