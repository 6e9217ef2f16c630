"""What each process of a training on loopback runs; what it saw goes to a file."""

import json
import os
import resource
import signal
import warnings

import keras
import numpy as np
import tensorflow as tf

from transfer_tutorial.distributed import (
    EpochCheckpoints,
    check_cluster,
    evaluate_on_workers,
    read_tf_config,
    shuffle_rows,
    train_on_workers,
)

EPOCHS = 3
STEPS_PER_EPOCH = 3
GLOBAL_BATCH_SIZE = 8
PENALTY = 0.01
NUM_TEST_ROWS = 17  # two full batches; the last row leaves one replica without any


def make_rows_of_epoch(epoch):
    """27 rows of three classes, three of which no step of the epoch takes."""
    x, y = make_arrays(27, seed=1)
    return shuffle_rows(x, y, epoch=epoch, seed=5)


def make_arrays(num_rows, *, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(num_rows) % 3
    x = rng.normal(size=(num_rows, 4)) + y[:, None]
    return x.astype("float32"), y


def build_classifier():
    """With all that replicas must agree on: a penalty, BatchNorm, a frozen layer."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, kernel_regularizer=keras.regularizers.L2(PENALTY)),
            layers.BatchNormalization(momentum=0.8),
            layers.Dense(5, activation="relu", trainable=False),
            layers.Dense(3, activation="softmax"),
        ]
    )


def build_optimizer():
    return keras.optimizers.SGD(0.2, momentum=0.9)


class Recorder:
    """Notes which epochs are trained, and kills the process at a step if told so."""

    def __init__(self, fault):
        self.fault = fault
        self.epochs = []
        self.step = 0

    def make_rows(self, epoch):
        self.epochs.append(epoch)
        self.step = 0
        return make_rows_of_epoch(epoch)

    def loss(self, y, probabilities):
        counted = tf.numpy_function(self.count_step, [y], y.dtype)
        counted.set_shape(y.shape)
        return keras.losses.sparse_categorical_crossentropy(counted, probabilities)

    def count_step(self, y):
        if self.fault == (self.epochs[-1], self.step):
            os.kill(os.getpid(), signal.SIGKILL)
        self.step += 1
        return y


def redirect_output(path):
    with open(path, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def run_worker(folder, config, fault):
    """Train, evaluate, and write `seen_0.json` or `seen_1.json`.

    With a fault `(epoch, step)` the process kills itself in that step.
    """
    redirect_output(folder / f"log_{config['task']['index']}.txt")
    os.environ["TF_CONFIG"] = json.dumps(config)
    # The workers reach each other without a proxy, and use no GPU.
    os.environ.update({"no_proxy": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""})
    check_cluster()
    _, position = read_tf_config()
    # Each worker starts from other weights and has a disk of its own.
    keras.utils.set_random_seed(position)
    tf.config.experimental.enable_op_determinism()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    recorder = Recorder(fault)
    with warnings.catch_warnings(record=True) as caught:
        classifier, losses = train_on_workers(
            build_classifier,
            build_optimizer,
            recorder.make_rows,
            strategy=strategy,
            epochs=EPOCHS,
            steps_per_epoch=STEPS_PER_EPOCH,
            global_batch_size=GLOBAL_BATCH_SIZE,
            checkpoints=EpochCheckpoints(folder / f"checkpoints_{position}"),
            loss=recorder.loss,
        )
    scores = evaluate_on_workers(
        classifier,
        tf.data.Dataset.from_tensor_slices(make_arrays(NUM_TEST_ROWS, seed=2)),
        strategy=strategy,
        global_batch_size=GLOBAL_BATCH_SIZE,
    )
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seen = {
        "weights": [np.asarray(w).tolist() for w in classifier.get_weights()],
        "losses": losses,
        "epochs": recorder.epochs,
        "warnings": [str(w.message) for w in caught],
        "scores": scores,
        "seconds": usage.ru_utime + usage.ru_stime,
    }
    (folder / f"seen_{position}.json").write_text(json.dumps(seen))


def run_replicas(folder):
    """Train on two logical devices of one process, by `fit` and by the package."""
    redirect_output(folder / "log.txt")
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, devices)
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        fitted = build_classifier()
        fitted.compile(build_optimizer(), "sparse_categorical_crossentropy")
    x, y = make_arrays(48, seed=1)
    history = fitted.fit(x, y, batch_size=GLOBAL_BATCH_SIZE, epochs=8, verbose=0)
    keras.utils.set_random_seed(0)
    classifier, losses = train_on_workers(
        build_classifier,
        build_optimizer,
        make_rows_of_epoch,
        strategy=strategy,
        epochs=EPOCHS,
        steps_per_epoch=STEPS_PER_EPOCH,
        global_batch_size=GLOBAL_BATCH_SIZE,
    )
    scores = evaluate_on_workers(
        classifier,
        tf.data.Dataset.from_tensor_slices(make_arrays(NUM_TEST_ROWS, seed=2)),
        strategy=strategy,
        global_batch_size=GLOBAL_BATCH_SIZE,
    )
    seen = {
        "num_replicas": strategy.num_replicas_in_sync,
        "fit_losses": history.history["loss"],
        "fit_means": [
            copy.numpy().tolist() for copy in fitted.layers[1].moving_mean.value.values
        ],
        "saved_mean": fitted.layers[1].get_weights()[2].tolist(),
        "weights": [
            [copy.numpy().tolist() for copy in variable.value.values]
            for variable in classifier.weights
        ],
        "losses": losses,
        "scores": scores,
    }
    (folder / "seen.json").write_text(json.dumps(seen))
