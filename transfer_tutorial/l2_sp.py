"""L2-SP: a penalty on the distance to the pretrained weights, the starting point."""

import keras


@keras.saving.register_keras_serializable(package="transfer_tutorial")
class L2SP(keras.regularizers.Regularizer):
    """Penalty `strength / 2 * ||w - start||^2`.

    Args:
        start: Array of the variable's shape: the weights to stay near.
        strength: Weight of the penalty, at least 0. With plain SGD a rate times
            strength of 1 would pull the weights back in one step.

    Raises:
        ValueError: If `strength` is negative.

    Reference:
        Li, Grandvalet and Davoine, 2018, "Explicit Inductive Bias for Transfer Learning
        with Convolutional Networks".
    """

    def __init__(self, start, strength):
        if not strength >= 0:
            raise ValueError(f"`strength` must be at least 0. Received: {strength}.")
        self.start = keras.ops.convert_to_numpy(start)
        self.strength = float(strength)

    def __call__(self, x):
        """The penalty of one variable, a scalar."""
        way = x - keras.ops.convert_to_tensor(self.start, dtype=x.dtype)
        return 0.5 * self.strength * keras.ops.sum(keras.ops.square(way))

    def get_config(self):
        """Settings of the penalty, for saving."""
        return {"start": self.start.tolist(), "strength": self.strength}


def add_l2_sp(backbone, strength):
    """Tie every trainable weight of a backbone to its present value, in place.

    Call it while the weights are the pretrained ones and before `compile`; the head
    is not part of the backbone and stays free. Keras adds the penalty to the loss of
    `fit` *and* of `evaluate`, so compare recipes by accuracy, not by loss. The penalty
    is not saved with the model: it belongs to training.

    Args:
        backbone: A `keras.Model` whose weights are the pretrained ones.
        strength: Weight of the penalty, at least 0; 0 takes the penalty away.

    Raises:
        ValueError: If `strength` is negative, or the backbone has no trainable weight.

    Reference:
        Li, Grandvalet and Davoine, 2018, "Explicit Inductive Bias for Transfer Learning
        with Convolutional Networks".
    """
    if not strength >= 0:
        raise ValueError(f"`strength` must be at least 0. Received: {strength}.")
    if not backbone.trainable_variables:
        raise ValueError(
            "`backbone` must have trainable weights to tie. "
            f"Received: {backbone.name!r}, which is frozen."
        )
    for variable in backbone.trainable_variables:
        penalty = L2SP(variable.numpy(), strength) if strength else None
        variable.regularizer = penalty
