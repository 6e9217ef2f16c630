"""Which weights learn: freeze, unfreeze all at once or step by step, two phases."""

import keras
import numpy as np


def freeze_batch_norm(model):
    """Put every BatchNormalization layer of a model in inference mode, in place.

    In Keras a BatchNormalization layer with `trainable = False` normalises by its
    moving statistics and stops updating them. Call this after unfreezing and before
    `compile`. Passing `training=False` to a functional backbone is not enough: in
    Keras 3, `fit` overrides it.

    Args:
        model: A `keras.Model`; models nested in it are treated too.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
        elif isinstance(layer, keras.Model):
            freeze_batch_norm(layer)


def unfreeze_last_layers(backbone, num_layers):
    """Make the last layers of a backbone trainable and freeze the others, in place.

    Only layers that have weights are counted. BatchNormalization layers are not
    counted and all stay frozen (see `freeze_batch_norm`). Compile the classifier
    afterwards: a changed `trainable` has no effect before.

    Args:
        backbone: A `keras.Model`.
        num_layers: How many layers to unfreeze; 0 freezes all.

    Raises:
        ValueError: If `num_layers` is negative or larger than the number of layers
            that can be unfrozen.
    """
    layers = [
        layer
        for layer in backbone.layers
        if layer.weights and not isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not 0 <= num_layers <= len(layers):
        raise ValueError(
            f"`num_layers` must be in 0...{len(layers)}, the number of layers of "
            f"{backbone.name!r} that have weights, BatchNormalization not counted. "
            f"Received: num_layers={num_layers}."
        )
    # Each flag is set by itself: a model whose flag is True already does not pass
    # `trainable = True` on to its layers.
    backbone.trainable = True
    for layer in backbone.layers:
        layer.trainable = False
    last = layers[len(layers) - num_layers :]
    for layer in last:  # grows as it is walked, if the backbone nests models
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        last.extend(getattr(layer, "layers", []))


def unfreeze_gradually(backbone, groups):
    """Freeze a backbone, then unfreeze one more group of layers at each step.

    A generator for a loop that compiles and trains: the first step has all layers
    frozen, so that only the head learns, the second unfreezes the last group, and so
    on down to the first group. BatchNormalization stays frozen throughout.

        for names in unfreeze_gradually(backbone, ["stage_2", "stage_3"]):
            classifier.compile(...)  # a changed `trainable` needs it
            classifier.fit(...)

    Args:
        backbone: A `keras.Model`; changed in place.
        groups: Names of layers, from input to output. The name `"stage_2"` stands for
            that layer and for all whose names begin with `"stage_2_"`.

    Yields:
        List of the names of the layers of the backbone that are trainable now.

    Raises:
        ValueError: If a group names no layer that has weights.

    Reference:
        Howard and Ruder, 2018, "Universal Language Model Fine-tuning for Text
        Classification".
    """
    members = {
        group: [
            layer
            for layer in backbone.layers
            if f"{layer.name}_".startswith(f"{group}_")
            and layer.weights
            and not isinstance(layer, keras.layers.BatchNormalization)
        ]
        for group in groups
    }
    if missing := [group for group, layers in members.items() if not layers]:
        raise ValueError(
            f"`groups` must name layers of {backbone.name!r} that have weights, "
            f"BatchNormalization not counted. Received: {missing} among {list(groups)}."
        )
    # Each flag is set by itself, for the reason given in `unfreeze_last_layers`.
    backbone.trainable = True
    for layer in backbone.layers:
        layer.trainable = False
    yield []
    for group in reversed(list(groups)):
        for layer in members[group]:
            layer.trainable = True
        yield [layer.name for layer in backbone.layers if layer.trainable_variables]


def count_parameters(model):
    """Count the parameters that training changes, and those that it does not.

    Args:
        model: A `keras.Model`.

    Returns:
        `(trainable, frozen)`, two ints. The moving statistics of BatchNormalization
        count as frozen: gradient descent never changes them.
    """
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    total = sum(int(np.prod(v.shape)) for v in model.variables)
    return trainable, total - trainable


def reset_training(classifier, weights):
    """Set the weights of a compiled classifier and forget its optimizer's state.

    In place, and without compiling again, so that the next seed starts afresh in
    milliseconds: building and tracing a small model often costs more than training
    it. The learning rate stays as it is. Where `fit` has never run it will trace its
    step once instead of twice, because the optimizer's state exists already; so freeze
    and unfreeze layers before, as before `compile`. Do not seed again between two
    trainings: `keras.utils.set_random_seed` empties TensorFlow's kernel caches.

    Args:
        classifier: A compiled `keras.Model` whose optimizer starts from zeros, as SGD,
            RMSprop and Adam do.
        weights: List of arrays, as `classifier.get_weights()` gives it.

    Raises:
        ValueError: If the classifier was not compiled, or the weights do not fit.
    """
    if not classifier.compiled:
        raise ValueError(
            "`classifier` must be compiled, or it has no optimizer to reset. "
            f"Received: {classifier.name!r}, not compiled."
        )
    classifier.set_weights(weights)
    if not classifier.optimizer.built:  # else the first trace creates the state
        classifier.optimizer.build(classifier.trainable_variables)
    for variable in classifier.optimizer.variables:
        if not variable.path.endswith("learning_rate"):
            variable.assign(np.zeros(variable.shape))


def fine_tune_two_phase(
    classifier,
    train_dataset,
    validation_dataset,
    *,
    num_unfrozen_layers,
    head_epochs=5,
    backbone_epochs=10,
    head_learning_rate=1e-3,
    backbone_learning_rate=1e-5,
    verbose="auto",
):
    """Train the head on a frozen backbone, then the last layers at a lower rate.

    The classifier is trained in place. A new head sends random gradients into the
    backbone; training it first spares the pretrained features.

    Args:
        classifier: A backbone (one nested `keras.Model`) with a softmax head.
        train_dataset: Dataset of `(inputs, integer labels)` batches.
        validation_dataset: The same for validation, not the test set; or None.
        num_unfrozen_layers: Layers of the backbone to unfreeze in the second phase,
            counted from its end; BatchNormalization is not counted and stays frozen.
        head_epochs: Epochs of the first phase, at least 1.
        backbone_epochs: Epochs of the second phase, at least 1.
        head_learning_rate: Adam's learning rate in the first phase.
        backbone_learning_rate: Adam's learning rate in the second phase.
        verbose: Progress display, as in `keras.Model.fit`.

    Returns:
        Two `keras.callbacks.History`, one for each phase.

    Raises:
        ValueError: If the classifier has no single nested backbone, a label is
            outside its classes, or `num_unfrozen_layers` is too large.

    Reference:
        Kumar, Raghunathan, Jones, Ma and Liang, 2022, "Fine-Tuning can Distort
        Pretrained Features and Underperform Out-of-Distribution", section 3.
    """
    backbones = [layer for layer in classifier.layers if isinstance(layer, keras.Model)]
    if len(backbones) != 1:
        raise ValueError(
            "`classifier` must hold its backbone as one nested model, as "
            f"`attach_head` makes it. Received: {len(backbones)} nested models."
        )
    num_classes = classifier.output_shape[-1]
    labels = np.concatenate([np.ravel(y) for _, y in train_dataset])
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"`train_dataset` must have labels in 0...{num_classes - 1}, the classes "
            f"of the head. Received: {labels.min()}...{labels.max()}."
        )
    # A wrong number is refused now, not after the first phase has been trained.
    unfreeze_last_layers(backbones[0], num_unfrozen_layers)
    head_phase = (0, head_epochs, head_learning_rate)
    last_phase = (num_unfrozen_layers, backbone_epochs, backbone_learning_rate)
    histories, loss = [], "sparse_categorical_crossentropy"
    for num_layers, epochs, learning_rate in (head_phase, last_phase):
        unfreeze_last_layers(backbones[0], num_layers)
        optimizer = keras.optimizers.Adam(learning_rate)
        classifier.compile(optimizer, loss, metrics=["accuracy"])
        # The dataset has its own order; Keras warns of any other `shuffle`.
        options = dict(epochs=epochs, shuffle=False, verbose=verbose)
        history = classifier.fit(
            train_dataset, validation_data=validation_dataset, **options
        )
        histories.append(history)
    return tuple(histories)
