"""Pictures, texts and series to arrays, arrays to `tf.data`; augmentation."""

from transfer_tutorial.pipelines.batches import make_dataset
from transfer_tutorial.pipelines.images import (
    build_augmentation,
    list_image_folder,
    load_images,
)
from transfer_tutorial.pipelines.sequences import (
    pad_series,
    tokenize_texts,
    train_tokenizer,
)

__all__ = [
    "list_image_folder",
    "load_images",
    "train_tokenizer",
    "tokenize_texts",
    "pad_series",
    "make_dataset",
    "build_augmentation",
]
