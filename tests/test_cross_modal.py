import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from transfer_tutorial.cross_modal import classify_zero_shot, contrastive_loss


def make_pairs(n, d, *, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, n, d))


def loop_over_pairs(text, image, temperature):
    """The loss of the paper, written out; all sentences differ."""
    unit_text = [t / np.sqrt(np.sum(t**2)) for t in text]
    unit_image = [i / np.sqrt(np.sum(i**2)) for i in image]
    losses = []
    for row in range(len(text)):
        texts = [np.dot(unit_image[row], t) / temperature for t in unit_text]
        images = [np.dot(i, unit_text[row]) / temperature for i in unit_image]
        to_text = np.log(np.sum(np.exp(texts))) - texts[row]
        to_image = np.log(np.sum(np.exp(images))) - images[row]
        losses.append((to_text + to_image) / 2)
    return losses


def test_loss_is_that_of_the_paper_where_all_sentences_differ():
    text, image = make_pairs(6, 4)
    expected = loop_over_pairs(text, image, 0.2)
    np.testing.assert_allclose(contrastive_loss(text, image, 0.2), expected, rtol=1e-10)


def test_loss_of_two_pairs_is_the_one_worked_out_by_hand():
    # Cosines 1 on the diagonal, 0 beside it: each picks among e^1 and e^0.
    text = image = np.eye(2)
    expected = np.log(1 + np.exp(-1))
    np.testing.assert_allclose(contrastive_loss(text, image, 1.0), [expected] * 2)


def test_loss_of_pictures_that_are_all_alike_is_that_of_guessing():
    text, _ = make_pairs(5, 3)
    image = np.ones((5, 3))
    to_image = contrastive_loss(text, image, 1e9)
    np.testing.assert_allclose(to_image, np.log(5), rtol=1e-6)


def test_one_pair_alone_has_nothing_to_confuse():
    text, image = make_pairs(1, 3)
    np.testing.assert_allclose(contrastive_loss(text, image), [0], atol=1e-12)


def test_pictures_of_one_sentence_are_right_answers_to_each_other():
    # Two pictures of one sentence, both on it: nothing is left to learn.
    text = np.array([[1.0, 0], [1, 0], [-1, 0]])
    image = np.array([[1.0, 0], [1, 0], [-1, 0]])
    assert np.max(contrastive_loss(text, image, 0.01)) < 1e-12


