"""Nearly the same answers for less: fewer operations, fewer bits, a smaller network."""

from transfer_tutorial.compression.batch_norm import (
    FoldedBatchNormalization,
    fold_batch_norm,
)
from transfer_tutorial.compression.distillation import distillation_loss
from transfer_tutorial.compression.size import count_multiply_adds, prune_by_magnitude
from transfer_tutorial.compression.tflite import convert_to_tflite, predict_tflite

# In the order of the reference.
__all__ = [
    "count_multiply_adds",
    "fold_batch_norm",
    "FoldedBatchNormalization",
    "convert_to_tflite",
    "predict_tflite",
    "distillation_loss",
    "prune_by_magnitude",
]
