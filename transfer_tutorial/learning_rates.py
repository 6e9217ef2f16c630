"""Discriminative learning rates: every layer learns at a rate of its own."""

import keras


def layer_multipliers(classifier, *, decay=0.8, groups=None):
    """Make one learning-rate multiplier for each trainable variable of a classifier.

    The head has multiplier 1, the last group of layers below it `decay`, the group
    before that `decay ** 2`, and so on down to the input.

    Args:
        classifier: A backbone with a head, `trainable` set as it will be trained; the
            last layer is named `"head"`.
        decay: Ratio of the rates of neighbouring groups, above 0 and at most 1.
        groups: Names of layers of the backbone, from input to output. The name
            `"block_2"` stands for that layer and for all whose names begin with
            `"block_2_"`. None makes every layer with trainable weights a group.

    Returns:
        List of floats in the order of `classifier.trainable_variables`.

    Raises:
        ValueError: If `decay` is outside its range, a group names no trainable layer,
            a trainable layer belongs to no group, or there is no head.

    Reference:
        Howard and Ruder, 2018, "Universal Language Model Fine-tuning for Text
        Classification".
    """
    if not 0 < decay <= 1:
        raise ValueError(f"`decay` must be in (0, 1]. Received: decay={decay}.")
    layers = list(classifier.layers)
    for layer in layers:  # grows as it is walked, where models are nested
        layers.extend(getattr(layer, "layers", []))
    layers = [x for x in layers if x.trainable_variables and not hasattr(x, "layers")]
    heads = [layer for layer in layers if layer.name == "head"]
    body = [layer for layer in layers if layer.name != "head"]
    names = [x.name for x in body] if groups is None else list(groups)
    depth = {
        layer.name: next(
            (i for i, g in enumerate(names) if f"{layer.name}_".startswith(f"{g}_")),
            None,
        )
        for layer in body
    }
    empty = set(range(len(names))) - set(depth.values())
    if None in depth.values() or empty or not heads:
        raise ValueError(
            "`groups` must name trainable layers, hold every trainable layer of the "
            "backbone, and leave one layer named 'head'. Received: "
            f"no layer for {[names[i] for i in sorted(empty)]}, no group for "
            f"{[name for name, i in depth.items() if i is None]}, {len(heads)} heads."
        )
    rates = {id(v): 1.0 for layer in heads for v in layer.trainable_variables}
    for layer in body:
        rate = decay ** (len(names) - depth[layer.name])
        rates |= {id(v): rate for v in layer.trainable_variables}
    return [rates[id(v)] for v in classifier.trainable_variables]


@keras.saving.register_keras_serializable(package="transfer_tutorial")
class DiscriminativeAdam(keras.optimizers.Adam):
    """Adam whose learning rate is multiplied by a number for each variable.

    The *update* is scaled. Scaling the gradient instead would change nothing: Adam
    divides by the gradient's own size.

    Args:
        learning_rate: Float or `keras.optimizers.schedules.LearningRateSchedule`.
        multipliers: One float of at least 0 for each trainable variable, in the order
            of `model.trainable_variables`, as `layer_multipliers` gives them. One
            that is to change without another `compile` is a `keras.Variable`.
        **kwargs: Further arguments of `keras.optimizers.Adam`, but not
            `weight_decay`, which Keras would apply at the full rate.

    Raises:
        ValueError: If a multiplier is negative or `weight_decay` is given; when
            training begins, if the number of multipliers is wrong.

    Reference:
        Howard and Ruder, 2018, "Universal Language Model Fine-tuning for Text
        Classification".
    """

    def __init__(self, learning_rate, multipliers, **kwargs):
        super().__init__(learning_rate, **kwargs)
        multipliers = [
            m if isinstance(m, keras.Variable) else float(m) for m in multipliers
        ]
        # Of a list Keras would take the variables for state, to be reset and stored.
        self._find_multipliers = lambda: multipliers
        smallest = min(map(float, multipliers), default=0)
        if smallest < 0 or self.weight_decay:
            raise ValueError(
                "`multipliers` must be at least 0, and `weight_decay` is not "
                f"supported. Received: smallest multiplier {smallest}, "
                f"weight_decay={self.weight_decay}."
            )

    @property
    def multipliers(self):
        """The multipliers, floats and variables, as they were given."""
        return self._find_multipliers()

    def build(self, variables):
        """Create the optimizer's state; Keras calls this before the first step."""
        if len(self.multipliers) != len(variables):
            raise ValueError(
                "`multipliers` must have one number for each trainable variable. "
                f"Received: {len(self.multipliers)} for {len(variables)} variables."
            )
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable at its own rate."""
        # Keras' own optimizers look their state up by the same index.
        multiplier = self.multipliers[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * multiplier)

    def get_config(self):
        """Settings of the optimizer, for saving."""
        multipliers = [float(m) for m in self.multipliers]
        return {**super().get_config(), "multipliers": multipliers}


@keras.saving.register_keras_serializable(package="transfer_tutorial")
class DiscriminativeSGD(keras.optimizers.SGD):
    """SGD whose learning rate is multiplied by a number for each variable.

    Args:
        learning_rate: Float or `keras.optimizers.schedules.LearningRateSchedule`.
        multipliers: One float of at least 0 for each trainable variable, in the order
            of `model.trainable_variables`, as `layer_multipliers` gives them. One
            that is to change without another `compile` is a `keras.Variable`.
        **kwargs: Further arguments of `keras.optimizers.SGD`, such as `momentum`, but
            not `weight_decay`, which Keras would apply at the full rate.

    Raises:
        ValueError: If a multiplier is negative or `weight_decay` is given; when
            training begins, if the number of multipliers is wrong.

    Reference:
        Howard and Ruder, 2018, "Universal Language Model Fine-tuning for Text
        Classification".
    """

    def __init__(self, learning_rate, multipliers, **kwargs):
        super().__init__(learning_rate, **kwargs)
        multipliers = [
            m if isinstance(m, keras.Variable) else float(m) for m in multipliers
        ]
        # Of a list Keras would take the variables for state, to be reset and stored.
        self._find_multipliers = lambda: multipliers
        smallest = min(map(float, multipliers), default=0)
        if smallest < 0 or self.weight_decay:
            raise ValueError(
                "`multipliers` must be at least 0, and `weight_decay` is not "
                f"supported. Received: smallest multiplier {smallest}, "
                f"weight_decay={self.weight_decay}."
            )

    @property
    def multipliers(self):
        """The multipliers, floats and variables, as they were given."""
        return self._find_multipliers()

    def build(self, variables):
        """Create the optimizer's state; Keras calls this before the first step."""
        if len(self.multipliers) != len(variables):
            raise ValueError(
                "`multipliers` must have one number for each trainable variable. "
                f"Received: {len(self.multipliers)} for {len(variables)} variables."
            )
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable at its own rate."""
        # Keras' own optimizers look their state up by the same index.
        multiplier = self.multipliers[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * multiplier)

    def get_config(self):
        """Settings of the optimizer, for saving."""
        multipliers = [float(m) for m in self.multipliers]
        return {**super().get_config(), "multipliers": multipliers}
