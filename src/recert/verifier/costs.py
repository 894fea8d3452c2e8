"""What was chosen after looking, and whether it is paid for (theory, section 6).

Which choices a bound must pay for follows from what the certificate declares; the rows must be
these, no fewer and no others. Prices are derived from indices and counts, not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flint import arb

from recert.verifier.balls import ZERO, Ball, ball, claims, price, shown, total
from recert.verifier.record import ENCODINGS, TRIED, Record, Sheet
from recert.verifier.statements import STATEMENTS

# Ratios of the grids, as numbers of steps per octave.
MARGIN, CAP, SCALE, RADIUS = 4, 64, 8, 16
# Levels that radii and caps of columns may have.
RADIUS_LEVELS, CAP_LEVELS = 16, 8
MOST_COLUMNS = 256


def grid(steps: int, index: int) -> Ball:
    """2^(index/steps)."""
    return (arb(2).log() * index / steps).exp()


def on_grid(value: Any, steps: int, index: Any, base: Ball | None = None) -> bool:
    """Whether a double is the point of that index, up to its rounding."""
    if not isinstance(index, int) or isinstance(index, bool) or abs(index) > 200_000:
        return False
    exact = grid(steps, index) * (ball(1) if base is None else base)
    return bool(abs(ball(float(value)) - exact) <= exact * ball(1e-12))


def always(record: Record, *, encoding_alone: bool = False) -> dict[str, int]:
    """Choices that every statement pays for: row → number of items."""
    found = {}
    tried, encoding = record.declared["tried"], record.declared["encoding"]
    if tried > 1 and not encoding_alone:
        found[TRIED] = tried
    if isinstance(encoding, int) and encoding > 1:
        found[ENCODINGS] = encoding
    return found


def expected(record: Record, name: str) -> set[str]:
    """Rows that a bound must have."""
    pays = STATEMENTS[name].pays
    rows = set(always(record, encoding_alone="recipes" not in pays))
    if "caps" in pays:
        rows |= {f"cap of {b}" for b, row in record.class_rows.items() if row["measured"]}
    if "l1 caps" in pays:
        rows |= {f"l1 cap of {b}" for b, row in record.class_rows.items() if row["l1_measured"]}
    if "margin" in pays and record.declared["margin"] is None:
        rows.add("margin γ")
    if "prior scales" in pays:
        rows |= {f"prior scale of {b}" for b in record.class_rows}
    if "scale" in pays:
        rows.add("scale σ")
    if "radii" in pays:
        rows |= {f"radius of {b}, in caps" for b in record.class_rows}
    return rows


def paid(record: Record, bound: Mapping[str, Any], sheet: Sheet) -> Ball:
    """The price of all choices of a bound, in nats, each row checked.

    The majority vote lists the rows of the bound that it doubles.
    """
    name = bound["name"]
    rows = {row["what"]: row for row in bound["cost"]}
    where = f"{name}.cost"
    sheet.holds(where, len(rows) == len(bound["cost"]), len(bound["cost"]), "no row twice")
    needed = expected(record, name)
    optional = _optional(record, name)
    sheet.holds(where, needed <= set(rows), sorted(set(rows)), sorted(needed))
    unknown = set(rows) - needed - optional
    sheet.holds(where, not unknown, sorted(unknown), "no other rows")
    if name == "local_ball":
        _columns_together(record, rows, sheet)
    return total(_checked(record, bound, row, sheet) for row in bound["cost"])


def _optional(record: Record, name: str) -> set[str]:
    if "draws" in STATEMENTS[name].needs:
        return {"prior scale s_0"}
    if name != "local_ball":
        return set()
    apart = [part.name for part in record.network.blocks if splits(part)]
    columns = {f"{what} of the columns of {b}" for b in apart for what in ("radii", "caps")}
    return columns | {"columns apart"}


def splits(part: Any) -> bool:
    """Whether a block's columns may move apart."""
    return part.norm == "column" and 1 < part.columns <= MOST_COLUMNS


def _columns_together(record: Record, rows: Mapping[str, Any], sheet: Sheet) -> None:
    """Whether columns move apart is one choice of two, made once for all blocks that can."""
    able = [part.name for part in record.network.blocks if splits(part)]
    named = [b for b in able if f"radii of the columns of {b}" in rows]
    both = [b for b in able if f"caps of the columns of {b}" in rows]
    sheet.holds("local_ball.cost", named == both and named in ([], able), named, able)
    sheet.holds("local_ball.cost", ("columns apart" in rows) == bool(able), sorted(rows), able)


def _checked(
    record: Record, bound: Mapping[str, Any], row: Mapping[str, Any], sheet: Sheet
) -> Ball:
    """The price of one row; the row's value must be what its index or count says."""
    what, where = row["what"], f"{bound['name']}.cost.{row['what']}"
    derived, ok = _price(record, bound, row)
    sheet.holds(f"{where}.value", ok, row["value"], f"the value of index {row['index']}")
    sheet.holds(f"{where}.nats", claims(row["nats"], derived), row["nats"], shown(derived))
    return derived if what else ZERO


def _price(record: Record, bound: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[Ball, bool]:
    """The price of a row, and whether its value is in order."""
    what, index, value = row["what"], row["index"], row["value"]
    choices = bound["choices"]
    if what in (TRIED, ENCODINGS):
        return ball(int(value)).log(), index is None and value == always(record).get(what)
    if what == "columns apart":
        return ball(2).log(), index in (0, 1)
    for part in record.network.blocks:
        for which, levels in (("radii", RADIUS_LEVELS), ("caps", CAP_LEVELS)):
            # By the whole text: a block may be called anything.
            if what == f"{which} of the columns of {part.name}":
                moving = part.columns - len(part.zero_columns)
                return moving * ball(levels).log(), index is None and value == moving
    if not isinstance(index, int):
        return ball(10) ** 300, False
    steps, same = _place(record, what, value, choices)
    if what == "prior scale s_0":
        return price(index), bool(value == choices.get("prior_scale", value))
    return price(index), same and on_grid(value, steps, index)


def _place(record: Record, what: str, value: float, choices: Mapping[str, Any]) -> tuple[int, bool]:
    """The grid of a row, and whether the value is the one that the statement uses."""
    if what == "margin γ":
        return MARGIN, value == choices.get("gamma")
    for prefix, key in (("cap of ", "norm"), ("l1 cap of ", "l1")):
        if what.startswith(prefix):
            return CAP, value == record.class_rows[what[len(prefix) :]][key]
    return (RADIUS, True) if what.startswith("radius of ") else (SCALE, True)
