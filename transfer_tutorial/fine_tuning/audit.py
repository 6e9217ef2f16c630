"""Did fine-tuning happen, and to what? This file can be pasted as it is."""

import keras
import numpy as np


def snapshot_weights(model):
    """Copy the weights of every layer, to be compared with later ones.

    Args:
        model: A built `keras.Model`; models nested in it are entered.

    Returns:
        A dict from the layer's path, such as `"source_cnn/stem_conv"`, to the list of
        its weights as arrays, in the order of `layer.weights`.
    """
    snapshot = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            inner = snapshot_weights(layer)
            snapshot |= {f"{layer.name}/{path}": w for path, w in inner.items()}
        elif layer.weights:
            snapshot[layer.name] = layer.get_weights()
    return snapshot


def measure_moves(model, before):
    """Measure how far each layer moved since a snapshot.

    A move is `||after - before|| / ||before||`, the norms taken over all weights of
    the layer together: 0 is at rest, 1 is as far as the layer's own size. Moving
    statistics of BatchNormalization are measured by themselves.

    Args:
        model: The `keras.Model` that the snapshot was taken of.
        before: What `snapshot_weights(model)` returned before training.

    Returns:
        A list of dicts in the order of the snapshot: `layer` (path), `trainable`
        (whether `fit` after the next `compile` would change it), `moved`, and
        `statistics_moved` (None where the layer keeps none). A weight that was all
        zeros and moved counts as infinity.

    Raises:
        ValueError: If the snapshot is of a model with other layers or shapes.
    """

    def walk(model, prefix=""):
        for layer in model.layers:
            if isinstance(layer, keras.Model):
                yield from walk(layer, f"{prefix}{layer.name}/")
            elif layer.weights:
                yield f"{prefix}{layer.name}", layer

    def move(old, new):
        start = np.sqrt(sum(np.sum(np.square(w)) for w in old))
        steps = [v - w for v, w in zip(new, old, strict=True)]
        way = np.sqrt(sum(np.sum(np.square(step)) for step in steps))
        return float(way / start) if start else float(np.inf if way else 0.0)

    rows = []
    for path, layer in walk(model):
        old, new = before.get(path, []), layer.get_weights()
        if [np.shape(w) for w in old] != [w.shape for w in new]:
            raise ValueError(
                "`before` must be a snapshot of this model. Received: other weights "
                f"for {path!r}, shapes {[np.shape(w) for w in old]}."
            )
        # BatchNormalization has its two statistics last.
        kept = 2 if isinstance(layer, keras.layers.BatchNormalization) else 0
        cut = len(new) - kept
        row = {"layer": path, "trainable": bool(layer.trainable_variables)}
        row["moved"] = move(old[:cut], new[:cut])
        row["statistics_moved"] = move(old[cut:], new[cut:]) if kept else None
        rows.append(row)
    return rows


