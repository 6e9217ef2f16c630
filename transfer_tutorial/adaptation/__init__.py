"""Labels in the source only: make features, statistics or labels fit the target."""

from transfer_tutorial.adaptation.adversarial import (
    DomainDiscriminator,
    GradientReversal,
    dann_strength,
)
from transfer_tutorial.adaptation.batch_norm import adapt_batch_norm
from transfer_tutorial.adaptation.features import align_coral, select_pseudo_labels
from transfer_tutorial.adaptation.losses import coral_loss, mmd_loss
from transfer_tutorial.adaptation.model import AdaptationModel, pair_domains

# In the order of the reference.
__all__ = [
    "align_coral",
    "adapt_batch_norm",
    "pair_domains",
    "AdaptationModel",
    "coral_loss",
    "mmd_loss",
    "DomainDiscriminator",
    "GradientReversal",
    "dann_strength",
    "select_pseudo_labels",
]
