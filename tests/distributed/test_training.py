"""The training loop in one process, with one replica."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from transfer_tutorial.distributed import (
    EpochCheckpoints,
    evaluate_on_workers,
    scale_learning_rate,
    shuffle_rows,
    train_on_workers,
)

NUM_ROWS = 30
SIZES = {"steps_per_epoch": 3, "global_batch_size": 8}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    y = np.arange(NUM_ROWS) % 3
    return (rng.normal(size=(NUM_ROWS, 4)) + y[:, None]).astype("float32"), y


@pytest.fixture
def make_rows(arrays):
    return lambda epoch: shuffle_rows(*arrays, epoch=epoch)


def build_classifier(units=5):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(0.3, seed=3),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


def build_optimizer():
    """One whose next step depends on all steps before, by moments and by a schedule."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 20))


def train(make_rows, epochs, folder=None, **changed):
    options = {
        "build_classifier": build_classifier,
        "build_optimizer": build_optimizer,
        "make_rows": make_rows,
        "strategy": tf.distribute.get_strategy(),
        "epochs": epochs,
        "checkpoints": folder and EpochCheckpoints(folder),
        **SIZES,
        **changed,
    }
    return train_on_workers(**options)


def forbid_rows(epoch):
    raise AssertionError(f"epoch {epoch} is trained")


def test_learning_rate_grows_in_proportion_to_the_batch():
    assert scale_learning_rate(0.1, 256) == pytest.approx(0.1)
    assert scale_learning_rate(0.1, 8192) == pytest.approx(3.2)
    assert scale_learning_rate(0.1, 64, base_batch_size=32) == pytest.approx(0.2)


@pytest.mark.parametrize("sizes", [(0, 256), (256, 0)])
def test_learning_rate_of_an_empty_batch_is_refused(sizes):
    received = f"global_batch_size={sizes[0]}, base_batch_size={sizes[1]}"
    with pytest.raises(ValueError, match=f"must be at least 1. Received: {received}"):
        scale_learning_rate(0.1, sizes[0], base_batch_size=sizes[1])


def test_order_of_rows_belongs_to_epoch_and_seed():
    def order(**options):
        return [int(x) for x, _ in shuffle_rows(range(20), range(20), **options)]

    first = order(epoch=0)
    assert sorted(first) == list(range(20))
    keras.utils.set_random_seed(9)
    assert order(epoch=0) == first
    assert order(epoch=1) != first
    assert order(epoch=0, seed=1) not in (first, order(epoch=1))


def test_rows_keep_their_labels(arrays):
    x, y = arrays
    pairs = {(tuple(row), label) for row, label in zip(x.tolist(), y, strict=True)}
    shuffled = shuffle_rows(x, y, epoch=4).as_numpy_iterator()
    assert {(tuple(row.tolist()), label) for row, label in shuffled} == pairs


def test_rows_and_labels_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"same length.* len\(x\)=3, len\(y\)=2"):
        shuffle_rows(np.zeros(3), np.zeros(2), epoch=0)


def test_resumed_training_ends_with_the_very_weights_of_an_undisturbed_one(
    make_rows, tmp_path
):
    keras.utils.set_random_seed(0)
    undisturbed, losses = train(make_rows, 3)
    keras.utils.set_random_seed(0)
    train(make_rows, 1, tmp_path)
    keras.utils.set_random_seed(1)
    resumed, resumed_losses = train(make_rows, 3, tmp_path)
    assert resumed_losses == losses
    for weights, expected in zip(
        resumed.get_weights(), undisturbed.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weights, expected)
    # A training that is complete already is only read.
    read, read_losses = train(forbid_rows, 3, tmp_path)
    assert read_losses == losses
    np.testing.assert_array_equal(read.get_weights()[0], resumed.get_weights()[0])


def test_a_checkpoint_of_another_training_is_refused(make_rows, tmp_path):
    train(make_rows, 1, tmp_path)
    with pytest.raises(
        ValueError, match="`global_batch_size` must be those .* 24 rows in 1 epochs"
    ):
        train(forbid_rows, 2, tmp_path, steps_per_epoch=2)
    with pytest.raises(ValueError, match="must build what was saved"):
        train(forbid_rows, 2, tmp_path, build_classifier=lambda: build_classifier(6))
    with pytest.raises(ValueError, match="must build what was saved"):
        train(forbid_rows, 2, tmp_path, build_optimizer=keras.optimizers.SGD)


def test_rows_may_have_no_end(make_rows):
    _, losses = train(lambda epoch: make_rows(epoch).repeat(), 1)
    assert len(losses) == 1


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda rows: rows.take(23), "23 rows, 24 needed"),
        (lambda rows: rows.filter(lambda x, y: True), "-2 rows, 24 needed"),
    ],
)
def test_too_few_rows_are_refused(make_rows, change, received):
    with pytest.raises(ValueError, match=f"`make_rows` must .* Received: {received}"):
        train(lambda epoch: change(make_rows(epoch)), 1)


@pytest.mark.parametrize("name", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_clipping_by_each_replica_is_refused(name):
    with pytest.raises(ValueError, match=f"`build_optimizer` .* Received: {name}=1.0"):
        train(
            forbid_rows,
            1,
            build_optimizer=lambda: keras.optimizers.SGD(0.1, **{name: 1.0}),
        )


def test_a_loss_that_is_a_mean_is_refused(make_rows, arrays):
    mean_loss = keras.losses.SparseCategoricalCrossentropy()
    with pytest.raises(ValueError, match=r"`loss` must .* Received: shape \(\)"):
        train(make_rows, 1, loss=mean_loss)
    with pytest.raises(ValueError, match=r"`loss` must .* Received: shape \(\)"):
        evaluate_on_workers(
            build_classifier(),
            tf.data.Dataset.from_tensor_slices(arrays),
            strategy=tf.distribute.get_strategy(),
            global_batch_size=8,
            loss=mean_loss,
        )


@pytest.mark.parametrize("size", [0, 7, -4])
def test_a_batch_that_replicas_cannot_share_equally_is_refused(size):
    strategy = types.SimpleNamespace(num_replicas_in_sync=4)
    message = f"a multiple of 4, .* Received: global_batch_size={size}"
    with pytest.raises(ValueError, match=message):
        train(forbid_rows, 1, strategy=strategy, global_batch_size=size)
    with pytest.raises(ValueError, match=message):
        evaluate_on_workers(None, None, strategy=strategy, global_batch_size=size)


def test_evaluation_counts_a_smaller_last_batch_by_its_rows(arrays):
    x, y = arrays
    classifier = build_classifier()
    options = {"strategy": tf.distribute.get_strategy(), "global_batch_size": 8}
    rows = tf.data.Dataset.from_tensor_slices((x, y))
    probabilities = classifier(x, training=False).numpy()
    assert evaluate_on_workers(classifier, rows, **options) == {
        "loss": pytest.approx(-np.log(probabilities[np.arange(NUM_ROWS), y]).mean()),
        "accuracy": pytest.approx(np.mean(probabilities.argmax(axis=1) == y)),
        "num_rows": NUM_ROWS,
    }
    with pytest.raises(ValueError, match="`rows` must have at least one row"):
        evaluate_on_workers(classifier, rows.take(0), **options)
