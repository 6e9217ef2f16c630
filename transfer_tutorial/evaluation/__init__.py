"""Probabilities to numbers, and numbers to a verdict; no TensorFlow is loaded."""

from transfer_tutorial.evaluation.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)
from transfer_tutorial.evaluation.comparison import (
    compare_strategies,
    format_comparison,
    run_strategies,
)
from transfer_tutorial.evaluation.intervals import (
    bootstrap_interval,
    compare_paired,
    paired_bootstrap_interval,
    seed_interval,
)
from transfer_tutorial.evaluation.scores import classification_scores
from transfer_tutorial.evaluation.selection import (
    mean_entropy,
    soft_neighborhood_density,
)

# In the order of the reference.
__all__ = [
    "classification_scores",
    "reliability_bins",
    "expected_calibration_error",
    "fit_temperature",
    "apply_temperature",
    "bootstrap_interval",
    "paired_bootstrap_interval",
    "seed_interval",
    "compare_paired",
    "run_strategies",
    "compare_strategies",
    "format_comparison",
    "mean_entropy",
    "soft_neighborhood_density",
]
