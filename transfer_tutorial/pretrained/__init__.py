"""Backbones with shipped weights: EfficientNet-Lite0, our source CNN, and MiniLM.

They take raw images in 0...255 or token ids and return features. Where the weights come
from, and under which licence, stands in `weights/SOURCES.md`.
"""

from transfer_tutorial.pretrained.images import (
    attach_imagenet_head,
    attach_source_head,
    build_efficientnet_lite0_backbone,
    build_source_cnn_backbone,
)
from transfer_tutorial.pretrained.text import (
    build_minilm_backbone,
    load_minilm_tokenizer,
)

__all__ = [
    "build_efficientnet_lite0_backbone",
    "attach_imagenet_head",
    "build_source_cnn_backbone",
    "attach_source_head",
    "build_minilm_backbone",
    "load_minilm_tokenizer",
]
