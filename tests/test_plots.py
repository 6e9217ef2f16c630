import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba
from scipy import stats

from transfer_tutorial.plots import (
    STRATEGY_COLORS,
    plot_confusion,
    plot_embedding,
    plot_history,
    plot_images,
    plot_reliability,
    plot_scores_with_intervals,
    plot_shots,
)


def get_data(line):
    return [np.asarray(values).tolist() for values in line.get_data()]


def get_legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


SCORES = np.array([[0.1, 0.3], [0.5, 0.6], [0.7, 0.7]])
HISTORIES = {
    "scratch": {"val_accuracy": [0.1, 0.4], "loss": [2, 1]},
    "my own": {"val_accuracy": [0.2, 0.5, 0.6], "loss": [3, 2, 1]},
}
DRAW = {
    "history": lambda ax: plot_history(HISTORIES, ax=ax),
    "confusion": lambda ax: plot_confusion(np.eye(2, dtype=int), ["a", "b"], ax=ax),
    "reliability": lambda ax: plot_reliability([0.2, 0.8], [0.1, 0.9], ax=ax),
    "embedding": lambda ax: plot_embedding(np.eye(2), [0, 1], ax=ax),
    "shots": lambda ax: plot_shots([1, 5, 20], {"scratch": SCORES}, ax=ax),
    "scores": lambda ax: plot_scores_with_intervals(["a"], [1], [0], [2], ax=ax),
}


@pytest.mark.parametrize("name", DRAW)
def test_plot_draws_on_the_axes_that_it_is_given_and_returns_them(name):
    _, (given, other) = plt.subplots(1, 2)  # `other` is the current one
    assert DRAW[name](given) is given
    assert given.has_data() and not other.has_data()


@pytest.mark.parametrize("name", DRAW)
def test_plot_draws_on_the_current_axes_without_any(name):
    current = plt.figure().add_subplot()
    assert DRAW[name](None) is current
    assert current.has_data() and plt.get_fignums() == [1]


def test_images_are_shown_as_they_are_with_their_titles():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), "uint8")
    axes = plot_images(images, list("abcde"), num_columns=3)
    assert [ax.get_title() for ax in axes] == list("abcde")
    for ax, image in zip(axes, images, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), image)
    figure = axes[0].figure
    assert axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 3)
    assert len(figure.axes) == 6 and not any(ax.axison for ax in figure.axes)


def test_few_images_make_one_row_without_gaps():
    axes = plot_images(np.zeros((3, 4, 4, 3)))
    assert axes[0].get_subplotspec().get_gridspec().get_geometry() == (1, 3)
    assert [ax.get_title() for ax in axes] == [""] * 3


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 4, 4, 1)])
def test_digits_are_ink_on_paper_and_never_stretched(shape):
    axes = plot_images(np.full(shape, 100.0))
    [image] = axes[0].images
    assert image.get_array().shape == (4, 4)
    assert image.get_clim() == (0, 255)
    paper, ink = image.get_cmap()([0.0, 1.0])
    assert paper[:3].tolist() == [1, 1, 1] and ink[:3].tolist() == [0, 0, 0]


def test_history_draws_every_training_from_its_first_epoch():
    ax = plot_history(HISTORIES)
    assert get_legend(ax) == ["scratch", "my own"]
    assert [get_data(line) for line in ax.lines] == [
        [[1, 2], [0.1, 0.4]],
        [[1, 2, 3], [0.2, 0.5, 0.6]],
    ]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "validation accuracy")
    assert plot_history(HISTORIES, "loss", ax=ax).get_ylabel() == "loss"


def test_history_takes_what_fit_returns():
    class History:
        history = {"val_accuracy": [0.5]}

    assert get_data(plot_history({"a": History()}).lines[0]) == [[1], [0.5]]


def test_confusion_writes_each_count_into_its_cell():
    matrix = np.array([[5, 1, 0], [2, 6, 0], [0, 3, 9]])
    ax = plot_confusion(matrix, ["cat", "deer", "ship"])
    found = {text.get_position(): text.get_text() for text in ax.texts}
    # Position (column, row): one deer was taken for a cat twice, and so on.
    assert found == {(c, r): str(matrix[r, c]) for r in range(3) for c in range(3)}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["cat", "deer", "ship"]


def test_confusion_counts_are_readable_on_dark_and_light_cells():
    ax = plot_confusion(np.array([[9, 1], [4, 5]]), ["a", "b"])
    colors = {text.get_text(): text.get_color() for text in ax.texts}
    assert colors == {"9": "white", "1": "black", "4": "black", "5": "white"}


