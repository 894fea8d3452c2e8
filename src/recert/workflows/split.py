"""Which units of a data set have which role: trained on, set aside, or neither.

Units that `recert train --holdout` sets aside are drawn at random before anything else and used
for nothing. The network's description records how many, the seed of the draw, and digests, so that
``certify`` finds the same ones again and notices when the data are others. A user's own data may
say what is held out, by a column or a second file; then nothing is drawn, and no seed recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recert.certification.declared import Role
from recert.data import SequenceData
from recert.errors import InputError
from recert.utils import validation

# Data that were looked at when the packaged recipes were found: no units of them are unseen.
LOOKED_AT = {"german-nouns": "the packaged recipes were found with these nouns in view"}
DECLARE = "--holdout-role certificate declares otherwise"


@dataclass(frozen=True, eq=False)
class DataRoles:
    """A data set divided.

    Attributes:
        sample: the units that statements are computed on: as a rule, those trained on.
        held: the units held out, or None.
        role: what the held-out units may be used for.
        why: the reason, for the ledger.
        spare: units that are neither.
        by_data: whether the data themselves say what is held out.
    """

    sample: SequenceData
    held: SequenceData | None = None
    role: Role = "checking"
    why: str = ""
    spare: SequenceData | None = None
    by_data: bool = False


def held_out_units(loaded: SequenceData, holdout: float | str | None) -> int:
    """How many units are to be set aside: a number from 1 up, or a share below 1; 0 for None.

    Raises:
        InputError: it is neither, or leaves nothing to train on.
    """
    if holdout is None:
        return 0
    remedy = "give a number of units, or a share such as 0.2"
    try:
        asked = float(holdout)
    except (TypeError, ValueError):
        raise InputError(f"holdout is {holdout!r}; {remedy}") from None
    if not 0.0 < asked < 2.0**53 or (asked >= 1.0 and asked != int(asked)):
        raise InputError(f"holdout is {holdout}; {remedy}")
    count = max(1, int(asked * loaded.units)) if asked < 1.0 else int(asked)
    if count >= loaded.units:
        raise InputError(
            f"cannot hold out {count} of the {loaded.units} {loaded.unit}s of {loaded.name!r}; "
            "leave some to train on"
        )
    return count


def for_training(
    loaded: SequenceData, *, units: int | None, usual: int | None, holdout: int, seed: int
) -> DataRoles:
    """Set units aside, then take the first of the others to train on.

    Args:
        loaded: all the data.
        units: how many to train on; None for ``usual``, or all where that is None or too many.
        usual: the number that is trained on where nobody asks for another.
        holdout: how many are set aside.
        seed: of the draw of those.

    Raises:
        InputError: there are not so many units.
    """
    rest, held = loaded.by_role()
    by_data = held is not None
    if holdout and by_data:
        raise InputError(f"{loaded.name} itself says which units are held out; drop --holdout")
    if holdout:
        rest, held = loaded.set_aside(holdout, seed)
    if units is None and usual is not None and (held is None or usual < rest.units):
        units = usual
    sample, spare = _first_units(rest, units, holdout)
    return DataRoles(sample, held, "certificate", "", spare, by_data)


def recorded(roles: DataRoles, seed: int) -> dict[str, Any]:
    """What a network's description says of the units that it was trained on, and of the others."""
    held = roles.held
    aside = None
    if held is not None:
        drawn = None if roles.by_data else seed
        aside = {"units": held.units, "seed": drawn, "digest": held.digest}
    return {"units": roles.sample.units, "digest": roles.sample.digest, "holdout": aside}


