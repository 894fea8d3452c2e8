"""The paper's formulas as printed (kind "order"): no constants, not certificates.

The functions take the paper's letters by keyword and return frozen values. What is wrong in print
is reproduced here and told in the errata; what this package stands behind is in `recert.theorems`.
"""

from recert.printed.lemmas import (
    PrintedLipschitz,
    lemma_2,
    lemma_3,
    lemma_4,
    lemma_6,
    lemma_7,
    lemma_8,
    lemma_9,
    lemma_10,
    lemma_11,
)
from recert.printed.tables import (
    PrintedTable,
    TableEntry,
    TableRow,
    section6_bound_1,
    section6_bound_2,
    section6_bound_3,
    section6_ours,
    table_1,
)
from recert.printed.theorems import (
    theorem_1,
    theorem_2,
    theorem_3_frobenius,
    theorem_3_two_one,
    zhang_2018,
)
from recert.printed.value import Printed
from recert.printed.variants import theorem_4, theorem_5, theorem_6

__all__ = [
    "Printed",
    "PrintedLipschitz",
    "PrintedTable",
    "TableEntry",
    "TableRow",
    "lemma_2",
    "lemma_3",
    "lemma_4",
    "lemma_6",
    "lemma_7",
    "lemma_8",
    "lemma_9",
    "lemma_10",
    "lemma_11",
    "section6_bound_1",
    "section6_bound_2",
    "section6_bound_3",
    "section6_ours",
    "table_1",
    "theorem_1",
    "theorem_2",
    "theorem_3_frobenius",
    "theorem_3_two_one",
    "theorem_4",
    "theorem_5",
    "theorem_6",
    "zhang_2018",
]
