"""What the workers have written, back in memory."""

import numpy as np


def load_features(folder):
    """Load what `extract_features_on_workers` has written.

    Args:
        folder: Its `output`.

    Returns:
        `(ids, features)`: the ids in increasing order, shape `(n,)`, and the features,
        float32 of shape `(n, d)`.

    Raises:
        ImportError: If pyarrow is not installed.
        FileNotFoundError: If there is no such folder.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        message = 'pyarrow is needed: pip install "transfer-tutorial[scale]".'
        raise ImportError(message) from error
    table = parquet.read_table(folder).sort_by("id")
    features = table["features"].combine_chunks().flatten().to_numpy()
    return np.array(table["id"].to_pylist()), features.reshape(len(table), -1)
