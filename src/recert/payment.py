"""What every certificate pays for what was declared, all of it in this one place (theory 6).

Two choices concern every statement, whatever it is: the recipe, one of ``tried``, and the encoding
of inputs, one of so many. Each costs the logarithm of its number. Statements that hold for whatever
network a recipe gives out owe nothing for recipes; all owe for the encoding, in whose choice all
units were in view, held-out ones included.

More that is declared never costs less: a price grows with its own number and knows of no other,
`most_tried` and `dearest` never lower what is known already, and `paying` collects what a statement
left out.
Networks that are certified together share δ besides (`recert.joint`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from recert import arguments
from recert.certificate import Bound
from recert.choices import Cost, FiniteChoice, total_nats
from recert.errors import InputError

RECIPES, ENCODINGS = "recipes tried on this sample", "encodings to choose among"
# What a statement owes nothing for; all else it pays. Held-out units say what they say of whatever
# network comes out of a sample, a file's length counts for all files at once.
FREE = {"held_out": (RECIPES, "prior scale s_0"), "occam": (RECIPES,)}


def encoding_of(encoding: Any) -> str | int:
    """How inputs came to be encoded, checked: ``"fixed"``, ``"learnt"``, or one of how many.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(encoding, str) and encoding in ("fixed", "learnt"):
        return encoding
    remedy = "use 'fixed', 'learnt', or the number of encodings among which it was chosen"
    if isinstance(encoding, (bool, str)):
        raise InputError(f"encoding is {encoding!r}; {remedy}")
    return arguments.whole("encoding", encoding)


def most_tried(*counts: Any) -> int:
    """The largest of several numbers of recipes, each checked; None says nothing, 1 is the least.

    Raises:
        InputError: one of them is no whole number from 1 up.
    """
    return max((arguments.whole("tried", n) for n in counts if n is not None), default=1)


def dearest(*encodings: Any) -> str | int:
    """The encoding that says most: learnt, else the largest number; None says nothing.

    Raises:
        InputError: one of them is no such declaration.
    """
    ranks = {"fixed": 1.0, "learnt": math.inf}
    found = [encoding_of(e) for e in encodings if e is not None]
    return max(found, key=lambda e: ranks[e] if isinstance(e, str) else e, default="fixed")


def shared_costs(tried: int, encoding: str | int) -> tuple[Cost, ...]:
    """The rows of what every statement may owe.

    Args:
        tried: recipes among which this one was chosen on the sample.
        encoding: as in `encoding_of`; a learnt one has no price, but makes a hypothesis violated.
    """
    found = []
    for what, n in ((RECIPES, tried), (ENCODINGS, encoding)):
        if isinstance(n, int) and n > 1:
            found.append(Cost(what, None, float(n), FiniteChoice(n).cost()))
    return tuple(found)


def owed(name: str, costs: Iterable[Cost]) -> tuple[Cost, ...]:
    """Those rows that the statement of this name owes."""
    return tuple(cost for cost in costs if cost.what not in FREE.get(name, ()))


def paying(theorem: Any, setting: Any, share: float, costs: Iterable[Cost]) -> Bound:
    """A statement at its share of δ, having paid what it owes whether or not it thought of it.

    To pay n nats is to be evaluated at δ·e^−n.
    """
    bound: Bound = theorem.bound(setting, share)
    unpaid = [cost for cost in owed(theorem.name, costs) if cost not in bound.cost]
    if not unpaid or bound.kind == "not applicable":
        return bound
    # A little lower, for the roundings of the product.
    less = share * math.exp(-total_nats(unpaid)) * (1.0 - 1e-12)
    return replace(theorem.bound(setting, less), delta=share, cost=(*bound.cost, *unpaid))
