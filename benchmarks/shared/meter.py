"""Processor seconds by kind of work, measured from inside a notebook's kernel.

`start` wraps the calls that train, predict and fit probes; `read` tells what they took
since. A call inside another of these counts for the outer one alone.
"""

import functools
import resource
import time

KINDS = ("importing", "training", "predicting", "probing")
seconds = dict.fromkeys(KINDS, 0.0)
_inside = []


def count(kind, function):
    """`function`, with its processor seconds added to `kind`."""

    @functools.wraps(function)
    def counted(*args, **kwargs):
        before = time.process_time()
        _inside.append(kind)
        try:
            return function(*args, **kwargs)
        finally:
            _inside.pop()
            if not _inside:
                seconds[kind] += time.process_time() - before

    return counted


def start():
    """Import the heavy libraries, counted, and wrap what is to be counted."""
    before = time.process_time()
    import keras
    import sklearn.linear_model
    import tensorflow  # noqa: F401

    seconds["importing"] = time.process_time() - before
    for name in ("fit", "train_on_batch"):
        setattr(keras.Model, name, count("training", getattr(keras.Model, name)))
    for name in ("predict", "evaluate", "predict_on_batch"):
        setattr(keras.Model, name, count("predicting", getattr(keras.Model, name)))
    for model in (sklearn.linear_model.LogisticRegression, sklearn.linear_model.Ridge):
        model.fit = count("probing", model.fit)


def read():
    """Processor seconds of each kind, of the whole process and of its children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = time.process_time() + children.ru_utime + children.ru_stime
    return {**seconds, "whole": whole}