def test_reliability_leaves_empty_bins_out_and_draws_the_diagonal():
    ax = plot_reliability([np.nan, 0.4, 0.9], [np.nan, 0.3, 0.7])
    assert [get_data(line) for line in ax.lines] == [
        [[0, 1], [0, 1]],
        [[0.4, 0.9], [0.3, 0.7]],
    ]
    assert get_legend(ax) == ["perfect", "model"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mean confidence", "accuracy")
    assert ax.get_xlim() == ax.get_ylim() == (0, 1)


def test_embedding_gives_a_class_one_colour_and_a_domain_one_marker():
    points = np.arange(12).reshape(6, 2)
    labels = np.array(["cat", "cat", "dog", "dog", "cat", "dog"])
    domains = np.array(["photo", "photo", "photo", "photo", "drawing", "drawing"])
    ax = plot_embedding(points, labels, domains)
    drawn = {
        group.get_label(): (
            group.get_offsets().tolist(),
            to_hex(group.get_facecolor()[0]),
            len(group.get_paths()[0]),
        )
        for group in ax.collections
    }
    assert drawn["cat photo"][0] == [[0, 1], [2, 3]]
    assert drawn["dog drawing"][0] == [[10, 11]]
    assert drawn["cat photo"][1] == drawn["cat drawing"][1] != drawn["dog photo"][1]
    assert drawn["cat photo"][2] == drawn["dog photo"][2] != drawn["cat drawing"][2]
    assert get_legend(ax) == ["cat drawing", "cat photo", "dog drawing", "dog photo"]


def test_embedding_of_one_domain_names_the_classes_only():
    ax = plot_embedding(np.zeros((3, 2)), [0, 1, 1])
    assert get_legend(ax) == ["0", "1"]


def test_embedding_shows_every_point_however_many_domains_there_are():
    ax = plot_embedding(np.zeros((7, 2)), [0] * 7, np.arange(7))
    assert sum(len(group.get_offsets()) for group in ax.collections) == 7


def test_shots_draw_the_mean_and_its_student_interval():
    shots = [5, 20, 100]
    ax = plot_shots(shots, {"my own": SCORES})
    means = SCORES.mean(axis=1)
    np.testing.assert_allclose(get_data(ax.lines[0]), [shots, means])
    band = ax.collections[0].get_paths()[0].vertices
    for count, scores in zip(shots[:2], SCORES[:2], strict=True):
        expected = stats.t.interval(0.95, 1, scores.mean(), stats.sem(scores))
        at_count = band[band[:, 0] == count, 1]
        assert (at_count.min(), at_count.max()) == pytest.approx(expected)
    assert get_legend(ax) == ["my own"]


def test_shots_are_labelled_by_their_numbers_on_a_logarithmic_axis():
    ax = plot_shots([5, 20, 100], {"scratch": SCORES}, ylabel="macro F1")
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["5", "20", "100"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("labels a class", "macro F1")


def test_scores_are_drawn_with_their_intervals_the_first_on_top():
    ax = plot_scores_with_intervals(
        ["scratch", "my own"], [0.3, 0.6], [0.2, 0.4], [0.5, 0.7]
    )
    assert [get_data(line) for line in ax.lines] == [
        [[0.2, 0.5], [0, 0]],
        [[0.3], [0]],
        [[0.4, 0.7], [1, 1]],
        [[0.6], [1]],
    ]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["scratch", "my own"]
    bottom, top = ax.get_ylim()
    assert bottom > 1 and top < 0  # row 0 is above row 1
    assert ax.get_xlabel() == "score"


@pytest.mark.parametrize("strategy", STRATEGY_COLORS)
def test_a_strategy_has_its_colour_in_every_figure(strategy):
    color = to_rgba(STRATEGY_COLORS[strategy])
    drawn = [
        plot_history({strategy: HISTORIES["scratch"]}, ax=plt.figure().add_subplot()),
        plot_shots([1, 2, 3], {strategy: SCORES}, ax=plt.figure().add_subplot()),
        plot_scores_with_intervals(
            [strategy], [1], [0], [2], ax=plt.figure().add_subplot()
        ),
    ]
    for ax in drawn:
        assert {to_rgba(line.get_color()) for line in ax.lines} == {color}
    assert to_rgba(drawn[1].collections[0].get_facecolor()[0, :3]) == color


def test_strategies_are_told_apart_by_their_colours():
    assert len({to_rgba(color) for color in STRATEGY_COLORS.values()}) == 4


def test_style_of_the_book_can_be_used_by_its_name():
    with plt.style.context("transfer_tutorial.book"):
        assert plt.rcParams["axes.spines.top"] is False
        colors = plt.rcParams["axes.prop_cycle"].by_key()["color"]
        assert f"#{colors[0].lstrip('#')}" == STRATEGY_COLORS["linear probe"]


IMAGES = np.zeros((2, 4, 4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_images(IMAGES[:0]), "`images` .* Received: 0 images, no titles"),
        (
            lambda: plot_images(IMAGES, ["one"]),
            "`titles` .* Received: 2 images, 1 titles",
        ),
        (
            lambda: plot_history(HISTORIES, "val_loss"),
            "`metric` .* 'scratch' has .*'loss'.* Received: metric='val_loss'",
        ),
        (
            lambda: plot_confusion(np.eye(3), ["a", "b"]),
            r"`matrix` .* Received: shape \(3, 3\) for 2 names",
        ),
        (
            lambda: plot_embedding(np.zeros((4, 3)), [0] * 4),
            r"`points` .* Received: points \(4, 3\), 4 labels, 4 domains",
        ),
        (
            lambda: plot_embedding(np.zeros((4, 2)), [0] * 3),
            r"`points` .* Received: points \(4, 2\), 3 labels",
        ),
        (
            lambda: plot_embedding(np.zeros((4, 2)), [0] * 4, ["a"]),
            r"`points` .* Received: .* 1 domains",
        ),
        (
            lambda: plot_shots([1, 2], {"mine": SCORES}),
            r"`scores_by_method` .* Received: \(3, 2\) for 'mine' and 2 shots",
        ),
        (
            lambda: plot_shots([1, 2, 3], {"mine": SCORES[:, :1]}),
            r"`scores_by_method` .* Received: \(3, 1\) for 'mine'",
        ),
        (
            lambda: plot_shots([1, 2, 3], {"mine": SCORES[:, 0]}),
            r"`scores_by_method` .* Received: \(3,\) for 'mine'",
        ),
        (
            lambda: plot_scores_with_intervals(["a", "b"], [1, 2], [0], [2, 3]),
            "`names`, `scores`, `lows` and `highs` .* Received: 2, 2, 1, 2",
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
