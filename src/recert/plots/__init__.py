"""Pictures: ladders of bounds as bars, curves against the horizon and against code length."""

from recert.plots.canvas import value_text
from recert.plots.curves import CodePoint, against_time, frontier, gates_against_time
from recert.plots.gate_studies import gate_study
from recert.plots.ladders import Rung, cells, ladder, rungs
from recert.plots.studies import bars, growth
from recert.plots.through_training import through_training
from recert.plots.tradeoff_studies import tradeoff

__all__ = [
    "CodePoint",
    "Rung",
    "against_time",
    "bars",
    "cells",
    "frontier",
    "gate_study",
    "gates_against_time",
    "growth",
    "ladder",
    "rungs",
    "through_training",
    "tradeoff",
    "value_text",
]
