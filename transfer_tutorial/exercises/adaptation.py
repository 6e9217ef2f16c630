"""Checks for the exercises of the chapters on mismatch, adaptation and harm."""

import numpy as np

from transfer_tutorial.exercises.feedback import (
    NotYet,
    answers,
    expect,
    expect_function,
)


@answers("No label was needed, and no row was asked that had been learnt from.")
def check_view_choice(answer):
    """Check the exercise of `challenges/data_mismatch`: choose a view without labels.

    Args:
        answer: A function of the source pictures (n, d), and of a dictionary from the
            names of views to target pictures (m, d). It returns the name of the view
            that a classifier finds hardest to tell from the source.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    # More numbers than rows: on the rows it has learnt from, a classifier errs nowhere.
    source, *views = rng.normal(size=(4, 60, 150))
    moved = {"a little off": 0.3, "alike": 0.0, "far off": 1.0}
    views = {n: v + moved[n] for n, v in zip(moved, views, strict=True)}
    chosen = answer(source, views)
    if chosen is None:
        raise NotYet("there is no answer yet. Received: None")
    if chosen not in views:
        raise NotYet(f"return one of the names {list(views)}. Received: {chosen!r}")
    if chosen == "far off":
        raise NotYet("this view is the easiest to tell from the source: the other end.")
    if chosen == "a little off":
        raise NotYet(
            "another view is harder to tell from the source. On the rows that it has "
            "learnt from, a classifier of so many numbers makes no error with any "
            "view: which rows do you ask it about?"
        )


@answers("A distance of pictures cannot see that they are the wrong pictures.")
def check_destroyed_view(answer):
    """Check the exercise of `challenges/data_mismatch`: what a small distance hides.

    Args:
        answer: The pair (proxy A-distance, in 0...2; accuracy, in 0...1) of a view that
            replaces every target picture by a random picture of the source.
    """
    perfect = (
        "the pictures are those that the model knows best, but what is its answer "
        "compared with? With the label of the picture that was replaced."
    )
    far = (
        "the classifier would have to tell pictures of the source from pictures of the "
        "source; how often is it right, and which distance is that?"
    )
    mistakes = [
        ((0, 1), perfect),
        ((2, 0.1), far),
        ((2, 1), far),
        ((0, 0), "the accuracy is low, but by chance some answers are right."),
        ((1, 0.1), "0.5 is the error of the classifier, not yet the distance."),
    ]
    expect(answer, (0, 0.1), mistakes=mistakes, tolerance=0.02)


def _normalize(z, mean, square, gamma, beta):
    return (z - mean) / np.sqrt(square) * gamma + beta


@answers("No step of training, and every feature is centred and scaled as it was.")
def check_adabn(answer):
    """Check the exercise of `challenges/unsupervised_adaptation`: new statistics.

    Args:
        answer: A function of the target's features (n, d), of the mean and the variance
            of the source, of gamma and beta, all (d,), and of epsilon, a small number.
            It returns what BatchNorm gives for these features after AdaBN, (n, d).
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 3)) * [1, 2, 3] + [4, 5, 6]
    mean, variance, gamma, beta = rng.uniform(0.5, 1.5, size=(4, 3))
    epsilon, affine = 0.1, (gamma, beta)
    own_mean, own_variance = z.mean(axis=0), z.var(axis=0)
    right = _normalize(z, own_mean, own_variance + epsilon, *affine)
    source = "the mean or the variance, or both, are still those of the source."
    mistakes = [
        (_normalize(z, mean, variance + epsilon, *affine), source),
        (_normalize(z, own_mean, variance + epsilon, *affine), source),
        ((right - beta) / gamma, "gamma and beta are missing; AdaBN keeps them."),
        (
            _normalize(z, z.mean(), z.var() + epsilon, *affine),
            "each feature has a mean and variance of its own.",
        ),
        (
            _normalize(z, own_mean, (own_variance + epsilon) ** 2, *affine),
            "this divides by the variance; take its square root.",
        ),
    ]
    expect(answer(z, mean, variance, gamma, beta, epsilon), right, mistakes=mistakes)


@answers("The pictures had not changed, only their proportions, and AdaBN moved them.")
def check_moved_threshold(answer):
    """Check the exercise of `challenges/unsupervised_adaptation`: other proportions.

    Args:
        answer: The value of the feature from which on the model says "class 1" after
            AdaBN, a number in 0...1.
    """
    mistakes = [
        (0.5, "that is the threshold before AdaBN. Which value becomes 0 now?"),
        (0.1, "that would be it if one picture in ten were of class 1."),
        (0.0, "that is the normalised threshold; which raw value becomes it?"),
    ]
    expect(answer, 0.9, mistakes=mistakes)


