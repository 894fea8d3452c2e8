"""Training recurrent networks, free or inside declared caps, and tools for anybody's training.

This room needs torch.
"""

from recert.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise MissingDependencyError("training needs torch: pip install 'recert[torch]'") from error

from recert.training.architecture import CELLS, Architecture, check_cell
from recert.training.loop import TrainedModel, error_rate, outputs, train
from recert.training.model import RecurrentClassifier
from recert.training.parametrizations import KINDS, check, constrain, declared, release, settle
from recert.training.penalties import penalty
from recert.training.recipes import Recipe
from recert.training.tracker import Tracker, read_csv

__all__ = [
    "CELLS",
    "KINDS",
    "Architecture",
    "Recipe",
    "RecurrentClassifier",
    "Tracker",
    "TrainedModel",
    "check",
    "check_cell",
    "constrain",
    "declared",
    "error_rate",
    "outputs",
    "penalty",
    "read_csv",
    "release",
    "settle",
    "train",
]
