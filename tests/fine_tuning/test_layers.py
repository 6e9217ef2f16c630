import keras
import numpy as np
import pytest

from transfer_tutorial.backbones import (
    attach_head,
    build_cnn_backbone,
    build_mlp_backbone,
)
from transfer_tutorial.fine_tuning import (
    count_parameters,
    fine_tune_two_phase,
    freeze_batch_norm,
    reset_training,
    unfreeze_gradually,
    unfreeze_last_layers,
)
from transfer_tutorial.pipelines import make_dataset

SHAPE = (8, 8, 3)
HEAD = {"head/kernel", "head/bias"}
STATISTICS = {
    f"batch_norm_{stage}/moving_{what}"
    for stage in (1, 2)
    for what in ("mean", "variance")
}
BATCH_NORM = STATISTICS | {
    f"batch_norm_{stage}/{what}" for stage in (1, 2) for what in ("gamma", "beta")
}
KERNELS = {"conv_1/kernel", "conv_2/kernel"}


@pytest.fixture
def dataset(tiny_images):
    return make_dataset(*tiny_images)


def make_classifier():
    """A CNN of two stages with BatchNorm, and a head for three classes."""
    return attach_head(build_cnn_backbone(SHAPE, filters=(4, 6)), 3)


def get_backbone(classifier):
    return classifier.layers[1]


def copy_weights(classifier):
    """`{"layer/weight": array}` of the head and of all layers of the backbone."""
    layers = [*get_backbone(classifier).layers, classifier.layers[-1]]
    return {
        f"{layer.name}/{variable.name}": value
        for layer in layers
        for variable, value in zip(layer.weights, layer.get_weights(), strict=True)
    }


def find_moved(before, classifier):
    """Names of the weights that are no longer bit for bit what they were."""
    after = copy_weights(classifier)
    return {name for name in before if np.any(before[name] != after[name])}


def train(classifier, dataset, *, compile=True, epochs=1):
    """Names of the weights that a training moves."""
    if compile:
        classifier.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = copy_weights(classifier)
    classifier.fit(dataset, epochs=epochs, shuffle=False, verbose=0)
    return find_moved(before, classifier)


def test_frozen_backbone_is_bit_identical_after_fit_and_a_free_one_is_not(dataset):
    classifier = make_classifier()
    get_backbone(classifier).trainable = False
    assert train(classifier, dataset) == HEAD
    get_backbone(classifier).trainable = True
    assert train(classifier, dataset) == HEAD | KERNELS | BATCH_NORM


def test_frozen_batch_norm_keeps_its_statistics_while_the_kernels_learn(dataset):
    classifier = make_classifier()
    freeze_batch_norm(classifier)
    assert train(classifier, dataset) == HEAD | KERNELS


def test_frozen_batch_norm_normalises_by_its_statistics_in_training(tiny_images):
    classifier = make_classifier()
    images = tiny_images[0]

    def differ():
        outputs = [classifier(images, training=mode) for mode in (True, False)]
        return np.any(np.asarray(outputs[0]) != np.asarray(outputs[1]))

    assert differ()
    freeze_batch_norm(classifier)
    assert not differ()


def test_freezing_batch_norm_reaches_models_nested_in_models():
    norm = keras.layers.BatchNormalization()
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), norm])
    outer = keras.Sequential([keras.Input((4,)), keras.Sequential([inner])])
    freeze_batch_norm(outer)
    assert not norm.trainable
    assert outer.trainable and inner.layers[0].trainable


