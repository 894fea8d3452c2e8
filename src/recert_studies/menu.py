"""The studies by name. To add one: write its module, and a line in this tuple."""

from __future__ import annotations

from recert.errors import InputError
from recert_studies.figure4.study import FIGURE4
from recert_studies.framework import Study
from recert_studies.gates.study import GATES
from recert_studies.open1_tightness.study import OPEN_1
from recert_studies.open2_margins.study import OPEN_2
from recert_studies.open3_implicit_bias.study import OPEN_3
from recert_studies.open4_adaptivity.study import OPEN_4
from recert_studies.table1.study import TABLE1
from recert_studies.tradeoff.study import TRADEOFF

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
