"""The studies by name. To add one: write its module, and a line in this tuple."""

from __future__ import annotations

from recert.errors import InputError
from recert.reproduce.adaptivity import OPEN_4
from recert.reproduce.figure4 import FIGURE4
from recert.reproduce.gates import GATES
from recert.reproduce.implicit_bias import OPEN_3
from recert.reproduce.open1 import OPEN_1
from recert.reproduce.open2 import OPEN_2
from recert.reproduce.study import Study
from recert.reproduce.table1 import TABLE1
from recert.reproduce.tradeoff import TRADEOFF

STUDIES: tuple[Study, ...] = (
    FIGURE4,
    TABLE1,
    GATES,
    TRADEOFF,
    OPEN_1,
    OPEN_2,
    OPEN_3,
    OPEN_4,
)


def study(name: str) -> Study:
    """The study of this name.

    Raises:
        InputError: there is none.
    """
    for found in STUDIES:
        if found.name == name:
            return found
    names = ", ".join(found.name for found in STUDIES)
    raise InputError(f"there is no study {name!r}; choose among {names}")
