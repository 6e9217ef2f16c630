"""Two real workers on loopback: what they agree on, and what survives their death."""

import json
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from distributed.processes import PROCESSES, find_free_ports, run_to_the_end
from distributed.worker import (
    EPOCHS,
    GLOBAL_BATCH_SIZE,
    NUM_TEST_ROWS,
    PENALTY,
    STEPS_PER_EPOCH,
    build_classifier,
    build_optimizer,
    make_arrays,
    make_rows_of_epoch,
    run_replicas,
    run_worker,
)


def make_workers(folder, faults):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in find_free_ports(2)]}
    for index, fault in enumerate(faults):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        yield PROCESSES.Process(target=run_worker, args=(folder, config, fault))


def run_workers(folder, *, faults=(None, None)):
    """Run both workers; the exit codes of those with a fault, or of both without."""
    workers = list(make_workers(folder, faults))
    awaited = [w for w, fault in zip(workers, faults, strict=True) if fault]
    return run_to_the_end(workers, awaited or workers)


def read_logs(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("log*.txt")))


def read_seen(folder):
    return [json.loads((folder / f"seen_{i}.json").read_text()) for i in (0, 1)]


def list_checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints_0").iterdir())


def assert_same_checkpoint(folder, other, name):
    paths = [f / "checkpoints_0" / name for f in (folder, other)]
    with np.load(paths[0]) as first, np.load(paths[1]) as second:
        assert first.files == second.files
        for array in first.files:
            np.testing.assert_array_equal(first[array], second[array])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of two workers that trained without a fault."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run_workers(folder) == [0, 0], read_logs(folder)
    return folder


@pytest.fixture(scope="module")
def worker_killed(tmp_path_factory):
    """The folder after the second worker died in the middle of the second epoch."""
    folder = tmp_path_factory.mktemp("disturbed")
    codes = run_workers(folder, faults=(None, (1, 1)))
    assert codes == [-signal.SIGKILL], read_logs(folder)
    return folder


@pytest.fixture(scope="module")
def chief_killed(worker_killed, tmp_path_factory):
    """The same after a restart in which the chief died, in the third epoch."""
    folder = tmp_path_factory.mktemp("disturbed_again")
    shutil.copytree(worker_killed, folder, dirs_exist_ok=True)
    codes = run_workers(folder, faults=((2, 1), None))
    assert codes == [-signal.SIGKILL], read_logs(folder)
    return folder


@pytest.fixture(scope="module")
def half_written(chief_killed, tmp_path_factory):
    """The same after a restart that found half of the newest checkpoint."""
    folder = tmp_path_factory.mktemp("half_written")
    shutil.copytree(chief_killed, folder, dirs_exist_ok=True)
    newest = folder / "checkpoints_0" / "epoch_00002.npz"
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    assert run_workers(folder) == [0, 0], read_logs(folder)
    return folder


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """What two replicas in one process have seen."""
    folder = tmp_path_factory.mktemp("replicas")
    process = PROCESSES.Process(target=run_replicas, args=(folder,))
    assert run_to_the_end([process], [process]) == [0], read_logs(folder)
    return json.loads((folder / "seen.json").read_text())


def train_by_hand(shares):
    """The whole training in one process, with one replica and without the package.

    Only BatchNorm sees the rows of each share by themselves.
    """
    keras.utils.set_random_seed(0)  # the chief's
    classifier, optimizer = build_classifier(), build_optimizer()
    statistics = classifier.layers[1].non_trainable_variables
    cross_entropy = keras.losses.SparseCategoricalCrossentropy()
    mean_losses = []
    for epoch in range(EPOCHS):
        x, y = (np.array(a) for a in zip(*make_rows_of_epoch(epoch), strict=True))
        copies = [[v.numpy() for v in statistics]] * 2
        losses = []
        for step in range(STEPS_PER_EPOCH):
            rows = slice(step * GLOBAL_BATCH_SIZE, (step + 1) * GLOBAL_BATCH_SIZE)
            with tf.GradientTape() as tape:
                loss = PENALTY * tf.reduce_sum(classifier.layers[0].kernel ** 2)
                for replica, share in enumerate(shares):
                    for v, value in zip(statistics, copies[replica], strict=True):
                        v.assign(value)
                    half = classifier(x[rows][share], training=True)
                    loss += cross_entropy(y[rows][share], half) / 2
                    copies[replica] = [v.numpy() for v in statistics]
            weights = classifier.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)
            losses.append(float(loss))
        for variable, pair in zip(statistics, zip(*copies, strict=True), strict=True):
            variable.assign(np.mean(pair, axis=0))
        mean_losses.append(np.mean(losses))
    return classifier, mean_losses