@answers("Report it, or choose without labels: no model has become better by it.")
def check_flattery(answer):
    """Check the exercise of `challenges/unsupervised_adaptation`: choosing by cheating.

    Args:
        answer: A function of the accuracy on the target and of the value of a rule
            (higher is better), both (seeds, settings). It returns the mean accuracy,
            if each seed chooses by target labels, less that if it chooses by the rule.
    """
    expect_function(answer)
    accuracy = [[0.5, 0.6, 0.8], [0.9, 0.3, 0.4], [0.7, 0.2, 0.65], [0.45, 0.6, 0.1]]
    rule = [[3.0, 9.0, 1.0], [2.0, 1.0, 2.5], [8.0, 6.0, 7.0], [4.0, 4.5, 4.2]]
    accuracy, rule = np.array(accuracy), np.array(rule)
    best = (0.8 + 0.9 + 0.7 + 0.6) / 4
    right = best - (0.6 + 0.4 + 0.7 + 0.6) / 4
    mistakes = [
        (-right, "the sign is turned: choosing by target labels can never be worse."),
        (best - accuracy.mean(), "the rule chooses; this takes all settings."),
        (
            accuracy.mean(axis=0).max() - accuracy.mean(axis=0)[1],
            "each seed chooses for itself; here all have got one and the same setting.",
        ),
        (
            best - rule.max(axis=1).mean(),
            "these are the rule's values; subtract the accuracy of what it chooses.",
        ),
    ]
    expect(answer(accuracy, rule), right, mistakes=mistakes)


def _make_fit(right, asked):
    """A way to fit. It is right on the rows `right`; if None, on those it has seen."""

    def fit(x, y):
        if len(np.unique(y)) < 4:
            raise NotYet("in one part a class is missing; each part needs every class.")
        known = x[:, 0] if right is None else right

        def predict(x):
            asked.update(x[:, 0])
            return np.where(np.isin(x[:, 0], known), x[:, 0] // 6, -1)

        return predict

    return fit


def _decide(decide, scratch, source):
    """What `decide` says of two ways to fit; 24 rows in the order of four classes."""
    rows, asked = np.arange(24), set()
    x = np.column_stack([rows, 0 * rows])
    said = decide(x, rows // 6, _make_fit(scratch, asked), _make_fit(source, asked))
    if said is None:
        raise NotYet("there is no answer yet. Received: None")
    if len(asked) < 24:
        raise NotYet(
            "each labelled row is held out once, so go through all three parts. "
            f"Asked about: {len(asked)} of 24 rows"
        )
    return bool(said)


@answers("The labels that you have know what no distance between pictures can.")
def check_asking_labels(answer):
    """Check the exercise of `challenges/negative_transfer`: transfer, or not?

    Args:
        answer: A function of the labelled rows `x` (n, d) and `y` (n,), and of two
            functions, `fit_scratch` and `fit_source`, that take rows and labels and
            return a function from rows to predicted labels. It returns True if the
            source has more right on rows that were held out, False otherwise.
    """
    expect_function(answer)
    rows = np.arange(24)
    if _decide(answer, rows[rows % 3 > 0], None):
        raise NotYet(
            "this source only knows by heart what it was fitted on. The rows that you "
            "ask about must not be among those that were learnt from."
        )
    if not _decide(answer, rows[::2], rows[rows % 6 > 0]):
        raise NotYet("this source has more right on held-out rows: True.")
    if _decide(answer, rows[::2], rows[1::2]):
        raise NotYet("both have equally many right, and a tie is for scratch.")


@answers("Only what reads the old names can notice that they have changed.")
def check_renamed_classes(answer):
    """Check the exercise of `challenges/negative_transfer`: the source, renamed.

    Args:
        answer: A list of those numbers, by their names in the start, that change when
            all classes of the source get other names.
    """
    if answer is None:
        raise NotYet("there is no answer yet. Received: None")
    heart = "compares the features with the target's labels; neither has changed."
    reasons = {
        "distance on features": "looks at features only, and they have not changed.",
        "accuracy at home": "is measured with labels that are renamed in the same way.",
        "CKA with labels": heart,
        "LogME": heart,
        "LEEP": "learns from the target's labels what each source class means.",
        "gain of a new head": "begins with the same features; the head is new.",
    }
    named = {answer} if isinstance(answer, str) else set(answer)
    for name, reason in reasons.items():
        if name in named:
            raise NotYet(f"{name!r} {reason}")
    if unknown := named - {"gain of the kept head"}:
        unknown = ", ".join(sorted(map(str, unknown)))
        raise NotYet(f"use the names of the start. Received: {unknown}")
    if not named:
        raise NotYet("one of them changes: which one uses the old names?")
