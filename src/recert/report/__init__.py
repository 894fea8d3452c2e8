"""Pictures: ladders of bounds as bars, curves against the horizon and against code length."""

from recert.report.bars import Rung, cells, ladder, rungs
from recert.report.canvas import value_text
from recert.report.curves import (
    CodePoint,
    against_time,
    frontier,
    gates_against_time,
    through_training,
)

__all__ = [
    "CodePoint",
    "Rung",
    "against_time",
    "cells",
    "frontier",
    "gates_against_time",
    "ladder",
    "rungs",
    "through_training",
    "value_text",
]
