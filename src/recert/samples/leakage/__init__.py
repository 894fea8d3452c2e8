"""Whether units recur: within a sample, and between it and the units held out (theory 6, "Roles").

``traces`` takes some prints of every sequence, ``within`` and ``between`` count where they agree,
and ``evidence`` weighs the counts: under independent draws, whatever their distribution, an alarm
has a probability of at most `ALPHA`.
"""

from recert.samples.leakage.between import Between, between
from recert.samples.leakage.evidence import ALPHA
from recert.samples.leakage.relations import NEAR, OVERLAP, REPEATED
from recert.samples.leakage.traces import Traces, joined, traces
from recert.samples.leakage.within import Within, within

__all__ = [
    "ALPHA",
    "NEAR",
    "OVERLAP",
    "REPEATED",
    "Between",
    "Traces",
    "Within",
    "between",
    "joined",
    "traces",
    "within",
]
