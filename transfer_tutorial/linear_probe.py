"""Features once, then a linear classifier: the cheapest transfer, and often enough."""

import os
import pathlib
import tempfile

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits


def extract_features(backbone, x, *, batch_size=64, verbose="auto"):
    """Run a frozen backbone over the inputs once.

    The backbone is used in inference mode, whatever its `trainable` says.

    Args:
        backbone: A `keras.Model`, inputs to features `(batch, d)`.
        x: Array of inputs, shape `(n, ...)`; images in 0...255.
        batch_size: Inputs a batch.
        verbose: Progress display, as in `keras.Model.predict`.

    Returns:
        float32 features of shape `(n, d)`, in the order of `x`.

    Raises:
        ValueError: If `x` is empty, or holds float images that were already scaled
            to 0...1.
    """
    x = np.asarray(x)
    if len(x) == 0:
        raise ValueError(
            f"`x` must have at least one row. Received: an array of shape {x.shape}."
        )
    if x.ndim == 4 and x.dtype.kind == "f" and 0 < x.max() <= 1:
        raise ValueError(
            "`x` must hold images in 0...255: the backbone scales them itself. "
            f"Received: {x.dtype} images with maximum {x.max():.3g}."
        )
    import tensorflow as tf  # here, or each process that only fits probes would wait

    # Of an array `predict` makes a dataset too, but in several times the time.
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(batch_size)
    return backbone.predict(dataset, verbose=verbose)


def load_or_compute(path, compute):
    """Load an array from a file, or compute and store it there: a feature cache.

    The file is the key. Put everything that the array depends on into its name,
    such as `"cifar10_train_lite0_96px.npy"`. The array is written to a temporary
    file first, so an interrupted run leaves no half-written cache.

    Args:
        path: Where the array is or will be; should end in `.npy`.
        compute: Function without arguments that returns the array.

    Returns:
        The array.

    Raises:
        OSError: If the file exists but cannot be read as an array.
        ValueError: If `compute` returns objects instead of numbers or text.
    """
    path = pathlib.Path(path)
    if path.exists():
        try:
            with open(path, "rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, OSError) as error:
            raise OSError(
                f"The cache {path} is damaged: {error}. Delete it to compute it again."
            ) from error
    array = np.asarray(compute())
    if array.dtype == object:
        raise ValueError(
            "`compute` must return an array of numbers or text. "
            f"Received: dtype object, shape {array.shape}."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(partial, path)  # atomic: readers see the whole file or none
    except BaseException:
        os.unlink(partial)
        raise
    return array


def fit_linear_probe(features, labels, *, seed=0):
    """Fit a linear classifier on frozen features: scaling, then logistic regression.

    The strength of regularisation is chosen among four powers of ten by
    cross-validation on the given rows (three folds, fewer where a class has fewer
    rows). With one row a class there is nothing to validate on, and C is 0.01.
    A feature whose spread is below a millionth of the largest one counts as constant.

    Args:
        features: Array of shape `(n, d)`, finite.
        labels: Integer labels of shape `(n,)`, at least two different ones.
        seed: Seed of the folds.

    Returns:
        A fitted scikit-learn `Pipeline` with `predict` and `predict_proba`.

    Raises:
        ValueError: If the lengths differ, a feature is not finite, or there is only
            one class.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or len(features) != len(labels):
        raise ValueError(
            "`features` must have shape (n, d) with one label a row. "
            f"Received: features {features.shape}, labels {labels.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError("`features` must be finite. Received: NaN or infinity.")
    smallest_class = np.unique(labels, return_counts=True)[1].min(initial=len(labels))
    if len(np.unique(labels)) < 2:
        raise ValueError(
            "`labels` must have at least two classes. "
            f"Received: {np.unique(labels).tolist()}."
        )
    # Dead features exist: MiniLM has one of 1e-33. Scaled to unit spread it would be
    # noise, and its weight would overflow in `set_head_from_probe`.
    spread = features.std(axis=0, dtype="float64")
    features = np.where(spread < 1e-6 * spread.max(initial=0), 0, features)
    # In float32 the last steps of the search drown in rounding, and it gives up.
    features = features.astype("float64")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    # One BLAS thread: these products are small, and threads that wait for each other
    # on a busy machine make the fit tens of times slower.
    with threadpool_limits(1):
        if smallest_class < 2:
            return probe.fit(features, labels)
        folds = StratifiedKFold(min(3, smallest_class), shuffle=True, random_state=seed)
        grid = {"logisticregression__C": [1e-4, 1e-3, 1e-2, 1e-1]}
        search = GridSearchCV(probe, grid, cv=folds, scoring="neg_log_loss")
        return search.fit(features, labels).best_estimator_


def set_head_from_probe(classifier, probe):
    """Make a fitted probe the head of a classifier, in place.

    The scaling of the probe is folded into the head's weights, so the classifier gives
    the probe's probabilities. Fine-tuning from there is called LP-FT: the probe first,
    then all weights, at a low rate.

    Args:
        classifier: A `keras.Model` whose last layer is a softmax named `"head"`.
        probe: What `fit_linear_probe` returned, fitted on the features below the head;
            its classes are 0, 1, ... in order.

    Raises:
        ValueError: If the probe's features or classes are not those of the head.

    Reference:
        Kumar, Raghunathan, Jones, Ma and Liang, 2022, "Fine-Tuning can Distort
        Pretrained Features and Underperform Out-of-Distribution", section 3.
    """
    scaler, linear = probe[0], probe[-1]
    weights, offsets = linear.coef_, linear.intercept_
    if len(weights) == 1:  # two classes share one vector: their logits are -z/2 and z/2
        weights = np.concatenate([-weights, weights]) / 2
        offsets = np.concatenate([-offsets, offsets]) / 2
    kernel = (weights / scaler.scale_).T  # (d, num_classes)
    head = classifier.get_layer("head")
    expected = tuple(head.kernel.shape)
    if kernel.shape != expected or list(linear.classes_) != list(range(expected[1])):
        raise ValueError(
            f"`probe` must map {expected[0]} features to the classes 0..."
            f"{expected[1] - 1} of the head. Received: {kernel.shape[0]} features, "
            f"classes {linear.classes_.tolist()}."
        )
    head.set_weights([kernel, offsets - scaler.mean_ @ kernel])
