"""Training vanilla RNNs, free or inside declared caps. This room needs torch."""

from recert.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise MissingDependencyError("training needs torch: pip install 'recert[torch]'") from error

from recert.training.model import RecurrentClassifier
from recert.training.recipes import Caps, Recipe
from recert.training.vanilla import TrainedModel, error_rate, outputs, train

__all__ = [
    "Caps",
    "Recipe",
    "RecurrentClassifier",
    "TrainedModel",
    "error_rate",
    "outputs",
    "train",
]