def test_workers_end_with_identical_weights_and_losses(undisturbed):
    chief, other = read_seen(undisturbed)
    assert chief["weights"] == other["weights"]
    assert chief["losses"] == other["losses"]


def test_workers_train_as_one_process_does_by_hand(undisturbed):
    seen = read_seen(undisturbed)[0]
    # Workers take rows in turn.
    classifier, losses = train_by_hand([slice(0, None, 2), slice(1, None, 2)])
    assert seen["losses"] == pytest.approx(losses, rel=1e-4)
    for weights, expected in zip(seen["weights"], classifier.weights, strict=True):
        np.testing.assert_allclose(weights, expected.numpy(), rtol=1e-3, atol=1e-4)


def assert_scores_belong_to(scores, weights):
    classifier = build_classifier()
    classifier.set_weights([np.array(w) for w in weights])
    x, y = make_arrays(NUM_TEST_ROWS, seed=2)
    probabilities = classifier(x, training=False).numpy()
    assert scores == {
        "loss": pytest.approx(-np.log(probabilities[np.arange(len(y)), y]).mean()),
        "accuracy": pytest.approx(np.mean(probabilities.argmax(axis=1) == y)),
        "num_rows": NUM_TEST_ROWS,
    }


def test_evaluation_on_workers_counts_every_row_once(undisturbed):
    chief, other = read_seen(undisturbed)
    assert chief["scores"] == other["scores"]
    assert_scores_belong_to(chief["scores"], chief["weights"])


def test_the_chief_alone_writes_whole_files(undisturbed):
    assert list_checkpoints(undisturbed) == [
        f"epoch_{epoch:05d}.npz" for epoch in range(1, EPOCHS + 1)
    ]
    assert not (undisturbed / "checkpoints_1").exists()


def test_a_killed_worker_costs_the_epoch_that_it_was_in(worker_killed, undisturbed):
    assert list_checkpoints(worker_killed) == ["epoch_00001.npz"]
    assert_same_checkpoint(worker_killed, undisturbed, "epoch_00001.npz")


def test_after_a_restart_an_epoch_ends_as_if_no_worker_had_died(
    chief_killed, undisturbed
):
    assert list_checkpoints(chief_killed) == ["epoch_00001.npz", "epoch_00002.npz"]
    assert_same_checkpoint(chief_killed, undisturbed, "epoch_00002.npz")


def test_a_half_written_checkpoint_is_skipped_with_a_warning(half_written):
    chief, other = read_seen(half_written)
    assert chief["epochs"] == other["epochs"] == [1, 2]
    assert len(chief["warnings"]) == 1
    assert "epoch_00002.npz is damaged and is skipped" in chief["warnings"][0]


def test_after_all_deaths_the_training_ends_with_the_undisturbed_weights(
    half_written, undisturbed
):
    for seen, expected in zip(
        read_seen(half_written), read_seen(undisturbed), strict=True
    ):
        assert seen["weights"] == expected["weights"]
        assert seen["losses"] == expected["losses"]
        assert seen["scores"] == expected["scores"]
    assert_same_checkpoint(half_written, undisturbed, "epoch_00003.npz")


def test_fit_trains_on_two_devices_of_one_machine(replicas):
    assert replicas["num_replicas"] == 2
    assert replicas["fit_losses"][-1] < 0.7 * replicas["fit_losses"][0]


def test_after_fit_each_device_has_its_own_statistics_and_one_is_saved(replicas):
    first, second = replicas["fit_means"]
    assert first != second
    assert replicas["saved_mean"] == first


def test_two_devices_train_as_one_process_does_by_hand(replicas):
    # Devices of one worker take one half each.
    half = GLOBAL_BATCH_SIZE // 2
    classifier, losses = train_by_hand([slice(0, half), slice(half, None)])
    assert replicas["losses"] == pytest.approx(losses, rel=1e-4)
    for copies, expected in zip(replicas["weights"], classifier.weights, strict=True):
        assert copies[0] == copies[1]
        np.testing.assert_allclose(copies[0], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_evaluation_on_two_devices_counts_every_row_once(replicas):
    first_copies = [copies[0] for copies in replicas["weights"]]
    assert_scores_belong_to(replicas["scores"], first_copies)
