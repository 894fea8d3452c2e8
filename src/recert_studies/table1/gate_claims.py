"""Claims of Section 5 about gated and convolutional cells, each with the figure that decides it."""

from __future__ import annotations

from collections.abc import Callable

from recert.numerics.rounding import rounded_up
from recert_studies.claims import Claim
from recert_studies.table1.growth import FILTERS, GATES_SHRINK, sigmoid


def _below_one() -> Claim:
    s = sigmoid(0.02)
    found = []
    for B_Uh in (1.0, 1.5, 2.0):
        beta = s + B_Uh * s * s
        found.append((beta, beta + 2 * 0.01 + 0.01 * B_Uh))
    text = "; ".join(f"β = {beta:.3f}, θ = {theta:.3f}" for beta, theta in found)
    return Claim(
        "Section 5", "small B_Wr and ‖U_r‖ make β, θ < 1 with B_Uh = 1 or even B_Uh > 1",
        "held" if max(*found[0], *found[1]) < 1 <= found[2][1] else "held in part",
        f"at B_Wr B_x = ‖U_r‖_1 = B_Ur = 0.01 and B_Uh = 1, 1.5, 2: {text}. The gate cannot "
        "be kept below ½ over the class, so β < 1 needs B_Uh < 2",
    )  # fmt: skip


def _lstm() -> Claim:
    s = sigmoid(0.02)
    beta = s + 1.5 * s * s
    cell = s / (1 - s)
    repaired = beta + (s * cell * 0.01 + s * 0.01 + 0.01) / 4
    return Claim(
        "Section 5, Theorem 5", "LSTMs reduce it too, if all gates' norms are properly controlled",
        "held in part",
        f"printed, at B_Uc = 1.5, all gates' norms 0.01: β = {beta:.3f}, θ = {beta + 0.03:.3f}; "
        "the printed proof drops the cell state and the output gate (errata 11), repaired θ is at "
        f"most {rounded_up(repaired, 3)} here, but grows with t when the forget gate may open",
    )  # fmt: skip


def _gate_limit() -> Claim:
    return Claim(
        "Section 5", "‖r_t‖_∞ ≤ 1/(1 + exp(−B_Wr B_x − ‖U_r‖_1))", "held",
        f"|W_r x + U_r h| ≤ B_Wr B_x + ‖U_r‖_1 entrywise as |h| ≤ 1; at 0.01 each it is "
        f"{sigmoid(0.02):.4f}. The β of Theorem 4, with the gates of one network, does not serve "
        "a class (errata 10)",
    )  # fmt: skip


GATED: tuple[Callable[[], Claim], ...] = (GATES_SHRINK, _gate_limit, _below_one, _lstm, FILTERS)
