"""Which weights learn, how they are trained in phases, and proof that they moved."""

from transfer_tutorial.fine_tuning.audit import (
    audit_fine_tuning,
    format_audit,
    measure_moves,
    snapshot_weights,
)
from transfer_tutorial.fine_tuning.layers import (
    count_parameters,
    fine_tune_two_phase,
    freeze_batch_norm,
    reset_training,
    unfreeze_gradually,
    unfreeze_last_layers,
)

__all__ = [
    "freeze_batch_norm",
    "unfreeze_last_layers",
    "unfreeze_gradually",
    "count_parameters",
    "reset_training",
    "fine_tune_two_phase",
    "snapshot_weights",
    "measure_moves",
    "audit_fine_tuning",
    "format_audit",
]
