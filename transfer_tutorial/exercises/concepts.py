"""Checks for the exercises of the introduction and of the chapters on concepts."""

import keras
import numpy as np
from scipy import stats

from transfer_tutorial.exercises.feedback import (
    NotYet,
    answers,
    expect,
    expect_function,
)


@answers("A gain is only as large as the baseline is weak: name the one you took.")
def check_gain_over_baselines(answer):
    """Check the exercise of `introduction/why_transfer`: something to beat.

    Args:
        answer: A function of a dictionary with the keys `"raw pixels"`, `"scratch"`
            and `"linear probe"`: lists of accuracies, one a seed. It returns a number.
    """
    expect_function(answer)
    probe = np.array([0.62, 0.55, 0.61, 0.58])
    strong, weak = (
        np.array([0.38, 0.27, 0.31, 0.37]),
        np.array([0.22, 0.33, 0.28, 0.24]),
    )
    mistakes = [
        ((probe - weak).mean(), "this is the gain over the weaker baseline."),
        (
            (probe - np.maximum(strong, weak)).mean(),
            "the baseline changes from seed to seed here; choose one for all of them.",
        ),
        (probe.max() - strong.max(), "the best seed is luck; take the mean over all."),
        (probe - strong, "these are the gains seed by seed; give their mean."),
    ]
    for names in (("raw pixels", "scratch"), ("scratch", "raw pixels")):
        scores = dict(zip(names, (strong.tolist(), weak.tolist()), strict=True))
        received = answer(scores | {"linear probe": probe.tolist()})
        expect(received, (probe - strong).mean(), mistakes=mistakes)


@answers("Only the head learns, so few labels are enough; the features are a gift.")
def check_probe_network(answer):
    """Check the exercise of `introduction/why_transfer`: a probe as one network.

    Args:
        answer: A function of a backbone, inputs to features `(batch, d)`, and of the
            number of classes. It returns a compiled classifier for integer labels.
    """
    expect_function(answer)
    inputs = keras.Input((4,))
    features = keras.layers.Dense(5, activation="tanh", name="hidden")(inputs)
    features = keras.layers.BatchNormalization(name="norm")(features)
    backbone = keras.Model(inputs, features)
    classifier = answer(backbone, 3)
    if not isinstance(classifier, keras.Model) or not classifier.compiled:
        raise NotYet("return a Keras model that is compiled, so that `fit` can begin.")
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    p = classifier.predict(x, verbose=0)
    if p.shape != (6, 3) or not np.allclose(p.sum(axis=1), 1, atol=1e-5):
        raise NotYet("the head must give one probability a class: a softmax.")
    if not classifier.trainable_variables:
        raise NotYet("everything is frozen, the head as well: nothing can learn.")
    before = backbone.get_weights()
    classifier.train_on_batch(x, np.array([0, 1, 2, 0, 1, 2]))
    after = backbone.get_weights()
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    if any(moved[:4]):
        raise NotYet("a batch of training has changed weights of the backbone.")
    if any(moved):
        raise NotYet(
            "the moving averages of the backbone's BatchNormalization have moved. "
            "They stay when the whole backbone is frozen."
        )


@answers("Ask what differs, and where there are labels; names of papers do not tell.")
def check_transfer_settings(answer):
    """Check the exercise of `concepts/domains_and_tasks`: which setting is it?

    Args:
        answer: A dictionary from the letters `"a"` to `"e"` to `"inductive"`,
            `"transductive"` or `"unsupervised"`.
    """
    hints = {
        "a": (
            "inductive",
            "other classes are another task, and the leaves have labels.",
        ),
        "b": (
            "transductive",
            "the question is the same; who has labels, and who none?",
        ),
        "c": ("unsupervised", "has anybody labelled anything, on either side?"),
        "d": (
            "inductive",
            "a source may be without labels; look at the target's side.",
        ),
        "e": ("transductive", "the name misleads: the catalogue has labels."),
    }
    if not isinstance(answer, dict) or set(answer) != set(hints):
        raise NotYet(f"give one word for each of the letters {', '.join(hints)}.")
    for letter, (setting, hint) in hints.items():
        if answer[letter] not in ("inductive", "transductive", "unsupervised"):
            raise NotYet(
                f"({letter}) needs one of the three words. Received: {answer[letter]!r}"
            )
        if answer[letter] != setting:
            raise NotYet(f"think again about ({letter}): {hint}")


