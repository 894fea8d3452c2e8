"""Real and synthetic sequence sets, behind one small value, `SequenceData`."""

from recert.data.catalogue import DataInfo, info, list_data, load
from recert.data.dataset import PADDING, SequenceData
from recert.data.own import filled, remember, same
from recert.data.synthetic import SyntheticLanguage

__all__ = [
    "PADDING",
    "DataInfo",
    "SequenceData",
    "SyntheticLanguage",
    "filled",
    "info",
    "list_data",
    "load",
    "remember",
    "same",
]
