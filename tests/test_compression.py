import functools
import gzip
import os
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from transfer_tutorial.backbones import (
    attach_head,
    build_cnn_backbone,
    build_mlp_backbone,
    build_residual_backbone,
    build_series_gru_backbone,
)
from transfer_tutorial.compression import (
    convert_to_tflite,
    count_multiply_adds,
    distillation_loss,
    fold_batch_norm,
    predict_tflite,
    prune_by_magnitude,
)
from transfer_tutorial.pretrained import (
    build_efficientnet_lite0_backbone,
    build_source_cnn_backbone,
)


def randomise(model):
    """Give every BatchNorm statistics, scales and offsets that matter."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()]
            )


def find_norms(model):
    kind = keras.layers.BatchNormalization
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize(
    "build", [build_source_cnn_backbone, lambda: build_efficientnet_lite0_backbone(32)]
)
def test_folding_the_shipped_backbones_keeps_their_features(build):
    backbone = build()
    x = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3))
    expected = backbone(x).numpy()
    folded = fold_batch_norm(backbone)
    assert find_norms(backbone) and not find_norms(folded)
    assert folded.count_params() < backbone.count_params()
    found = folded(x).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(backbone(x).numpy(), expected)


def build_mixed(**norm_options):
    """Dense with bias, depthwise with a multiplier, strided: a norm behind each."""
    inputs = keras.Input((6, 6, 3))
    x = inputs
    for layer in (
        keras.layers.Conv2D(4, 3, strides=2, bias_initializer="ones"),
        keras.layers.DepthwiseConv2D(1, depth_multiplier=2),
        keras.layers.Dense(5, bias_initializer="ones"),
    ):
        x = layer(x)
        x = keras.layers.BatchNormalization(**norm_options)(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize(
    "options", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.5}], ids=str
)
def test_folding_works_behind_every_kind_of_layer(options):
    model = build_mixed(**options)
    randomise(model)
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 3))
    expected = model(x).numpy()
    found = fold_batch_norm(model)(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_folded_is_kept():
    inputs = keras.Input((6,))
    linear = keras.layers.Dense(4, name="linear")(inputs)
    behind = keras.layers.BatchNormalization(name="folded")(linear)
    active = keras.layers.Dense(4, activation="relu", name="active")(behind)
    kept = keras.layers.BatchNormalization(name="behind_relu")(active)
    shared = keras.layers.Dense(4, name="shared")(kept)
    normed = keras.layers.BatchNormalization(name="of_two_uses")(shared)
    model = keras.Model(inputs, keras.layers.Add()([shared, normed]))
    randomise(model)
    x = np.random.default_rng(0).normal(size=(5, 6))
    folded = fold_batch_norm(model)
    assert find_norms(folded) == ["behind_relu", "of_two_uses"]
    expected = model(x).numpy()
    np.testing.assert_allclose(folded(x).numpy(), expected, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_folded_backbone_is_saved_and_loaded(tmp_path):
    backbone = build_residual_backbone((8, 8, 3), filters=(4, 6))
    randomise(backbone)
    folded = fold_batch_norm(backbone)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    x = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3))
    expected = folded(x).numpy()
    np.testing.assert_array_equal(loaded(x).numpy(), expected)


def test_nothing_to_fold_is_named():
    with pytest.raises(ValueError, match="`backbone` must have .* 'mlp', without one"):
        fold_batch_norm(build_mlp_backbone((4,)))


# --- distillation ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        # 0.8 ln(0.8/0.5) + 0.2 ln(0.2/0.5)
        (1, 0.8 * np.log(1.6) + 0.2 * np.log(0.4)),
        # The roots of 0.8 and 0.2 are as 2 to 1; the student stays at a half each.
        (2, 4 * (2 / 3 * np.log(4 / 3) + 1 / 3 * np.log(2 / 3))),
        # At one half the probabilities are squared: as 16 to 1.
        (0.5, 0.25 * (16 / 17 * np.log(32 / 17) + 1 / 17 * np.log(2 / 17))),
    ],
)
def test_distillation_loss_is_the_one_worked_out_by_hand(temperature, expected):
    loss = distillation_loss([[0.8, 0.2]], [[0.5, 0.5]], temperature)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def draw_logits(seed, shape=(6, 4), scale=3.0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=scale, size=shape), rng.normal(scale=scale, size=shape)


@pytest.mark.parametrize("temperature", [0.3, 1, 4, 20])
def test_distillation_loss_is_the_divergence_of_the_divided_logits(temperature):
    teacher, student = draw_logits(0)
    p = special.softmax(teacher / temperature, axis=1)
    q = special.softmax(student / temperature, axis=1)
    expected = temperature**2 * special.rel_entr(p, q).sum(axis=1)
    answers = special.softmax(teacher, axis=1), special.softmax(student, axis=1)
    found = distillation_loss(*answers, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def find_gradient(teacher, student, temperature):
    """Of the summed loss with respect to the student's logits."""
    student = tf.Variable(student)
    with tf.GradientTape() as tape:
        answers = tf.nn.softmax(tf.constant(teacher)), tf.nn.softmax(student)
        loss = tf.reduce_sum(distillation_loss(*answers, temperature))
    return tape.gradient(loss, student).numpy()


