"""Networks from scratch: raw inputs to features, and the head that makes a classifier.

A *backbone* is an uncompiled `keras.Model` from raw inputs (images in 0...255, token
ids, series of numbers) to features of shape `(batch, d)`; what has to be scaled it
scales itself. A *classifier* is a backbone and a softmax layer named `"head"`: raw
inputs to probabilities.
"""

from transfer_tutorial.backbones.head import attach_head
from transfer_tutorial.backbones.images import (
    build_cnn_backbone,
    build_mlp_backbone,
    build_residual_backbone,
)
from transfer_tutorial.backbones.sequences import (
    build_series_gru_backbone,
    build_text_gru_backbone,
    build_transformer_backbone,
)

__all__ = [
    "build_mlp_backbone",
    "build_cnn_backbone",
    "build_residual_backbone",
    "build_text_gru_backbone",
    "build_series_gru_backbone",
    "build_transformer_backbone",
    "attach_head",
]