def test_inference_mode_in_a_functional_model_does_not_protect_batch_norm(dataset):
    # Keras 3 overrides the `training=False` of the call by what `fit` says.
    inputs = keras.Input(SHAPE)
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    outputs = keras.layers.Dense(3, "softmax", name="head")(
        backbone(inputs, training=False)
    )
    believed_safe, plain = keras.Model(inputs, outputs), make_classifier()
    plain.set_weights(believed_safe.get_weights())
    assert train(believed_safe, dataset) >= STATISTICS
    train(plain, dataset)
    for mine, theirs in zip(
        believed_safe.get_weights(), plain.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_unfreezing_a_frozen_backbone_unfreezes_its_batch_norm():
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    freeze_batch_norm(backbone)
    backbone.trainable = False
    backbone.trainable = True
    assert backbone.get_layer("batch_norm_1").trainable


@pytest.mark.parametrize(
    ("num_layers", "moved"),
    [(0, set()), (1, {"conv_2/kernel"}), (2, {"conv_1/kernel", "conv_2/kernel"})],
)
def test_fit_moves_the_last_layers_that_were_unfrozen_and_no_batch_norm(
    dataset, num_layers, moved
):
    classifier = make_classifier()
    unfreeze_last_layers(get_backbone(classifier), num_layers)
    assert train(classifier, dataset) == HEAD | moved


def test_unfreezing_again_replaces_what_was_unfrozen_before():
    backbone = build_mlp_backbone(SHAPE, hidden_units=(5, 4, 3))

    def trainable():
        return [variable.path.split("/")[-2] for variable in backbone.trainable_weights]

    backbone.trainable = False
    unfreeze_last_layers(backbone, 2)
    assert trainable() == ["dense_2", "dense_2", "dense_3", "dense_3"]
    unfreeze_last_layers(backbone, 1)
    assert trainable() == ["dense_3", "dense_3"]


@pytest.mark.parametrize("frozen_before", ["model", "layers", "nothing"])
def test_unfreezing_a_nested_model_unfreezes_all_of_it_but_batch_norm(frozen_before):
    inner = build_cnn_backbone(SHAPE, filters=(4, 6))
    inputs = keras.Input(SHAPE)
    backbone = keras.Model(inputs, keras.layers.Dense(2, name="top")(inner(inputs)))
    frozen = {"model": [inner], "layers": inner.layers, "nothing": []}
    for layer in frozen[frozen_before]:
        layer.trainable = False
    unfreeze_last_layers(backbone, 2)
    names = [v.path.split("/")[-2] for v in backbone.trainable_weights]
    assert names == ["conv_1", "conv_2", "top", "top"]
    unfreeze_last_layers(backbone, 1)
    assert len(backbone.trainable_weights) == 2


def test_changed_trainable_has_no_effect_before_compile(dataset):
    classifier = make_classifier()
    train(classifier, dataset)
    get_backbone(classifier).trainable = False
    assert KERNELS <= train(classifier, dataset, compile=False)
    assert train(classifier, dataset, compile=True) == HEAD


def test_parameters_are_counted_as_by_hand():
    classifier = make_classifier()
    convolutions, head = 9 * 3 * 4 + 9 * 4 * 6, 6 * 3 + 3
    scales_and_offsets = statistics = 2 * 4 + 2 * 6
    learnt = convolutions + head + scales_and_offsets
    assert count_parameters(classifier) == (learnt, statistics)
    freeze_batch_norm(classifier)
    frozen = scales_and_offsets + statistics
    assert count_parameters(classifier) == (convolutions + head, frozen)
    unfreeze_last_layers(get_backbone(classifier), 0)
    assert count_parameters(classifier) == (head, convolutions + frozen)


def test_counted_parameters_are_those_of_keras_and_not_those_of_the_optimizer(dataset):
    classifier = make_classifier()
    train(classifier, dataset)
    assert sum(count_parameters(classifier)) == classifier.count_params()
    assert all(type(number) is int for number in count_parameters(classifier))


def test_two_phases_move_exactly_the_unfrozen_layers_and_the_head(dataset):
    classifier = make_classifier()
    before = copy_weights(classifier)
    fine_tune_two_phase(
        classifier,
        dataset,
        None,
        num_unfrozen_layers=1,
        head_epochs=1,
        backbone_epochs=2,
        verbose=0,
    )
    assert find_moved(before, classifier) == HEAD | {"conv_2/kernel"}


def test_two_phases_are_two_trainings_written_out_in_keras(dataset):
    classifier, by_hand = make_classifier(), make_classifier()
    by_hand.set_weights(classifier.get_weights())
    histories = fine_tune_two_phase(
        classifier,
        dataset,
        dataset,
        num_unfrozen_layers=1,
        head_epochs=2,
        backbone_epochs=3,
        head_learning_rate=0.02,
        backbone_learning_rate=0.001,
        verbose=0,
    )
    assert [history.epoch for history in histories] == [[0, 1], [0, 1, 2]]
    freeze_batch_norm(by_hand)
    conv_1, conv_2 = (get_backbone(by_hand).get_layer(f"conv_{i}") for i in (1, 2))
    for trainable, epochs, learning_rate, history in (
        (False, 2, 0.02, histories[0]),
        (True, 3, 0.001, histories[1]),
    ):
        conv_1.trainable, conv_2.trainable = False, trainable
        optimizer = keras.optimizers.Adam(learning_rate)
        loss = "sparse_categorical_crossentropy"
        by_hand.compile(optimizer, loss, metrics=["accuracy"])
        options = {"epochs": epochs, "shuffle": False, "verbose": 0}
        expected = by_hand.fit(dataset, validation_data=dataset, **options).history
        assert history.history.keys() == expected.keys()
        for name in ("loss", "val_accuracy"):
            np.testing.assert_allclose(history.history[name], expected[name], rtol=1e-4)


def test_two_phases_refuse_a_wrong_number_of_layers_before_they_train(dataset):
    classifier = make_classifier()
    before = copy_weights(classifier)
    with pytest.raises(ValueError, match="`num_layers` .* Received: num_layers=3"):
        fine_tune_two_phase(classifier, dataset, None, num_unfrozen_layers=3, verbose=0)
    assert not find_moved(before, classifier)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.01),
        lambda: keras.optimizers.SGD(0.01, momentum=0.9),
        lambda: keras.optimizers.RMSprop(0.01),
    ],
    ids=["Adam", "SGD", "RMSprop"],
)
def test_reset_training_starts_afresh(tiny_images, optimizer):
    classifier = attach_head(build_mlp_backbone(SHAPE, hidden_units=(5,)), 3)
    classifier.compile(optimizer(), "sparse_categorical_crossentropy")
    weights = classifier.get_weights()

    def train():
        options = {"epochs": 2, "shuffle": False, "verbose": 0}
        return classifier.fit(*tiny_images, **options).history["loss"]

    first = train()
    reset_training(classifier, weights)
    np.testing.assert_array_equal(train(), first)
    classifier.set_weights(weights)  # without forgetting the optimizer's state
    assert train() != first