def test_pictures_of_one_sentence_attract_each_other():
    text = tf.constant([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    image = tf.Variable([[1.0, 0.2], [0.2, 1.0], [0.0, 1.0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(contrastive_loss(text, image))
    step = image - 0.01 * tape.gradient(loss, image)
    cosine = tf.reduce_sum(tf.math.l2_normalize(image, 1)[:2] * text[:2], 1)
    closer = tf.reduce_sum(tf.math.l2_normalize(step, 1)[:2] * text[:2], 1)
    assert closer[1] > cosine[1]


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_loss_does_not_depend_on_the_length_of_a_vector(scale):
    text, image = make_pairs(4, 3)
    np.testing.assert_allclose(
        contrastive_loss(text * 3, image * scale), contrastive_loss(text, image)
    )


def test_loss_follows_the_order_of_the_rows():
    text, image = make_pairs(5, 3)
    order = [3, 1, 4, 0, 2]
    np.testing.assert_allclose(
        contrastive_loss(text[order], image[order]),
        np.array(contrastive_loss(text, image))[order],
    )


def test_gradient_agrees_with_finite_differences():
    text, image = make_pairs(4, 3)
    variable = tf.Variable(image)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(contrastive_loss(text, variable))
    found = tape.gradient(loss, variable).numpy()
    step = 1e-6
    for place in np.ndindex(image.shape):
        up, down = image.copy(), image.copy()
        up[place] += step
        down[place] -= step
        change = np.sum(contrastive_loss(text, up)) - np.sum(
            contrastive_loss(text, down)
        )
        assert found[place] == pytest.approx(change / (2 * step), abs=1e-6)


def test_a_linear_map_learns_to_answer_with_sentences():
    rng = np.random.default_rng(0)
    sentences = rng.normal(size=(4, 8)).astype("float32")
    labels = np.arange(80) % 4
    pictures = (sentences @ rng.normal(size=(8, 16)))[labels]
    pictures = (pictures + 0.1 * rng.normal(size=pictures.shape)).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
    model.compile(keras.optimizers.Adam(0.01), contrastive_loss)
    history = model.fit(pictures, sentences[labels], epochs=20, verbose=0)
    found = classify_zero_shot(model(pictures).numpy(), sentences)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert np.mean(found.argmax(axis=1) == labels) == 1


@pytest.mark.parametrize(
    ("text", "image"), [((4, 3), (4, 2)), ((4, 3), (5, 3)), ((3,), (3,))]
)
def test_loss_refuses_what_are_no_pairs(text, image):
    with pytest.raises(ValueError, match=r"`text_features`.*\(batch, d\)"):
        contrastive_loss(np.ones(text), np.ones(image))


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="`temperature`.*positive"):
        contrastive_loss(np.eye(2), np.eye(2), temperature)
    with pytest.raises(ValueError, match="`temperature`.*positive"):
        classify_zero_shot(np.eye(2), np.eye(2), temperature)


def test_picture_gets_the_class_whose_sentence_is_nearest_in_angle():
    classes = np.array([[1.0, 0], [0, 1]])
    found = classify_zero_shot([[9.0, 1], [0.1, 0.2]], classes)
    assert found.argmax(axis=1).tolist() == [0, 1]


def test_probabilities_are_the_ones_worked_out_by_hand():
    # Cosines 1 and 0, divided by 1.
    found = classify_zero_shot([[2.0, 0]], [[3.0, 0], [0, 5]], temperature=1.0)
    np.testing.assert_allclose(found, [[np.e / (np.e + 1), 1 / (np.e + 1)]])


def test_temperature_changes_how_sure_it_is_and_not_the_winner():
    image, classes = make_pairs(20, 6)
    cold = classify_zero_shot(image, classes[:4], 0.01)
    warm = classify_zero_shot(image, classes[:4], 10.0)
    assert (cold.argmax(axis=1) == warm.argmax(axis=1)).all()
    assert (cold.max(axis=1) > warm.max(axis=1)).all()


def test_picture_without_features_is_alike_to_nothing():
    found = classify_zero_shot(np.zeros((1, 3)), np.eye(3))
    np.testing.assert_allclose(found, [[1 / 3] * 3])


def test_no_picture_gives_no_row():
    assert classify_zero_shot(np.zeros((0, 3)), np.eye(3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("image", "classes", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"`class_features`.*\(2, 4\)"),
        (np.ones(3), np.ones((2, 3)), r"`image_features`.*\(3,\)"),
        (np.ones((2, 3)), np.ones((1, 3)), "`class_features`.*two or more"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "finite"),
        (np.ones((2, 3)), np.full((2, 3), np.inf), "finite"),
    ],
)
def test_zero_shot_refuses_what_it_cannot_compare(image, classes, message):
    with pytest.raises(ValueError, match=message):
        classify_zero_shot(image, classes)


NUMBERS = st.sampled_from([0, 0.1, -1, 3, 5e-324, 1e-200, 1e200, 1.7e308, -1.7e308])


@settings(deadline=None)
@given(
    arrays("float64", (3, 2), elements=NUMBERS),
    arrays("float64", (2, 2), elements=NUMBERS),
    st.sampled_from([5e-324, 1e-3, 1, 1e300]),
)
def test_zero_shot_gives_probabilities_for_whatever_is_finite(image, classes, heat):
    found = classify_zero_shot(image, classes, heat)
    assert np.isfinite(found).all() and (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@settings(deadline=None, max_examples=30)
@given(arrays("float32", (4, 3), elements=st.floats(-1e3, 1e3, width=32)))
def test_loss_is_finite_and_at_least_zero_for_whatever_is_finite(image):
    text = np.eye(4, 3, dtype="float32")  # the last sentence is empty
    found = contrastive_loss(text, image).numpy()
    assert np.isfinite(found).all() and (found > -1e-5).all()