def test_the_gradient_is_that_of_the_papers_cross_entropy():
    teacher, student = draw_logits(1)
    p = special.softmax(teacher / 3, axis=1)
    q = special.softmax(student / 3, axis=1)
    # Hinton et al., equation 2, times T squared.
    np.testing.assert_allclose(
        find_gradient(teacher, student, 3), 3 * (q - p), atol=1e-9
    )


def test_at_a_high_temperature_the_gradient_matches_logits():
    teacher, student = draw_logits(2)
    centred = [z - z.mean(axis=1, keepdims=True) for z in (teacher, student)]
    # Hinton et al., equation 4, times T squared.
    limit = (centred[1] - centred[0]) / teacher.shape[1]
    far = np.abs(find_gradient(teacher, student, 10) - limit).max()
    near = np.abs(find_gradient(teacher, student, 1000) - limit).max()
    assert near < 0.02 < far


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 9999),
    st.sampled_from([0.1, 5, 200, 3000]),
    st.floats(0.01, 1000),
    st.booleans(),
)
def test_distillation_is_finite_however_sure_the_two_are(
    seed, scale, temperature, one_hot
):
    teacher, student = (z.astype("float32") for z in draw_logits(seed, scale=scale))
    p = tf.nn.softmax(teacher).numpy()
    if one_hot:
        p = np.eye(4, dtype="float32")[p.argmax(axis=1)]
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        loss = distillation_loss(p, tf.nn.softmax(variable), temperature)
    assert np.isfinite(loss).all() and np.min(loss) > -1e-6
    assert np.isfinite(tape.gradient(loss, variable)).all()


def test_a_student_learns_the_answers_of_its_teacher_by_plain_fit(tiny_images):
    x, y = tiny_images
    answers = 0.7 * np.eye(3)[y] + 0.1
    student = attach_head(build_cnn_backbone((8, 8, 3), filters=(8,)), 3)
    loss = functools.partial(distillation_loss, temperature=2)
    student.compile(keras.optimizers.Adam(0.02), loss)
    before = distillation_loss(answers, student(x).numpy(), 2)
    student.fit(x, answers, batch_size=16, epochs=30, verbose=0)
    after = distillation_loss(answers, student(x).numpy(), 2)
    assert np.mean(after) < 0.1 * np.mean(before)
    assert student.evaluate(x, answers, verbose=0) == pytest.approx(
        np.mean(after), rel=1e-3
    )


