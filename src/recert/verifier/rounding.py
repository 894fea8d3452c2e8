"""η: by how much float64 may move a margin (theory, section 3, "Rounding").

The calculus once more, with a tag that is charged at every operation with the error that float64
commits there, and with norms enlarged so that they bound what is computed as well.
"""

from __future__ import annotations

from collections.abc import Mapping

from recert.verifier.balls import ONE, ZERO, Ball, ball
from recert.verifier.calculus import Cap, Equations, Value
from recert.verifier.horizon import TooLongError, output
from recert.verifier.record import Record, Sheet
from recert.verifier.structure import Part, Structure, read

TAG = "@rounding"
UNIT = ball(2) ** -53
UNDERFLOW = ball(2) ** -1073
# The key under which a certificate keeps a block's own norm.
OWN = {"spectral": "spectral", "column": "column", "euclidean": "column", "operator": "operator"}


class Rounded(Equations):
    """The calculus on what float64 computes.

    Args:
        caps: norms of the blocks.
        longest: n, the longest inner product, with which any sum may be started.
        widest: d, the largest dimension.
    """

    def __init__(self, caps: Mapping[str, Cap], longest: int, widest: int) -> None:
        super().__init__(caps)
        self.longest = longest
        self.growth = ONE + 4 * (longest + 16) * ball(widest).sqrt() * UNIT

    def _charged(self, v: Value, error: Ball, operations: int) -> Value:
        """A value with an operation's error, relative and absolute, and its norms enlarged."""
        lam = dict(v.lam)
        lam[TAG] = lam.get(TAG, ZERO) + error + operations * UNDERFLOW
        return Value(v.dim, v.N * self.growth, v.Z * self.growth, lam)

    def _summed(self, v: Value, length: int, side: int) -> Value:
        """A sum of so many products, of Frobenius norm at most √side·N."""
        n = max(length, self.longest)
        return self._charged(v, 2 * (n + 4) * UNIT * ball(side).sqrt() * v.N, n * v.dim)

    def linear(self, part: Part, v: Value) -> Value:
        """A column that is read is exact."""
        found = super().linear(part, v)
        if v.one_hot:
            return found
        return self._summed(found, part.columns, min(part.rows, part.columns))

    def fixed(self, norm: Ball, row_sum: Ball | None, rows: int, v: Value) -> Value:
        """A product with a matrix."""
        found = super().fixed(norm, row_sum, rows, v)
        return self._summed(found, v.dim, min(rows, v.dim))

    def add(self, u: Value, v: Value) -> Value:
        """A library may start an inner product from what it is added to."""
        return self._summed(super().add(u, v), 1, 1)

    def mul(self, u: Value, v: Value) -> Value:
        """One rounding an entry, and one to spare."""
        found = super().mul(u, v)
        return self._charged(found, 2 * UNIT * found.N, found.dim)

    def activation(self, name: str, v: Value) -> Value:
        """Tanh and the sigmoid as libraries compute them; what only compares is exact."""
        found = super().activation(name, v)
        if name in ("identity", "relu"):
            return found
        return self._charged(found, 24 * UNIT * found.N, found.dim)

    def gate(self, r: Value, a: Value, b: Value) -> Value:
        """In whichever order it is computed."""
        return self._charged(super().gate(r, a, b), 8 * UNIT * (a.N + b.N), r.dim)

    def mean(self, v: Value, steps: int) -> Value:
        """A sum over steps, and a quotient; no norm grows."""
        found = self._charged(v, 2 * (steps + 4) * UNIT * v.N, steps * v.dim)
        return Value(v.dim, v.N, v.Z, found.lam)


def check(record: Record, sheet: Sheet) -> None:
    """The recorded η is not below √2·‖ỹ − y‖ at the recorded norms of the weights."""
    where, recorded = "sample.float_slack", record.sample["float_slack"]
    if record.gibbs or recorded is None:
        return  # the program is the hypothesis, or every unit counts as an error
    network = record.data["network"]
    try:
        if network.get("pooled", False):
            sheet.decisive = False
            sheet.unchecked(where, recorded, "the pooling map is not recorded")
            return
        structure = read(network, as_computed=True)
        norms = {row["name"]: row["norms"][OWN[row["norm"]]] for row in network["blocks"]}
        sheet.at_least(where, recorded, slack(record, structure, norms))
    except TooLongError as error:
        sheet.decisive = False
        sheet.unchecked(where, recorded, f"horizon too long: {error}")
    finally:
        sheet.decisive = True


def slack(record: Record, network: Structure, norms: Mapping[str, float]) -> Ball:
    """√2·‖ỹ − y‖ after T steps."""
    longest = max(max(_terms(part), part.columns) for part in network.blocks)
    widest = max(max(part.rows, part.columns) for part in network.blocks)
    # A norm of zero is read as a tiny one: larger is sound.
    caps = {name: Cap(ball(max(norm, 0.0))) for name, norm in norms.items()}
    y = output(
        Rounded(caps, longest, widest), network, int(record.sample["T"]),
        ball(float(record.sample["input_bound"]["value"])),
        mean=record.data["network"].get("read") == "mean", budget=record.budget,
    )  # fmt: skip
    return ball(2).sqrt() * y.lam.get(TAG, ZERO)


def _terms(part: Part) -> int:
    """Products in one entry of what a block gives out."""
    return part.entries // part.shape[0]
