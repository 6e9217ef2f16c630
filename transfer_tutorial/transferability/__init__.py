"""How alike two domains or two sets of features are, and which source suits a task.

All before anything is trained. NumPy, SciPy and scikit-learn only; importing this
module loads no TensorFlow.
"""

from transfer_tutorial.transferability.domains import proxy_a_distance
from transfer_tutorial.transferability.scores import h_score, leep, linear_cka, logme

# In the order of the reference.
__all__ = ["proxy_a_distance", "linear_cka", "leep", "logme", "h_score"]