@pytest.mark.parametrize("temperature", [0, -1, np.inf, np.nan])
def test_temperature_out_of_range_is_named(temperature):
    with pytest.raises(ValueError, match="`temperature` must be positive and finite"):
        distillation_loss([[0.5, 0.5]], [[0.5, 0.5]], temperature)


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        ([[0.5, 0.5]], [[0.2, 0.3, 0.5]], r"Received: \(1, 2\) and \(1, 3\)"),
        ([0.5, 0.5], [0.5, 0.5], r"shape \(batch, num_classes\)"),
        ([[2.0, -1.0]], [[0.5, 0.5]], "`teacher_probabilities` must be at least 0"),
        ([[0.5, 0.5]], [[3.0, 1.0]], "`student_probabilities` must .* sums of 4"),
        ([[np.nan, 1.0]], [[0.5, 0.5]], "`teacher_probabilities` must be"),
    ],
)
def test_what_are_no_answers_of_one_question_is_named(teacher, student, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(teacher, student)


def test_no_answers_have_no_loss():
    assert distillation_loss(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)


# --- multiply-adds --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        ((7,), keras.layers.Dense(5), 7 * 5),
        ((5, 4, 8), keras.layers.Dense(3), 20 * 8 * 3),
        ((10, 2), keras.layers.Conv1D(4, 3), 8 * 4 * 3 * 2),
        ((9, 9, 3), keras.layers.Conv2D(4, 3, strides=2), 16 * 4 * 9 * 3),
        ((5, 5, 4), keras.layers.Conv2D(6, 3, groups=2), 9 * 6 * 9 * 2),
        ((6, 7, 4), keras.layers.DepthwiseConv2D(3, depth_multiplier=2), 20 * 8 * 9),
        ((4, 4, 4, 2), keras.layers.Conv3D(3, 2), 27 * 3 * 8 * 2),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_multiply_adds_are_those_worked_out_by_hand(shape, layer, expected):
    model = keras.Sequential([keras.Input(shape), layer])
    assert count_multiply_adds(model) == expected
    # Of ones alone, each multiply-add raises the sum of the outputs by 1.
    layer.set_weights([np.full(w.shape, w.ndim > 1) for w in layer.get_weights()])
    assert model(np.ones((1, *shape))).numpy().sum() == expected


def test_padding_is_multiplied_like_all_else():
    layer = keras.layers.Conv2D(4, 3, strides=2, padding="same")
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    assert count_multiply_adds(model) == 4 * 4 * 4 * 9 * 3


def test_multiply_adds_of_the_shipped_backbones_grow_with_the_image():
    small, large = (
        build_efficientnet_lite0_backbone(s, weights=None) for s in (64, 96)
    )
    ratio = count_multiply_adds(large) / count_multiply_adds(small)
    assert ratio == pytest.approx((96 / 64) ** 2)
    assert count_multiply_adds(build_source_cnn_backbone()) == 16**2 * 27 * 32 + (
        2 * 16**2 * 9 * 32 * 32  # stage 1: two convolutions
        + 8**2 * 64 * (32 + 9 * 32 + 9 * 64)  # stage 2, with its shortcut
        + 4**2 * 128 * (64 + 9 * 64 + 9 * 128)  # stage 3
    )


def test_a_head_and_folding_cost_what_they_cost():
    backbone = build_residual_backbone((8, 8, 3), filters=(4, 6))
    work = count_multiply_adds(backbone)
    assert count_multiply_adds(fold_batch_norm(backbone)) == work
    assert count_multiply_adds(attach_head(backbone, 5)) == work + 6 * 5
    assert count_multiply_adds(attach_head(backbone, 3)) == work + 6 * 3


def test_what_cannot_be_counted_is_named():
    with pytest.raises(
        ValueError, match="convolutions only. Received: .*, a Bidirectional"
    ):
        count_multiply_adds(build_series_gru_backbone(2, units=4))
    with pytest.raises(ValueError, match="inputs of a known shape. .*'stem_conv'"):
        count_multiply_adds(build_source_cnn_backbone(image_size=None, weights=None))
    inputs, shared = keras.Input((4,)), keras.layers.Dense(4, name="shared")
    with pytest.raises(ValueError, match="use each layer once, .*'shared'"):
        count_multiply_adds(keras.Model(inputs, shared(shared(inputs))))


# --- TensorFlow Lite ------------------------------------------------------------------


def build_converted(shape=(8, 8, 3)):
    """A classifier with BatchNorm whose weights matter, and images for it."""
    model = attach_head(build_residual_backbone(shape, filters=(8, 12)), 3)
    randomise(model.layers[1])
    return model, np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), "uint8")


def test_unquantised_tflite_gives_the_answers_of_keras():
    model, x = build_converted()
    found = predict_tflite(convert_to_tflite(model, quantize=False), x)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, model(x).numpy(), atol=1e-5)


@pytest.mark.parametrize("full", [False, True])
def test_8_bits_give_nearly_the_same_answers(full):
    model, x = build_converted()
    expected = model(x).numpy()
    converted = convert_to_tflite(model, x[:20] if full else None)
    difference = np.abs(predict_tflite(converted, x) - expected)
    assert 0 < difference.max() < 0.1
    np.testing.assert_array_equal(model(x).numpy(), expected)


def find_operands(model_bytes):
    """The types of the tensors that are no single number or vector."""
    interpreter = tf.lite.Interpreter(model_content=model_bytes)
    details = interpreter.get_tensor_details()
    return [d["dtype"] for d in details if len(d["shape"]) > 1 and min(d["shape"]) > 0]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_representative_images_make_the_layers_8_bit_not_the_weights_alone():
    model, x = build_converted()
    kinds = [
        find_operands(convert_to_tflite(model, *arguments))
        for arguments in ([], [x[:20]])
    ]
    shares = [np.mean([kind == np.int8 for kind in types]) for types in kinds]
    assert 0 < shares[0] < 0.6 < 0.8 < shares[1]


def test_8_bits_take_a_quarter_of_the_bytes():
    model = build_mlp_backbone((8, 8, 3), hidden_units=(200, 200))
    sizes = [len(convert_to_tflite(model, quantize=q)) for q in (True, False)]
    assert 4 * model.count_params() < sizes[1] < 4.2 * model.count_params()
    assert model.count_params() < sizes[0] < 1.2 * model.count_params()