def count_traces(classifier):
    """A list that grows by one with each trace of the training step."""
    traces, train_step = [], classifier.train_step

    def traced_step(data):
        traces.append(1)
        return train_step(data)

    classifier.train_step = traced_step
    return traces


def test_the_first_fit_after_a_reset_is_traced_once_and_ends_the_same(tiny_images):
    ends = []
    for reset in (False, True):
        keras.utils.set_random_seed(0)
        classifier = attach_head(build_mlp_backbone(SHAPE, hidden_units=(5,)), 3)
        classifier.compile(
            keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy"
        )
        traces = count_traces(classifier)
        if reset:
            reset_training(classifier, classifier.get_weights())
        classifier.fit(*tiny_images, epochs=2, shuffle=False, verbose=0)
        ends.append(classifier.get_weights())
    assert len(traces) == 1
    for plain, after_reset in zip(*ends, strict=True):
        np.testing.assert_array_equal(plain, after_reset)


def test_reset_training_sets_the_weights_and_keeps_the_learning_rate(dataset):
    classifier, other = make_classifier(), make_classifier()
    train(classifier, dataset)
    classifier.optimizer.learning_rate = 0.25
    reset_training(classifier, other.get_weights())
    for mine, theirs in zip(classifier.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert classifier.optimizer.learning_rate.numpy() == 0.25
    assert classifier.optimizer.iterations.numpy() == 0


def make_model_without_backbone():
    return keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten()])


