"""The local margin ball (theory, 4d): what moves of the weights do to the sample itself.

Statement. Parts p of the weights (blocks, or columns of blocks that read one-hot inputs) have
norms, caps c_p and radii ε_p. Prior uniform on the product of balls of radius c_p + ε_p, posterior
uniform on the balls of radius ε_p round the trained weights w. For f in the posterior let L(f, x)
be 1 if some g with ‖g_p − f_p‖ ≤ ε_p for all p has margin M_g(x) ≤ 0. Then 1[M_w ≤ 0] ≤ L(f, ·)
everywhere, and L(f, x) ≤ 1[M_w(x) ≤ η(x)] for every

    η(x) ≥ sup{ M_w(x) − M_g(x) : ‖g_p − w_p‖ ≤ 2ε_p for all p },

so that, with probability ≥ 1−δ, for every network inside the caps,

    P(error) ≤ kl⁻¹( mean 1[M_w(x_i) ≤ η(x_i)], (Σ_p P_p ln(1 + c_p/ε_p) + ln(2√m/δ))/m ).

Where the posterior can be drawn from (everywhere but in filter banks), the mean of L(f, x_i) over f
is bounded by draws instead, at a share of δ: f then has a distance of its own, and η reaches ε.

η is needed on the sample only, at the trained weights: there is no hypothesis on the norm or the
length of inputs. ε is a function of indices that are paid for. η comes from one pass forward and
K−1 back (``recert.local``), roundings included.

Hypotheses: i.i.d. units, weights within the caps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.certificates.certificate import Bound
from recert.networks.margins import announce
from recert.numerics.concentration import kl_inverse_upper, maurer_log_term
from recert.numerics.union_bound import total_nats
from recert.perturbation import posterior_risk
from recert.perturbation.ball import BallParts, parts_of
from recert.perturbation.ellipsoids import MOST_TERMS
from recert.perturbation.plan import FIRST, HOPELESS, estimate, first_order, plan_radii
from recert.perturbation.posterior_risk import Sequences
from recert.perturbation.work import work_of
from recert.theorems.setting import OUTWARD, UNIVERSAL, Setting, Theorem, finish, not_applicable

Array = NDArray[np.float64]

# How many radii a loss reaches in the search, with draws and without.
DRAWN, WHOLE = 1.1, 2.0
GIB = 2.0**30


@dataclass(frozen=True)
class LocalBall(Theorem):
    """The margin ball with sensitivities measured at the trained weights on the sample."""

    name: str = "local_ball"
    title: str = "local margin ball (PAC-Bayes-kl)"
    needs: tuple[str, ...] = (*UNIVERSAL, "caps", "enclosures")
    reference: str = "theory 4d; Maurer 2004"
    for_lists: bool = True

    def supports(self, setting: Setting) -> str:
        """Needs to read the sequences again, and one label a sequence.

        Nothing here depends on what the sample holds, so neither do the shares of δ. What does is
        asked in ``bound``, and a statement that is skipped there keeps its share.
        """
        if setting.reread is None:
            return "the sequences came in batches that can be read only once"
        if setting.reread().reading.at == "average":
            return "it reads one output a sequence; here losses are averaged over steps"
        if any(block.terms > MOST_TERMS for block in setting.network.blocks()):
            return f"a block sums more than {MOST_TERMS:,} products, more than roundings allow for"
        return ""

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The best radii that a search on the first sequences finds, paid for."""
        assert setting.reread is not None
        network, m = setting.network, setting.m
        data = Sequences.of(
            setting.reread(), memory=setting.memory * GIB, progress=setting.progress
        )
        drawing = posterior_risk.applies(network)
        caps = {name: cap.norm for name, cap in setting.caps.items()}
        reach = DRAWN if drawing else WHOLE
        reason = _skipped(setting, data, caps, reach, drawing=drawing)
        if reason:
            return not_applicable(self, reason)
        plan = plan_radii(network, caps, data, m, reach)
        parts, chosen = plan.parts, plan.radii
        costs = (*setting.cap_costs, *setting.choice_costs, *plan.costs, *chosen.costs)
        nats = chosen.nats(parts)
        share = delta * posterior_risk.SHARE if drawing else 0.0
        log_term = maurer_log_term(m, delta - share)
        rate = (nats + log_term + total_nats(costs)) / m * (1.0 + OUTWARD)
        found = posterior_risk.Risk(1.0, 1.0)
        if plan.promise < HOPELESS and drawing:
            # The limit of the draws holds for one network: choosing among some is paid for.
            paid = share * math.exp(-total_nats(setting.choice_costs)) * (1.0 - OUTWARD)
            found = posterior_risk.drawn(network, data, setting.table, parts, chosen.radii, paid)
        elif plan.promise < HOPELESS:
            found = posterior_risk.reached(network, data, setting.table, parts, chosen.radii)
        value = float(kl_inverse_upper(found.bound, rate))
        return finish(
            self,
            value,
            math.log(value),
            delta=delta,
            terms={
                "posterior_risk": found.bound,
                "lost_outright": found.outright,
                "undecided": found.undecided,
                "draws": float(found.draws),
                "draws_lost": float(found.lost),
                "delta_of_draws": share,
                "complexity_nats": nats,
                "confidence_nats": log_term,
                "rate": rate,
            },
            choices={
                "parts": [_named(parts, i) for i in range(parts.count)],
                "log_radii": [float(x) for x in np.log(np.maximum(chosen.radii, 1e-300))],
                "log_caps": [float(x) for x in np.log(chosen.caps)],
            },
            cost=costs,
        )


def _skipped(
    setting: Setting, data: Sequences, caps: dict[str, float], reach: float, *, drawing: bool
) -> str:
    """Why it is not worth its time or memory here; empty if it is.

    Nothing is measured with a clock, so the answer is the same on every machine.
    """
    network, n, T = setting.network, len(data.labels), int(data.lengths.max())
    work = work_of(network, parts_of(tuple(network.blocks()), columns=True), T)
    taken = estimate(work, n, drawing=drawing, memory=data.memory)
    size = (
        f"sequences: {n:,}, steps: {T:,}, wrong classes: {work.classes:,}, parts: {work.parts:,}, "
        f"weights: {work.weights:,}"
    )
    least = work.least_memory() / GIB
    if least > setting.memory:
        return (
            f"skipped: it needs about {least:.1f} GiB of memory, the limit is "
            f"{setting.memory:g} GiB ({size})"
        )
    long = (
        f"skipped: it takes about {math.ceil(taken.all):,} s of one core, the budget is "
        f"{setting.budget:g} s ({size})"
    )
    if setting.budget == math.inf:
        return ""
    if taken.first > setting.budget:
        return long
    announce(setting.progress, taken.sequences)
    if first_order(network, caps, data, setting.m, reach, FIRST).promise >= HOPELESS:
        return (
            "skipped as hopeless: to first order no radii promise a value below "
            f"{HOPELESS:g} ({size})"
        )
    return long if taken.all > setting.budget else ""


def _named(parts: BallParts, i: int) -> str:
    for block in parts.blocks:
        first, last = parts.starts[block.name]
        if first <= i < last:
            return block.name if last - first == 1 else f"{block.name}[:, {i - first}]"
    raise IndexError(i)