def test_an_answer_does_not_depend_on_its_batch():
    model, x = build_converted()
    converted = convert_to_tflite(model, x[:20])
    expected = predict_tflite(converted, x)
    for batch_size in (1, 7, 100):
        found = predict_tflite(converted, x, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert predict_tflite(converted, x[:0]).shape == (0, 3)


def test_a_backbone_for_images_of_any_size_is_converted_for_one():
    backbone = build_efficientnet_lite0_backbone(32)
    x = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), "uint8")
    folded = fold_batch_norm(backbone)
    converted = convert_to_tflite(folded, image_shape=(40, 40, 3), quantize=False)
    expected = backbone(x).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        predict_tflite(converted, x), expected, atol=1e-4 * scale
    )
    with pytest.raises(ValueError, match=r"Received: \(None, None, None, 3\)"):
        convert_to_tflite(folded)


def test_converting_and_running_say_nothing_and_leave_stderr_as_it_was(capfd):
    model, x = build_converted()
    predict_tflite(convert_to_tflite(model, x[:5]), x)
    with pytest.raises(ValueError):
        predict_tflite(b"nothing", x)
    assert capfd.readouterr() == ("", "")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_the_successor_of_the_interpreter_is_used_where_it_is_installed(monkeypatch):
    used = []

    def make_interpreter(**options):
        used.append(True)
        return tf.lite.Interpreter(**options)

    module = types.ModuleType("ai_edge_litert.interpreter")
    module.Interpreter = make_interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("package"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    model, x = build_converted()
    assert predict_tflite(convert_to_tflite(model), x).shape == (40, 3) and used


def test_what_cannot_be_converted_is_named():
    model, x = build_converted()
    for images in (x[:0], np.full((2, 8, 8, 3), np.nan)):
        with pytest.raises(ValueError, match="`representative_images` must be finite"):
            convert_to_tflite(model, images)
    with pytest.raises(ValueError, match="given only with `quantize`"):
        convert_to_tflite(model, x, quantize=False)
    with pytest.raises(ValueError, match=r"fits the model.*\(None, 4, 4, 3\)"):
        convert_to_tflite(model, x[:, :4, :4])
    two = [keras.Input((4,)), keras.Input((4,))]
    with pytest.raises(ValueError, match="one input and one output. Received: 2 and 1"):
        convert_to_tflite(keras.Model(two, keras.layers.Add()(two)))


def test_what_cannot_be_run_is_named():
    model, x = build_converted()
    converted = convert_to_tflite(model)
    with pytest.raises(
        ValueError, match=r"shape \(n, 8, 8, 3\). Received: .*\(8, 8, 3\)"
    ):
        predict_tflite(converted, x[0])
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        predict_tflite(converted, x, batch_size=0)


# --- pruning --------------------------------------------------------------------------


def test_the_smallest_half_of_a_kernel_is_set_to_zero():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[1, -2], [3, -0.5]]), np.array([0.1, 0.2])])
    assert prune_by_magnitude(model, 0.5) == pytest.approx(2 / 6)
    kernel, bias = model.get_weights()
    np.testing.assert_array_equal(kernel, [[0, -2], [3, 0]])
    np.testing.assert_array_equal(bias, np.array([0.1, 0.2], "float32"))


@pytest.mark.parametrize("sparsity", [0, 0.3, 0.9, 1])
def test_each_kernel_loses_the_same_share_and_only_smaller_weights(sparsity):
    model = build_residual_backbone((8, 8, 3), filters=(4, 6))
    randomise(model)
    before = model.get_weights()
    prune_by_magnitude(model, sparsity)
    for old, new in zip(before, model.get_weights(), strict=True):
        lost = new != old
        assert lost.sum() == (round(sparsity * old.size) if old.ndim > 1 else 0)
        assert not new[lost].any()
        if lost.any() and not lost.all():
            assert np.abs(old[lost]).max() <= np.abs(old[~lost]).min()


def test_zeros_are_cheap_only_once_they_are_compressed():
    model = build_mlp_backbone((8, 8, 3), hidden_units=(100,))
    work = count_multiply_adds(model)

    def measure():
        stored = b"".join(weight.tobytes() for weight in model.get_weights())
        return len(stored), len(gzip.compress(stored))

    before = measure()
    assert prune_by_magnitude(model, 0.9) == pytest.approx(0.9, abs=0.01)
    after = measure()
    assert after[0] == before[0] and after[1] < 0.3 * before[1]
    assert count_multiply_adds(model) == work


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, np.nan])
def test_sparsity_out_of_range_is_named(sparsity):
    with pytest.raises(ValueError, match="`sparsity` must be in"):
        prune_by_magnitude(build_mlp_backbone((4,)), sparsity)
