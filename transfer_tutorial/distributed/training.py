"""One training by several replicas: GPUs of one machine, or workers on several."""

import keras
import numpy as np
import tensorflow as tf


def train_on_workers(
    build_classifier,
    build_optimizer,
    make_rows,
    *,
    strategy,
    epochs,
    steps_per_epoch,
    global_batch_size,
    checkpoints=None,
    loss=keras.losses.sparse_categorical_crossentropy,
):
    """Train one classifier on all replicas of a strategy; each worker calls it.

    A step takes `global_batch_size` rows. Each worker keeps its share of them, and the
    losses are summed over the replicas and divided by the global batch size, penalties
    of regularizers by the number of replicas: the gradient is that of one machine with
    the whole batch. Two kinds of layers see the replicas. In BatchNormalization each
    replica normalises by its own rows, and the moving statistics of all are averaged at
    the end of an epoch (`synchronized=True` in the layer normalises by all rows).
    Dropout draws the same mask on each replica.

    The chief saves the weights, the optimizer's state and the position in the data
    after each epoch, and alone reads them: a second call with the same arguments goes
    on from there and ends, on CPUs, with the very weights of an undisturbed run. If a
    worker fails, restart all.

    Args:
        build_classifier: Function without arguments; returns an uncompiled classifier.
        build_optimizer: Function without arguments; returns a Keras optimizer.
        make_rows: Function of the number of the epoch, from 0. Returns a dataset of
            single `(x, y)` rows, at least `steps_per_epoch * global_batch_size`, the
            same on all workers, such as `shuffle_rows` makes. Each worker reads all
            and keeps its share.
        strategy: A `tf.distribute.Strategy`, with one or more replicas.
        epochs: Number of epochs, those before an interruption included.
        steps_per_epoch: Steps of one epoch. The rows left over are not used in it.
        global_batch_size: Rows of one step, a multiple of the number of replicas.
        checkpoints: An `EpochCheckpoints`, or None to save nothing.
        loss: Function of `(y, probabilities)`; returns the loss of each row, not their
            mean.

    Returns:
        `(classifier, losses)`: the classifier, with the same weights on all workers,
        and a list of the mean loss of each epoch, penalties included.

    Raises:
        ValueError: If the replicas cannot share the batch equally, the optimizer clips
            gradients, the loss is not one of rows, there are too few rows, or the
            checkpoint is of another training.
    """
    _check_batch_size(global_batch_size, strategy)
    with strategy.scope():
        classifier, optimizer = build_classifier(), build_optimizer()
        optimizer.build(classifier.trainable_variables)
    _refuse_clipping(optimizer)
    variables = [*classifier.variables, *optimizer.variables]
    rows_per_epoch = steps_per_epoch * global_batch_size
    losses = _resume(variables, checkpoints, strategy, rows_per_epoch)
    step = _make_train_step(classifier, optimizer, loss, strategy, global_batch_size)
    for epoch in range(len(losses), epochs):
        rows = _take_rows(make_rows(epoch), rows_per_epoch)
        batches = _share_out(rows, strategy, global_batch_size)
        losses.append(sum(float(step(*b)) for b in batches) / steps_per_epoch)
        _average_statistics(classifier, strategy)
        if checkpoints is not None and strategy.extended.should_checkpoint:
            state = {f"variable_{i}": v.numpy() for i, v in enumerate(variables)}
            position = [epoch + 1, (epoch + 1) * rows_per_epoch]
            checkpoints.save(
                epoch + 1, {"position": position, "losses": losses, **state}
            )
    return classifier, losses


def evaluate_on_workers(
    classifier,
    rows,
    *,
    strategy,
    global_batch_size,
    loss=keras.losses.sparse_categorical_crossentropy,
):
    """Evaluate a classifier on all replicas; each row counts once.

    Each worker calls it, and reads its share of the rows.

    Args:
        classifier: The classifier that `train_on_workers` returns.
        rows: A dataset of single `(x, integer label)` rows, the same on all workers.
        strategy: The strategy of the training.
        global_batch_size: Rows of one step, a multiple of the number of replicas. The
            last batch may be smaller, and some replicas' share of it empty.
        loss: Function of `(y, probabilities)`; returns the loss of each row, not their
            mean.

    Returns:
        Dict of `"loss"`, the mean without penalties, `"accuracy"` in 0...1, and
        `"num_rows"`: the same on all workers.

    Raises:
        ValueError: If the replicas cannot share a batch equally, the loss is not one
            of rows, or `rows` is empty.
    """
    _check_batch_size(global_batch_size, strategy)

    def replica_step(x, y):
        probabilities = classifier(x, training=False)
        labels = tf.cast(tf.reshape(y, [-1]), "int64")
        correct = tf.argmax(probabilities, axis=-1) == labels
        sums = [_sum_rows(loss(y, probabilities)), tf.math.count_nonzero(correct)]
        return tf.stack([tf.cast(s, "float64") for s in [*sums, tf.size(y)]])

    @tf.function
    def step(x, y):
        return strategy.reduce(
            "SUM", strategy.run(replica_step, args=(x, y)), axis=None
        )

    totals = np.zeros(3)
    for batch in _share_out(rows, strategy, global_batch_size):
        totals += step(*batch).numpy()
    if totals[2] == 0:
        raise ValueError("`rows` must have at least one row. Received: none.")
    mean_loss, accuracy = totals[:2] / totals[2]
    return {"loss": mean_loss, "accuracy": accuracy, "num_rows": int(totals[2])}