def make_model_with_two_backbones():
    inputs = keras.Input(SHAPE)
    outputs = [build_mlp_backbone(SHAPE)(inputs), build_cnn_backbone(SHAPE)(inputs)]
    return keras.Model(inputs, keras.layers.Concatenate()(outputs))


@pytest.mark.parametrize(
    ("make", "count"),
    [(make_model_without_backbone, 0), (make_model_with_two_backbones, 2)],
)
def test_two_phases_need_one_nested_backbone(dataset, make, count):
    message = f"`classifier` .* Received: {count} nested models"
    with pytest.raises(ValueError, match=message):
        fine_tune_two_phase(make(), dataset, None, num_unfrozen_layers=0)


@pytest.mark.parametrize(
    ("labels", "received"), [([0, 1, 3], r"0\.\.\.3"), ([-1, 1, 2], r"-1\.\.\.2")]
)
def test_two_phases_refuse_labels_outside_the_classes(tiny_images, labels, received):
    dataset = make_dataset(tiny_images[0][:3], labels)
    message = rf"`train_dataset` .* 0\.\.\.2, .* Received: {received}"
    with pytest.raises(ValueError, match=message):
        fine_tune_two_phase(make_classifier(), dataset, None, num_unfrozen_layers=0)


@pytest.mark.parametrize("num_layers", [-1, 3])
def test_a_wrong_number_of_layers_is_named(num_layers):
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    message = rf"`num_layers` must be in 0\.\.\.2.* Received: num_layers={num_layers}"
    with pytest.raises(ValueError, match=message):
        unfreeze_last_layers(backbone, num_layers)


def test_reset_training_names_a_classifier_that_was_not_compiled():
    classifier = make_classifier()
    message = "`classifier` must be compiled.* Received: 'cnn_classifier', not compiled"
    with pytest.raises(ValueError, match=message):
        reset_training(classifier, classifier.get_weights())


def test_gradual_unfreezing_adds_a_group_at_each_step_from_the_output_down(dataset):
    classifier = make_classifier()
    moved = []
    for names in unfreeze_gradually(get_backbone(classifier), ["conv_1", "conv_2"]):
        moved.append((names, train(classifier, dataset)))
    assert moved == [
        ([], HEAD),
        (["conv_2"], HEAD | {"conv_2/kernel"}),
        (["conv_1", "conv_2"], HEAD | KERNELS),
    ]


def test_gradual_unfreezing_takes_a_group_for_all_layers_that_begin_with_its_name():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="block_1_in")(inputs)
    x = keras.layers.Dense(4, name="block_1")(x)
    x = keras.layers.Dense(4, name="block_10_in")(x)
    backbone = keras.Model(inputs, x)
    *_, last = unfreeze_gradually(backbone, ["block_1"])
    assert last == ["block_1_in", "block_1"]


def test_gradual_unfreezing_starts_from_a_frozen_backbone_whatever_it_was_before():
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    backbone.trainable = False
    steps = unfreeze_gradually(backbone, ["conv_2"])
    assert next(steps) == [] and not backbone.trainable_variables
    assert next(steps) == ["conv_2"] and len(backbone.trainable_variables) == 1


@pytest.mark.parametrize("group", ["conv_3", "con", "batch_norm_1", "pool_1"])
def test_gradual_unfreezing_names_a_group_without_layers(group):
    backbone = build_cnn_backbone(SHAPE, filters=(4, 6))
    with pytest.raises(ValueError, match=rf"`groups` .* Received: \['{group}'\]"):
        next(unfreeze_gradually(backbone, ["conv_1", group]))
    assert len(backbone.trainable_variables) > 1, "nothing was frozen before the error"