def audit_fine_tuning(
    classifier, before, inputs, *, expected_range=(0, 255), largest_move=0.5
):
    """Look after `fit` whether fine-tuning did what was meant.

    Five things go wrong in silence: a backbone that is still frozen, a `trainable`
    that was changed without `compile`, BatchNorm statistics that drift, inputs that
    are scaled twice, a learning rate that wrecks the features. Each leaves a trace in
    the weights, the optimizer or the data, and this function looks for it. It changes
    nothing.

    Args:
        classifier: A trained classifier, its backbone nested in it; its last layer is
            named `"head"`.
        before: What `snapshot_weights(classifier)` returned before training.
        inputs: A batch of the inputs that were trained on, after all your own
            preprocessing, as the classifier gets them.
        expected_range: `(low, high)` that the backbone expects of its inputs; or None
            to leave the range unchecked, as for text.
        largest_move: A layer of the backbone that moved farther than this share of its
            own size counts as wrecked. Fine-tuning moves a layer by some hundredths.

    Returns:
        A list of dicts, printed well by `format_audit`. The first rows are about
        `"inputs"`, `"outputs"`, `"compile"` and `"backbone"`; then one row for each
        layer that has weights. Keys: `part`, `trainable`, `moved`, `statistics_moved`
        (see `measure_moves`; None in the first rows), and `finding`: empty where
        nothing is wrong.

    Raises:
        ValueError: If the snapshot is of another model, or `inputs` is empty.
    """
    if len(inputs) == 0:
        raise ValueError("`inputs` must hold at least one row. Received: none.")
    moves = measure_moves(classifier, before)
    backbone = [row for row in moves if row["layer"].split("/")[-1] != "head"]
    findings = {
        "inputs": _check_range(inputs, expected_range),
        "outputs": _check_probabilities(classifier.predict(inputs, verbose=0)),
        "compile": _check_compile(classifier),
        "backbone": "",
    }
    if not any(row["moved"] for row in backbone):
        frozen = not any(row["trainable"] for row in backbone)
        why = "it is frozen" if frozen else "though it is trainable now"
        findings["backbone"] = f"no weight moved, {why}: only the head was trained"
    nothing = dict(trainable=None, moved=None, statistics_moved=None)
    rows = [dict(part=p, **nothing, finding=text) for p, text in findings.items()]
    for row in moves:
        texts = []
        if row["statistics_moved"]:
            texts.append("its statistics moved: freeze BatchNorm, then compile")
        if row in backbone and row["moved"] > largest_move:
            texts.append("moved far from what was pretrained: lower the learning rate")
        if row["moved"] and not row["trainable"]:
            texts.append("moved, though it is frozen now")
        part = dict(part=row["layer"], **{k: row[k] for k in nothing})
        rows.append(part | {"finding": "; ".join(texts)})
    return rows


def _check_range(inputs, expected_range):
    """A finding about the range of numeric inputs, or an empty string."""
    values = np.asarray(inputs)
    if expected_range is None or values.dtype.kind not in "fiub":
        return ""
    low, high = expected_range
    found = f"{values.min():.4g}...{values.max():.4g}, expected {low}...{high}"
    if not np.isfinite(values.astype("float64")).all():
        return "not all inputs are finite"
    if values.min() < low or values.max() > high:
        return f"outside the range: {found}"
    if values.max() - values.min() < 0.05 * (high - low):
        return f"scaled already, so the backbone scales them again? {found}"
    return ""


def _check_probabilities(outputs):
    """A finding about what the classifier returns, or an empty string."""
    outputs = np.asarray(outputs, "float64")
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        return f"not one probability a class: shape {outputs.shape}"
    sums = outputs.sum(axis=1)
    if not np.isfinite(outputs).all():
        return "not finite: training diverged"
    if outputs.min() < 0 or np.abs(sums - 1).max() > 1e-3:
        return f"not probabilities: row sums {sums.min():.4g}...{sums.max():.4g}"
    return ""


def _check_compile(classifier):
    """A finding about `trainable` against what the optimizer trains, or ''."""
    optimizer = getattr(classifier, "optimizer", None)
    if optimizer is None:
        return "not compiled"
    if not optimizer.built:
        return ""
    # Private, but the only place where Keras keeps what the last `fit` trained.
    trained = {id(v) for v in optimizer._trainable_variables}
    now = {id(v) for v in classifier.trainable_variables}
    if trained == now:
        return ""
    return (
        f"`trainable` changed since `compile`: {len(now - trained)} weights more and "
        f"{len(trained - now)} fewer than the optimizer trains; compile again"
    )


def format_audit(rows):
    """Write an audit as a table to print.

    Layers that are frozen, at rest and without a finding are only counted.

    Args:
        rows: What `audit_fine_tuning` returned.

    Returns:
        Text of several lines.
    """
    lines, at_rest = [("part", "trainable", "moved", "statistics", "finding")], 0
    for row in rows:
        numbers = [row["moved"], row["statistics_moved"]]
        if row["trainable"] is False and not any(numbers) and not row["finding"]:
            at_rest += 1
            continue
        trainable = {None: "", True: "yes", False: "no"}[row["trainable"]]
        numbers = ["" if number is None else f"{number:.3g}" for number in numbers]
        nothing = "ok" if row["trainable"] is None else ""
        lines.append((row["part"], trainable, *numbers, row["finding"] or nothing))
    widths = [max(len(line[column]) for line in lines) for column in range(4)] + [0]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([*table, f"({at_rest} more layers are frozen and at rest)"])
