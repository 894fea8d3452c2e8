"""Training recurrent networks, free or inside declared caps. This room needs torch."""

from recert.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise MissingDependencyError("training needs torch: pip install 'recert[torch]'") from error

from recert.training.architecture import CELLS, Architecture, check_cell
from recert.training.loop import TrainedModel, error_rate, outputs, train
from recert.training.model import RecurrentClassifier
from recert.training.recipes import Recipe

__all__ = [
    "CELLS",
    "Architecture",
    "Recipe",
    "RecurrentClassifier",
    "TrainedModel",
    "check_cell",
    "error_rate",
    "outputs",
    "train",
]
