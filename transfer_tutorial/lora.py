"""Few new weights in a frozen backbone: LoRA and bottleneck adapters."""

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="transfer_tutorial")
class LoRA(keras.layers.Wrapper):
    """A frozen `Dense` or `Conv2D` layer plus a trainable update of low rank.

    The kernel `W` becomes `W + (alpha / rank) * A B`, with `A` of shape
    `(fan_in, rank)` random and `B` of shape `(rank, units)` zero, so that the layer
    starts as what it was. The bias stays frozen, too.

    Args:
        layer: A `keras.layers.Dense` or `keras.layers.Conv2D`; shared, not copied.
        rank: Rank of the update, at least 1.
        alpha: Scale of the update; None means `rank`, which is a scale of 1.
        **kwargs: `name` and `dtype` of the layer.

    Raises:
        ValueError: If `layer` is of another kind or `rank` is below 1.

    Reference:
        Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen, 2022, "LoRA: Low-Rank
        Adaptation of Large Language Models".
    """

    def __init__(self, layer, rank, alpha=None, **kwargs):
        if type(layer) not in (keras.layers.Dense, keras.layers.Conv2D) or rank < 1:
            raise ValueError(
                "`layer` must be Dense or Conv2D, and `rank` at least 1. "
                f"Received: {type(layer).__name__}, rank={rank}."
            )
        super().__init__(layer, **kwargs)
        self.rank = rank
        self.alpha = rank if alpha is None else alpha

    def build(self, input_shape=None):
        """Create `lora_a` and `lora_b`."""
        super().build(input_shape)
        self.layer.trainable = False
        *fan_in, units = self.layer.kernel.shape
        shape = (int(np.prod(fan_in)), self.rank)
        self.lora_a = self.add_weight(shape, "he_normal", name="lora_a")
        self.lora_b = self.add_weight((self.rank, units), "zeros", name="lora_b")

    def compute_kernel(self):
        """The kernel that the layer works with, of the shape of the original."""
        update = keras.ops.matmul(self.lora_a, self.lora_b) * (self.alpha / self.rank)
        return self.layer.kernel + keras.ops.reshape(update, self.layer.kernel.shape)

    def call(self, inputs):
        """Do what the layer does, with the other kernel."""
        layer, kernel = self.layer, self.compute_kernel()
        if isinstance(layer, keras.layers.Dense):
            x = keras.ops.matmul(inputs, kernel)
        else:
            options = layer.data_format, layer.dilation_rate
            x = keras.ops.conv(inputs, kernel, layer.strides, layer.padding, *options)
        return layer.activation(x + layer.bias if layer.use_bias else x)

    def compute_output_shape(self, input_shape):
        """As the layer's own."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        """Settings of the layer, for saving."""
        return {**super().get_config(), "rank": self.rank, "alpha": self.alpha}


def add_lora(backbone, rank, *, alpha=None, layer_names=None):
    """Freeze a backbone and give its layers trainable updates of low rank.

    The frozen weights are shared with `backbone`, whose `trainable` becomes False.
    What `fit` trains afterwards is counted by `count_parameters`. Setting `trainable`
    of the result to False and back to True would unfreeze all weights, as it does with
    BatchNorm.

    Args:
        backbone: A functional `keras.Model`; models nested in it are not entered.
        rank: Rank of the updates, from 1 to the smaller side of every chosen kernel.
        alpha: Scale of the updates; None means `rank`.
        layer_names: Names of the `Dense` and `Conv2D` layers to update; None is all.

    Returns:
        A `keras.Model` with the same name, inputs and, before training, outputs.

    Raises:
        ValueError: If a layer does not exist or is of another kind, there is none, or
            the rank does not fit.

    Reference:
        Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen, 2022, "LoRA: Low-Rank
        Adaptation of Large Language Models".
    """
    kinds = keras.layers.Dense, keras.layers.Conv2D
    fitting = {x.name: x for x in backbone.layers if type(x) in kinds}
    chosen = list(fitting) if layer_names is None else list(layer_names)
    if not chosen or set(chosen) - set(fitting):
        raise ValueError(
            f"`layer_names` must be Dense or Conv2D layers of {backbone.name!r}, at "
            f"least one. Received: {sorted(set(chosen) - set(fitting)) or 'none'}."
        )
    for name in chosen:
        *fan_in, units = fitting[name].kernel.shape
        if not 1 <= rank <= min(np.prod(fan_in), units):
            raise ValueError(
                f"`rank` must be in 1...{min(np.prod(fan_in), units)} for layer "
                f"{name!r}, the smaller side of its kernel. Received: rank={rank}."
            )

    def wrap(layer):
        return (
            LoRA(layer, rank, alpha, name=layer.name) if layer.name in chosen else layer
        )

    backbone.trainable = False
    return keras.models.clone_model(backbone, clone_function=wrap)


def merge_lora(backbone):
    """Fold the updates of `add_lora` into the kernels.

    Args:
        backbone: What `add_lora` returned, trained or not.

    Returns:
        A `keras.Model` of plain Keras layers with the same outputs. It has its own
        kernels where there was an update and shares all other layers; the weights
        from before the updates stay as they were, in `backbone`.

    Raises:
        ValueError: If the backbone has no LoRA layer.

    Reference:
        Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen, 2022, "LoRA: Low-Rank
        Adaptation of Large Language Models".
    """
    if not any(isinstance(layer, LoRA) for layer in backbone.layers):
        raise ValueError(
            "`backbone` must hold LoRA layers, as `add_lora` makes them. "
            f"Received: {backbone.name!r} with none."
        )

    def merge(layer):
        if not isinstance(layer, LoRA):
            return layer
        plain = type(layer.layer).from_config(layer.layer.get_config())
        plain.build(layer.input.shape)
        kernel = keras.ops.convert_to_numpy(layer.compute_kernel())
        plain.set_weights([kernel, *layer.layer.get_weights()[1:]])
        return plain

    return keras.models.clone_model(backbone, clone_function=merge)


@keras.saving.register_keras_serializable(package="transfer_tutorial")
class BottleneckAdapter(keras.layers.Wrapper):
    """A frozen layer, and behind it `y + W_up relu(W_down y)`, which is trained.

    `W_up` starts at zero, so that the layer starts as what it was.

    Args:
        layer: A layer whose output has its channels last; shared, not copied.
        units: Width of the bottleneck, at least 1.
        **kwargs: `name` and `dtype` of the layer.

    Raises:
        ValueError: If `units` is below 1.

    Reference:
        Houlsby, Giurgiu, Jastrzebski, Morrone, de Laroussilhe, Gesmundo, Attariyan and
        Gelly, 2019, "Parameter-Efficient Transfer Learning for NLP".
    """

    def __init__(self, layer, units, **kwargs):
        if units < 1:
            raise ValueError(f"`units` must be at least 1. Received: {units}.")
        super().__init__(layer, **kwargs)
        self.units = units
        self.down = keras.layers.Dense(units, activation="relu", name="down")
        self.up = None

    def build(self, input_shape=None):
        """Create the two small layers behind the frozen one."""
        super().build(input_shape)
        self.layer.trainable = False
        shape = self.layer.compute_output_shape(input_shape)
        self.up = keras.layers.Dense(shape[-1], kernel_initializer="zeros", name="up")
        self.down.build(shape)
        self.up.build((*shape[:-1], self.units))

    def call(self, inputs, training=None, mask=None):
        """The layer's output and a small correction to it."""
        x = self.layer(inputs)  # Keras itself hands `training` and the mask down
        return x + self.up(self.down(x))

    def compute_output_shape(self, input_shape):
        """As the layer's own."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        """Settings of the layer, for saving."""
        return {**super().get_config(), "units": self.units}


def add_adapters(backbone, units, *, layer_names):
    """Freeze a backbone and put a trainable bottleneck adapter behind some layers.

    The frozen weights are shared with `backbone`, whose `trainable` becomes False.

    Args:
        backbone: A functional `keras.Model`; models nested in it are not entered.
        units: Width of the bottlenecks, from 1 to the channels of every chosen layer.
        layer_names: Names of the layers behind which an adapter goes, such as the
            last BatchNormalization of every block.

    Returns:
        A `keras.Model` with the same name, inputs and, before training, outputs.

    Raises:
        ValueError: If a layer does not exist, none is named, or `units` does not fit.

    Reference:
        Houlsby, Giurgiu, Jastrzebski, Morrone, de Laroussilhe, Gesmundo, Attariyan and
        Gelly, 2019, "Parameter-Efficient Transfer Learning for NLP".
    """
    layers = {layer.name: layer for layer in backbone.layers}
    chosen = list(layer_names)
    if not chosen or set(chosen) - set(layers):
        raise ValueError(
            f"`layer_names` must be layers of {backbone.name!r}, at least one. "
            f"Received: {sorted(set(chosen) - set(layers)) or 'none'}."
        )
    channels, name = min((layers[name].output.shape[-1], name) for name in chosen)
    if not 1 <= units <= channels:
        raise ValueError(
            f"`units` must be in 1...{channels}, the channels of layer {name!r}. "
            f"Received: units={units}."
        )

    def wrap(layer):
        if layer.name not in chosen:
            return layer
        return BottleneckAdapter(layer, units, name=layer.name)

    backbone.trainable = False
    return keras.models.clone_model(backbone, clone_function=wrap)
