"""The Occam bound (theory, 5a): the length of a file is the price of the network in it.

Statement. Let every program h have a file of |h| bytes from a fixed set of which no member is the
beginning of another. With probability ≥ 1−δ, for every program at once,

    P(error) ≤ kl⁻¹( R̂_0 , (8·|h| ln 2 + ln(1/δ))/m ),

R̂_0 its mean loss on the sample. (For one program the Chernoff–Hoeffding bound for means of losses
in [0, 1] fails with probability at most δ·256^−|h| at this rate; by Kraft's inequality these add up
to at most δ.) The program is the hypothesis as it computes: margins are counted as computed, and
architecture and number formats stand in the file, so nothing about norms, lengths or floats is
needed, and choosing among programs after looking costs nothing more.

Hypotheses: i.i.d. units, encoding and step fixed beforehand, a file that decodes to the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from recert.certificates.certificate import Bound
from recert.networks.margins import MarginTable
from recert.numerics.concentration import kl_inverse_upper
from recert.numerics.union_bound import total_nats
from recert.theorems.setting import OUTWARD, RECIPES, SAID, Setting, Theorem, finish, owed


@dataclass(frozen=True)
class Occam(Theorem):
    """The certificate of a compressed network."""

    name: str = "occam"
    title: str = "Occam (length of the file)"
    needs: tuple[str, ...] = ("iid", *SAID, "program")
    reference: str = "theory 5a; Chernoff–Hoeffding and Kraft"
    for_lists: bool = True
    # A file's length counts for all files at once.
    free: tuple[str, ...] = (RECIPES,)

    def supports(self, setting: Setting) -> str:
        """Needs a network that was decoded from a file."""
        if setting.code_bytes is None:
            return "the network is not the decoding of a file; `recert compress` writes one"
        return ""

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The bound at level δ."""
        assert setting.code_bytes is not None
        risk = rounded_up_error(setting.table)
        nats = code_nats(setting.code_bytes)
        confidence = -math.log(delta) * (1.0 + OUTWARD)
        cost = owed(self, setting.choice_costs)
        rate = (nats + confidence + total_nats(cost)) / setting.m * (1.0 + OUTWARD)
        value = float(kl_inverse_upper(risk, rate))
        return finish(
            self,
            value,
            math.log(value),
            delta=delta,
            terms={
                "error": setting.table.error,
                "complexity_nats": nats,
                "confidence_nats": confidence,
                "rate": rate,
            },
            choices={"bytes": setting.code_bytes, "bits": 8 * setting.code_bytes},
            cost=cost,
        )


def code_nats(length: int) -> float:
    """Nats of a file: ln 256 for each byte of a file, rounded up."""
    return 8 * length * math.log(2.0) * (1.0 + OUTWARD)


def rounded_up_error(table: MarginTable) -> float:
    """R̂_0, margins as computed, ties counted as errors, with what its sum may have lost."""
    lost = 0.0 if table.zero_one else table.sum_error
    return min(1.0, table.error * (1.0 + OUTWARD) + lost)
