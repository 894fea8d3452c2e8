"""Arithmetic as it is by default, whatever a program that calls this package has set for itself."""

from __future__ import annotations

from decimal import Context
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Any)


def usual(function: F) -> F:
    """The function under numpy's own float modes: a caller's ``np.seterr`` does not reach it."""
    modes: Any = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
    found: F = modes(function)
    return found


def decimals(digits: int) -> Context:
    """A context for `decimal.localcontext` of so many digits, without a caller's traps."""
    return Context(prec=digits, Emin=-999999, Emax=999999, traps=[])