def for_certifying(
    loaded: SequenceData,
    meta: Mapping[str, Any],
    *,
    units: int | None,
    asked: Role | None = None,
    changed: bool = False,
    looked_at: Mapping[str, str] = LOOKED_AT,
) -> DataRoles:
    """The units that a network was trained on, and those held out.

    Args:
        loaded: all the data.
        meta: what the network's description says; empty where it was trained on other data.
        units: how many to compute statements on; None for those trained on.
        asked: the role that the user declares for the held-out units; None to go by the record.
        changed: whether the user asked for other data than were recorded.
        looked_at: names of data of which no units are unseen, with the reason.

    Raises:
        InputError: the data are not those that were recorded, the record is damaged, or the user
            declares units to be held out that were trained on.
    """
    trained = meta.get("units")
    aside = None if changed else _aside(meta)
    if loaded.aside is not None or (aside is not None and aside["seed"] is None):
        return _as_the_data_say(loaded, meta, aside, units, asked)
    if aside is not None:
        rest, held = loaded.set_aside(aside["units"], aside["seed"])
        if held.digest != aside["digest"] or not _as_recorded(rest, meta):
            raise _other_data(loaded)
        sample, spare = _first_units(rest, trained if units is None else units, held.units)
        role, why = _role(looked_at.get(loaded.name), asked)
        return DataRoles(sample, held, role, why, spare)
    sample, left = _first_units(loaded, trained if units is None else units, 0)
    if left is None:
        return DataRoles(sample)
    if trained is not None and sample.units < trained and not changed:
        if asked == "certificate":
            raise InputError(
                f"the network was trained on {trained} units of {loaded.name}, some of which "
                f"--units {sample.units} leaves over; they cannot be held out"
            )
        return DataRoles(sample, left, "checking", "some of these units were trained on")
    if asked == "certificate":
        return DataRoles(sample, left, "certificate", "declared by the user")
    why = "not set aside by train --holdout, so they may have been seen"
    return DataRoles(sample, left, "checking", looked_at.get(loaded.name, why))


def _as_the_data_say(
    loaded: SequenceData,
    meta: Mapping[str, Any],
    aside: Mapping[str, Any] | None,
    units: int | None,
    asked: Role | None,
) -> DataRoles:
    """Roles where a column or a second file says what is held out.

    Whoever says so declares it, unless the network was trained on other units of these data.
    """
    rest, held = loaded.by_role()
    if held is None:
        raise InputError(
            f"the network was trained on {loaded.name} with units held out by a column or a second "
            "file; give the same again (--holdout-data, or -o role=)"
        )
    if aside is not None and aside["seed"] is not None:
        rest, _ = rest.set_aside(aside["units"], aside["seed"])
    if aside is not None and not _as_recorded(rest, meta):
        raise _other_data(loaded)
    trained = meta.get("units") if _as_recorded(rest, meta) else None
    sample, spare = _first_units(rest, trained if units is None else units, 0)
    if asked == "checking":
        return DataRoles(sample, held, "checking", "so declared by the user", spare, True)
    if aside is not None and held.digest == aside["digest"]:
        why = "set aside by the data's own roles before training, as the network's description says"
        return DataRoles(sample, held, "certificate", why, spare, True)
    if meta and not _as_recorded(rest, meta) and asked is None:
        why = f"the network was trained on other units of these data; {DECLARE}"
        return DataRoles(sample, held, "checking", why, spare, True)
    return DataRoles(sample, held, "certificate", "declared by the user", spare, True)


def _other_data(loaded: SequenceData) -> InputError:
    return InputError(
        f"{loaded.name} is not what the network was trained on: its units have other "
        "digests than its description says; give the same data and options, or train again"
    )


def _role(looked: str | None, asked: Role | None) -> tuple[Role, str]:
    """The role of units that were set aside before training, or looked at for that reason."""
    before = "set aside at random before training, as the network's description says"
    if asked == "checking":
        return "checking", "so declared by the user"
    if looked is None:
        return "certificate", before
    if asked == "certificate":
        return "certificate", f"{before}; declared unseen by the user, although {looked}"
    return "checking", f"{looked}; {DECLARE}"


def _first_units(
    rest: SequenceData, units: int | None, aside: int
) -> tuple[SequenceData, SequenceData | None]:
    if units is None or units == rest.units:
        return rest, None
    if units > rest.units:
        besides = f" besides the {aside} held out" if aside else ""
        raise InputError(
            f"{units} units asked for, {rest.name} has {rest.units}{besides}; ask for fewer"
        )
    return rest.split(units)


def _as_recorded(rest: SequenceData, meta: Mapping[str, Any]) -> bool:
    """Whether the first units are those that the network was trained on."""
    trained, digest = meta.get("units"), meta.get("digest")
    if trained is None or trained > rest.units:
        return False
    return bool(_first_units(rest, trained, 0)[0].digest == digest)


def _aside(meta: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The record of units set aside; InputError where it was damaged."""
    aside = meta.get("holdout")
    if aside is None:
        return None
    if not isinstance(aside, Mapping) or not isinstance(aside.get("digest"), str):
        raise InputError(
            "the network's description has a damaged record of held-out units; train again"
        )
    return {
        "units": validation.whole("the recorded number of held-out units", aside.get("units")),
        "seed": None
        if aside.get("seed", 0) is None
        else validation.whole("the recorded seed of the holdout", aside.get("seed"), least=0),
        "digest": aside["digest"],
    }