def _check_batch_size(global_batch_size, strategy):
    replicas = strategy.num_replicas_in_sync
    if global_batch_size < 1 or global_batch_size % replicas:
        raise ValueError(
            f"`global_batch_size` must be a multiple of {replicas}, the number of "
            f"replicas. Received: global_batch_size={global_batch_size}."
        )


def _refuse_clipping(optimizer):
    # Keras clips before it sums over the replicas: each would clip a share.
    for name in ("clipnorm", "clipvalue", "global_clipnorm"):
        if getattr(optimizer, name, None) is not None:
            raise ValueError(
                f"`build_optimizer` must not set `{name}`: each replica would clip its "
                f"share of the gradient. Received: {name}={getattr(optimizer, name)}."
            )


def _take_rows(rows, number):
    available = int(rows.cardinality())
    if available < number and available != tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`make_rows` must return at least `steps_per_epoch * global_batch_size` "
            "rows, and a dataset that knows their number (-2: it does not; tell it by "
            "`tf.data.experimental.assert_cardinality`). "
            f"Received: {available} rows, {number} needed."
        )
    return rows.take(number)


def _share_out(rows, strategy, global_batch_size):
    """Batches of all workers; worker i of n reads the rows i, i + n, i + 2n, ..."""

    def make_share(context):
        share = rows.shard(context.num_input_pipelines, context.input_pipeline_id)
        size = context.get_per_replica_batch_size(global_batch_size)
        return share.batch(size).prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(make_share)


def _sum_rows(row_losses):
    if row_losses.shape.rank != 1:
        raise ValueError(
            "`loss` must return the loss of each row, of shape (n,), such as "
            "`keras.losses.sparse_categorical_crossentropy` does. "
            f"Received: shape {row_losses.shape}."
        )
    return tf.reduce_sum(row_losses)


def _make_train_step(classifier, optimizer, loss, strategy, global_batch_size):
    def replica_step(x, y):
        with tf.GradientTape() as tape:
            total = _sum_rows(loss(y, classifier(x, training=True)))
            penalties = sum(classifier.losses) / strategy.num_replicas_in_sync
            share = total / global_batch_size + penalties
        # Keras sums the gradients over the replicas before it applies them.
        gradients = tape.gradient(share, classifier.trainable_variables)
        optimizer.apply(gradients, classifier.trainable_variables)
        return share

    @tf.function
    def step(x, y):
        return strategy.reduce(
            "SUM", strategy.run(replica_step, args=(x, y)), axis=None
        )

    return step


def _average_statistics(classifier, strategy):
    """Give all replicas the mean of what each has counted by itself."""
    counted = [v for v in classifier.non_trainable_variables if "float" in v.dtype]

    @tf.function
    def average():
        # In float64 the mean of equal float32 values is that value, bit for bit.
        copies = strategy.run(lambda: [tf.cast(v.value, "float64") for v in counted])
        return [strategy.reduce("MEAN", copy, axis=None) for copy in copies]

    if counted:
        for variable, mean in zip(counted, average(), strict=True):
            variable.assign(tf.cast(mean, variable.dtype))


def _share_from_chief(value, strategy):
    """Return the value of the chief's process on all workers, as float64."""
    if np.size(value) == 0:  # TensorFlow crashes when it sums empty tensors
        return tf.constant(value, "float64")

    def get_value(context):
        is_chief = context.replica_id_in_sync_group == 0
        return tf.constant(value if is_chief else np.zeros_like(value), "float64")

    values = strategy.experimental_distribute_values_from_function(get_value)
    return strategy.reduce("SUM", values, axis=None)


def _resume(variables, checkpoints, strategy, rows_per_epoch):
    """Set all variables as the chief's newest checkpoint says; return its losses."""
    stored = None
    if checkpoints is not None and strategy.extended.should_checkpoint:
        stored = checkpoints.load_newest()
    values = [variable.numpy() for variable in variables]
    if stored is None:
        stored = {"position": [0, 0], "losses": []}
    else:
        values = [stored[name] for name in stored if name.startswith("variable_")]
    fits = [v.shape for v in values] == [tuple(v.shape) for v in variables]
    # What the chief has found reaches all workers, so that all raise or none does.
    shared = _share_from_chief([*stored["position"], fits], strategy).numpy()
    epoch, rows, fits = (int(number) for number in shared)
    if not fits:
        raise ValueError(
            "`build_classifier` and `build_optimizer` must build what was saved. "
            f"Received: {len(variables)} variables, their number or shapes not those "
            "of the checkpoint."
        )
    if rows != epoch * rows_per_epoch:
        raise ValueError(
            "`steps_per_epoch` and `global_batch_size` must be those of the "
            f"checkpoint: {rows} rows in {epoch} epochs. Received: "
            f"{rows_per_epoch} rows an epoch."
        )
    losses = stored["losses"] if len(stored["losses"]) else np.zeros(epoch)
    losses = _share_from_chief(losses, strategy).numpy().tolist()
    for variable, value in zip(variables, values, strict=True):
        variable.assign(tf.cast(_share_from_chief(value, strategy), variable.dtype))
    return losses
