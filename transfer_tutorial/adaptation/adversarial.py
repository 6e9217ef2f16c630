"""Domain-adversarial training: a layer that turns the gradient, and a discriminator."""

import math

import keras
import tensorflow as tf


def dann_strength(progress, *, gamma=10.0):
    """How strongly to reverse the gradient, rising from 0 to 1 during training.

    `2 / (1 + exp(-gamma progress)) - 1`. Early on the discriminator knows nothing
    yet, and its gradient would be noise to the encoder.

    Args:
        progress: Fraction of the training that is done, in [0, 1].
        gamma: Steepness, positive and finite.

    Returns:
        A float in [0, 1].

    Raises:
        ValueError: If `progress` is outside [0, 1], or `gamma` is not positive and
            finite.

    Reference:
        Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand and
        Lempitsky, 2016, "Domain-Adversarial Training of Neural Networks",
        section 5.2.2.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"`progress` must be in [0, 1]. Received: {progress}.")
    if not 0 < gamma < math.inf:
        raise ValueError(f"`gamma` must be positive and finite. Received: {gamma}.")
    return 2 / (1 + math.exp(-gamma * progress)) - 1


@keras.saving.register_keras_serializable(package="transfer_tutorial")
class GradientReversal(keras.layers.Layer):
    """The identity, whose gradient is multiplied by `-strength`.

    What comes after the layer learns to lower a loss, what comes before it to raise the
    same loss. `layer.strength` is a variable: `layer.strength.assign(0.5)` works
    between two steps of training, and nothing needs to be compiled again.

    Args:
        strength: Factor of the reversed gradient, at least 0 and finite.
        **kwargs: `name` and `dtype` of the layer.

    Raises:
        ValueError: If `strength` is negative or not finite.

    Reference:
        Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand and
        Lempitsky, 2016, "Domain-Adversarial Training of Neural Networks", section 4.2.
    """

    def __init__(self, strength=1.0, **kwargs):
        if not 0 <= strength < math.inf:
            raise ValueError(
                f"`strength` must be at least 0 and finite. Received: {strength}."
            )
        super().__init__(**kwargs)
        self.strength = self.add_weight(
            (), keras.initializers.Constant(strength), trainable=False, name="strength"
        )

    def call(self, inputs):
        """The inputs."""
        strength = tf.convert_to_tensor(self.strength)

        @tf.custom_gradient
        def reverse(x):
            return tf.identity(
                x
            ), lambda upstream: -tf.cast(strength, x.dtype) * upstream

        return reverse(inputs)

    def compute_output_shape(self, input_shape):
        """As the input's."""
        return input_shape

    def get_config(self):
        """Settings of the layer, for saving."""
        return {**super().get_config(), "strength": float(self.strength.numpy())}


@keras.saving.register_keras_serializable(package="transfer_tutorial")
class DomainDiscriminator(keras.layers.Layer):
    """An alignment that learns: tell source from target, with a reversed gradient.

    Called on the features of a source and of a target batch, it returns its own binary
    cross-entropy, each domain counting one half: log 2 = 0.69 if it cannot tell them
    apart. Minimising this trains the discriminator; since the gradient into the
    features is multiplied by `-strength`, the encoder unlearns what it sees. Give it
    to `AdaptationModel` as the alignment. Its learning is unstable: run several seeds.

    The strength is a variable. To let it rise as in the paper::

        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: discriminator.strength.assign(
                dann_strength(epoch / epochs)
            )
        )

    Args:
        hidden_units: Width of each hidden layer; `()` for a linear discriminator.
        strength: Factor of the reversed gradient, at least 0 and finite.
        **kwargs: `name` and `dtype` of the layer.

    Raises:
        ValueError: If a width is below 1, `strength` is negative or not finite, or the
            features are not of shape `(n, d)` and `(m, d)`.

    Reference:
        Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand and
        Lempitsky, 2016, "Domain-Adversarial Training of Neural Networks",
        section 4.2.
    """

    def __init__(self, hidden_units=(64,), strength=1.0, **kwargs):
        if not all(units >= 1 for units in hidden_units):
            raise ValueError(
                f"`hidden_units` must be at least 1 each. Received: {hidden_units}."
            )
        if not 0 <= strength < math.inf:
            raise ValueError(
                f"`strength` must be at least 0 and finite. Received: {strength}."
            )
        # float32 also under mixed precision: a cross-entropy in half precision loses
        # digits.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.hidden_units = tuple(hidden_units)
        self.strength = self.add_weight(
            (), keras.initializers.Constant(strength), trainable=False, name="strength"
        )
        policy = self.dtype_policy
        self.mlp = [
            keras.layers.Dense(units, activation="relu", dtype=policy)
            for units in hidden_units
        ]
        self.mlp.append(keras.layers.Dense(1, dtype=policy, name="logit"))

    def build(self, source_features_shape, target_features_shape=None):
        """Create the weights for features of this width."""
        width = source_features_shape[-1]
        for layer in self.mlp:
            layer.build((None, width))
            width = layer.units

    def call(self, source_features, target_features):
        """The cross-entropy of the discriminator, a scalar."""
        source = tf.convert_to_tensor(source_features)
        target = tf.convert_to_tensor(target_features)
        if source.shape.rank != 2 or source.shape[1:] != target.shape[1:]:
            raise ValueError(
                "`source_features` and `target_features` must be of shape (n, d) and "
                f"(m, d). Received: {source.shape} and {target.shape}."
            )
        strength = tf.cast(self.strength, source.dtype)

        @tf.custom_gradient
        def reverse(x):
            return tf.identity(x), lambda upstream: -strength * upstream

        x = reverse(tf.concat([source, target], axis=0))
        for layer in self.mlp:
            x = layer(x)
        n = tf.shape(source)[0]
        # softplus(z) is the cross-entropy of logit z for label 0, softplus(-z) for 1
        source_loss = tf.reduce_mean(tf.nn.softplus(x[:n]))
        return 0.5 * (source_loss + tf.reduce_mean(tf.nn.softplus(-x[n:])))

    def compute_output_shape(self, source_features_shape, target_features_shape=None):
        """A scalar."""
        return ()

    def get_config(self):
        """Settings of the layer, for saving."""
        strength = float(self.strength.numpy())
        own = {"hidden_units": list(self.hidden_units), "strength": strength}
        return {**super().get_config(), **own}