@answers("Two numbers, two questions: what comes, and what it is called.")
def check_domain_and_task(answer):
    """Check the exercise of `concepts/domains_and_tasks`: what differs, in numbers.

    Args:
        answer: A function of two tables of counts, source and target, each of shape
            `(num_inputs, num_labels)`. It returns two numbers in [0, 1].
    """
    expect_function(answer)
    counts = (
        np.array([[30, 10], [5, 15], [20, 20]]),
        np.array([[8, 12], [9, 51], [42, 78]]),
    )
    joint_s, joint_t = (table / table.sum() for table in counts)
    x_s, x_t = (joint.sum(axis=1) for joint in (joint_s, joint_t))
    y_s, y_t = (joint.sum(axis=0) for joint in (joint_s, joint_t))
    domain = np.abs(x_s - x_t).sum() / 2
    task = np.abs(joint_s / x_s[:, None] - joint_t / x_t[:, None]).max()
    columns = np.abs(joint_s / y_s - joint_t / y_t).max()
    mistakes = [
        ((np.abs(y_s - y_t).sum() / 2, task), "a domain has no labels: sum them out."),
        ((domain, columns), "this compares P(X | Y); the rule is P(Y | X)."),
        (
            (domain, np.abs(joint_s - joint_t).max()),
            "a rule is per input: each row of P(Y | X) sums to 1.",
        ),
        ((2 * domain, task), "halve the sum, so that 1 means nothing in common."),
    ]
    expect(answer(*counts), (domain, task), mistakes=mistakes)


@answers("The lower part is the source's, the upper part is yours to train.")
def check_transplant(answer):
    """Check the exercise of `concepts/what_transfers`: transplant the first layers.

    Args:
        answer: A function of two networks of one shape, `trained` and `fresh`, and of
            the name of a layer, `cut`. It changes `fresh` in place.
    """
    expect_function(answer)
    trained, fresh = _build_chain(1), _build_chain(2)
    before = {layer.name: layer.get_weights() for layer in fresh.layers}
    answer(trained, fresh, "norm_1")
    after = {layer.name: layer.get_weights() for layer in fresh.layers}
    wanted = {layer.name: layer.get_weights() for layer in trained.layers}
    changed = {name for name in before if not _equal(before[name], after[name])}
    if not changed:
        raise NotYet("`fresh` still has all its own weights.")
    if changed & {"dense_2", "norm_2"}:
        raise NotYet("layers above the cut have changed; they are to start afresh.")
    if "norm_1" not in changed:
        raise NotYet("the layer named `cut` belongs to the lower part.")
    if not _equal(after["norm_1"][2:], wanted["norm_1"][2:]):
        raise NotYet(
            "the moving averages of BatchNormalization are missing. They are among "
            "a layer's weights, though not among the trainable ones."
        )
    if not all(_equal(after[name], wanted[name]) for name in ("dense_1", "norm_1")):
        raise NotYet("up to the cut, every weight must be that of `trained`.")
    if any(fresh.get_layer(name).trainable for name in ("dense_1", "norm_1")):
        raise NotYet("the transplanted layers would still learn.")
    if not all(
        fresh.get_layer(name).trainable_variables for name in ("dense_2", "norm_2")
    ):
        raise NotYet("the layers above the cut must be able to learn.")


def _build_chain(seed):
    layers = [keras.Input((4,), name="input")]
    for i in (1, 2):
        layers.append(keras.layers.Dense(3, name=f"dense_{i}"))
        layers.append(keras.layers.BatchNormalization(name=f"norm_{i}"))
    chain, rng = keras.Sequential(layers), np.random.default_rng(seed)
    chain.set_weights([rng.uniform(0.5, 2, w.shape) for w in chain.get_weights()])
    return chain


