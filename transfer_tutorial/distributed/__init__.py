"""Features, training and seeds on several GPUs of one machine, or on several machines.

Several GPUs of one machine need nothing from this package. Build and compile inside the
scope of a `tf.distribute.MirroredStrategy`, and `fit` divides each batch among them::

    strategy = tf.distribute.MirroredStrategy()
    with strategy.scope():
        classifier = attach_head(build_cnn_backbone((32, 32, 3)), 10)
        classifier.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    classifier.fit(dataset, epochs=5)  # batches of the global batch size

Each GPU then keeps BatchNormalization statistics of its own, and those of the first are
saved. Several machines need the loop of `train_on_workers`, because under Keras 3 `fit`
fails with a `tf.distribute.MultiWorkerMirroredStrategy`. The same script runs on every
machine, each with its own index in the environment variable `TF_CONFIG`::

    check_cluster()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    classifier, losses = train_on_workers(
        build_classifier,  # returns an uncompiled classifier
        lambda: keras.optimizers.SGD(scale_learning_rate(0.1, 512)),
        lambda epoch: shuffle_rows(x, y, epoch=epoch),
        strategy=strategy,
        epochs=5,
        steps_per_epoch=len(x) // 512,
        global_batch_size=512,
        checkpoints=EpochCheckpoints("checkpoints"),
    )

If a machine fails, stop the script on all machines and start it on all again: it goes
on from the last epoch that was saved. Afterwards `evaluate_on_workers` takes the same
strategy, and the chief alone should save the classifier.

What needs no agreement needs no strategy: features, which are computed picture by
picture, and seeds, of which none knows of another. Both go through Ray, an extra
(`pip install "transfer-tutorial[scale]"`), and a cluster differs from a laptop by the
address alone::

    with connect_to_ray(address):  # None: this machine
        extract_features_on_workers(folder, "features", build_backbone, load_images)
        with joblib.parallel_config("ray", n_jobs=8):
            scores = run_strategies(strategies, seeds=range(5))
"""

from transfer_tutorial.distributed.checkpoints import EpochCheckpoints
from transfer_tutorial.distributed.cluster import check_cluster, read_tf_config
from transfer_tutorial.distributed.features import extract_features_on_workers
from transfer_tutorial.distributed.loading import load_features
from transfer_tutorial.distributed.preparation import scale_learning_rate, shuffle_rows
from transfer_tutorial.distributed.ray_cluster import connect_to_ray
from transfer_tutorial.distributed.training import (
    evaluate_on_workers,
    train_on_workers,
)

__all__ = [
    "read_tf_config",
    "check_cluster",
    "scale_learning_rate",
    "shuffle_rows",
    "train_on_workers",
    "evaluate_on_workers",
    "EpochCheckpoints",
    "connect_to_ray",
    "extract_features_on_workers",
    "load_features",
]