def _equal(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@answers("Known errors can be taken out of a count, without one target label.")
def check_adjusted_share(answer):
    """Check the exercise of `concepts/distribution_shift`: the share behind a count.

    Args:
        answer: A function of true labels and answers on held-out source rows, (n,),
            and of answers on target rows, (m,), all 0 or 1. It returns a share.
    """
    expect_function(answer)
    y_true, y_pred = np.repeat([[0, 0, 1, 1], [0, 1, 0, 1]], [14, 6, 3, 27], axis=1)
    target_pred = np.repeat([0, 1], [13, 12])
    counted, found, false = target_pred.mean(), 27 / 30, 6 / 20
    as_at_source = counted * 27 / 33 + (1 - counted) * 3 / 17
    mistakes = [
        (counted, "this is the count itself, with all the model's mistakes in it."),
        (y_true.mean(), "this is the source's share; the target's has moved."),
        (counted / found, "take out the false alarms on class 0, too."),
        (
            as_at_source,
            "how often an answer 1 is right depends on the share, which has moved. "
            "What stays is how often each class gets the answer 1.",
        ),
    ]
    right = (counted - false) / (found - false)
    expect(answer(y_true, y_pred, target_pred), right, mistakes=mistakes)


@answers("The accuracy at the target, from rows of the source and no target label.")
def check_target_accuracy(answer):
    """Check the exercise of `concepts/distribution_shift`: weigh what you score.

    Args:
        answer: A function of the probabilities that source rows are from the target,
            (n,), and of whether the model is right on them, (n,). It returns a share.
    """
    expect_function(answer)
    p = np.array([0.1, 0.2, 0.35, 0.5, 0.6, 0.8])
    right = np.array([1, 1, 1, 0, 1, 0])
    odds = p / (1 - p)
    mistakes = [
        (right.mean(), "this is the accuracy at the source: no row has a weight."),
        (p @ right / p.sum(), "the weight is a ratio of two probabilities."),
        (right @ (1 / odds) / (1 / odds).sum(), "the ratio is upside down."),
        ((odds * right).mean(), "divide by the sum of the weights."),
    ]
    expect(answer(p, right), odds @ right / odds.sum(), mistakes=mistakes)


@answers("Pairing takes out what a lucky draw does to both methods.")
def check_paired_interval(answer):
    """Check the exercise of `concepts/evaluation_protocol`: an interval by hand.

    Args:
        answer: A function of two lists of scores, baseline and transfer, one a seed
            and in the same order. It returns `(low, high)`.
    """
    expect_function(answer)
    baseline = np.array([0.61, 0.55, 0.68, 0.52, 0.64])
    transfer = np.array([0.66, 0.57, 0.71, 0.59, 0.65])
    gains = transfer - baseline
    n, t, ends = len(gains), stats.t.ppf(0.975, 4), np.array([-1, 1])
    error = gains.std(ddof=1) / np.sqrt(n)
    unpaired = np.hypot(baseline.std(ddof=1), transfer.std(ddof=1)) / np.sqrt(n)
    mistakes = [
        (gains.mean() + ends * 1.96 * error, "1.96 is for many seeds; there are five."),
        (gains.mean() + ends * t * gains.std() / np.sqrt(n), "divide by n - 1 in s."),
        (
            gains.mean() + ends * t * error * np.sqrt(n),
            "this is for single runs: s, not s over the root of n.",
        ),
        (gains.mean() + ends * t * unpaired, "this is not paired: subtract first."),
        (-gains.mean() + ends * t * error, "this is baseline minus transfer."),
    ]
    expect(
        answer(baseline.tolist(), transfer.tolist()),
        gains.mean() + ends * t * error,
        mistakes=mistakes,
    )


@answers("Whatever may resemble itself stays on one side.")
def check_training_rows(answer):
    """Check the exercise of `concepts/evaluation_protocol`: rows that may train.

    Args:
        answer: A function of the recording of every row, integers (n,), and of the
            numbers of the test rows, (m,). It returns row numbers, ascending.
    """
    expect_function(answer)
    groups, test_rows = np.array([3, 1, 1, 2, 3, 0, 2, 4, 0, 1]), np.array([2, 4])
    barred = np.isin(groups, groups[test_rows])
    mistakes = [
        (
            np.delete(np.arange(10), test_rows),
            "rows of the recordings that test are among them: near-copies.",
        ),
        (np.flatnonzero(barred), "these are the rows that must not train."),
        (
            np.flatnonzero(~np.isin(groups, test_rows)),
            "`test_rows` are numbers of rows, not of recordings.",
        ),
        (~barred, "give the numbers of the rows, not one True or False for each."),
    ]
    expect(answer(groups, test_rows), np.flatnonzero(~barred), mistakes=mistakes)
