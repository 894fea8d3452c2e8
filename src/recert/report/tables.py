"""Tables for the terminal: the ladder of bounds, the ledger, several certificates side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from recert.certificates.certificate import Bound, Certificate
from recert.numerics.rounding import confidence, rounded_up, significant_up, written_up
from recert.numerics.union_bound import Cost, total_nats
from recert.report import value_text

STYLES = {"certificate": "green", "estimate": "yellow", "order": "dim", "not applicable": "dim"}


def ladder(certificate: Certificate, title: str) -> Table:
    """One row per bound, largest first; beside it training and test error."""
    table = Table(title=title, title_justify="left", caption=errors_line(certificate))
    table.caption_justify = "left"
    for column, justify in (
        ("bound", "left"),
        ("kind", "left"),
        ("value", "right"),
        ("", "left"),
        ("rests on", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    best = certificate.best
    for bound in sorted(certificate.bounds, key=_height):
        style = STYLES[bound.kind] + (" bold" if bound is best else "")
        table.add_row(
            bound.title, bound.kind, value_text(bound), verdict(bound, best),
            rests_on(certificate, bound), style=style,
        )  # fmt: skip
    return table


def costs(certificate: Certificate) -> Table:
    """Each bound's share of δ, and what it pays for choices made after looking, one by one."""
    table = Table(title="What each bound pays", title_justify="left")
    for column, justify in (
        ("bound", "left"),
        ("share of δ", "right"),
        ("nats", "right"),
        ("for choices made after looking (nats)", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for bound in sorted(certificate.bounds, key=_height):
        if bound.delta is None or bound.kind not in ("certificate", "estimate"):
            continue
        table.add_row(
            bound.title, written_up(bound.delta, 3), rounded_up(total_nats(bound.cost), 1),
            choices_text(bound.cost), style="bold" if bound is certificate.best else "",
        )  # fmt: skip
    return table


def choices_text(rows: Sequence[Cost]) -> str:
    """Choices with their values and prices; those of several blocks together, without values."""
    kinds: dict[str, list[Cost]] = {}
    for row in rows:
        kinds.setdefault(row.what.partition(" of ")[0], []).append(row)
    parts = []
    for kind, same in kinds.items():
        name = f"{same[0].what} = {same[0].value:.4g}"
        if len(same) > 1:
            name = f"{kind} of " + " ".join(row.what.partition(" of ")[2] for row in same)
        parts.append(f"{name} ({rounded_up(total_nats(same), 1)})")
    return ", ".join(parts) or "none"


def _height(bound: Bound) -> float:
    return float("inf") if bound.log10 is None else -bound.log10


def verdict(bound: Bound, best: Bound | None) -> str:
    """Whether a bound says anything."""
    if bound.log10 is None:
        return ""
    if bound.vacuous:
        return "vacuous"
    return "◀ best" if bound is best else "below 1"


def rests_on(certificate: Certificate, bound: Bound) -> str:
    """The hypotheses of a bound that are not proved, or why it says nothing."""
    if bound.kind in ("order", "not applicable"):
        return bound.reason
    rows = certificate.rests_on(bound)
    parts = []
    for status in ("violated", "estimated", "enforced", "declared"):
        found = [row.id for row in rows if row.status == status]
        if found:
            parts.append(f"{status}: {', '.join(found)}")
    return "; ".join(parts) or "all proved"


def errors_line(certificate: Certificate) -> str:
    """Training and test error, with their numbers of units."""
    sample = certificate.sample
    line = f"training error {sample['training_error']:.4f} on {sample['m']:,} units"
    held = sample.get("holdout")
    if held:
        line += f"; test error {held['error']:.4f} on {held['m']:,} held back"
    return line


def ledger(certificate: Certificate) -> Table:
    """Every hypothesis with its status and the evidence."""
    table = Table(title="What it rests on", title_justify="left")
    for column in ("hypothesis", "status", "evidence"):
        table.add_column(column)
    for row in certificate.assumptions:
        style = "" if row.sound else "yellow"
        table.add_row(row.statement, row.status, row.evidence, style=style)
    return table


def finite_list(certificate: Certificate) -> Group:
    """The best statement for a finite list, and the risk on the units that were not sampled."""
    found = [row for row in certificate.finite_list if row.bound != "held_out"]
    if not found:
        return Group()
    row = min(found, key=lambda row: row.value)
    verdict = "trivial: no better than calling every unseen unit wrong"
    if not row.trivial:
        verdict = f"below the trivial {rounded_up(row.threshold, 4)}"
    return Group(
        Text(
            f"Regarded instead as a sample without replacement from a list of "
            f"{row.population:,}: error on the whole list at most {rounded_up(row.value, 4)} "
            f"({verdict}); on the unseen part at most {rounded_up(row.unseen, 4)} "
            f"({certificate[row.bound].title})."
        )
    )


def comparison(certificates: Sequence[tuple[str, Certificate]]) -> Table:
    """Several certificates side by side: the networks, every bound in a row, the errors."""
    table = Table(title="Bounds side by side", title_justify="left")
    table.add_column("bound")
    for name, _ in certificates:
        table.add_column(name, justify="right")
    networks = [c.network for _, c in certificates]
    table.add_row("cell", *map(cell_text, networks))
    table.add_row("units d_h", *(str(n["dims"]["d_h"]) for n in networks))
    table.add_row("parameters", *(f"{n['parameters']:,}" for n in networks), end_section=True)
    names: dict[str, str] = {}
    for _, certificate in certificates:
        names |= {bound.name: bound.title for bound in certificate.bounds}
    for name, title in names.items():
        table.add_row(title, *(_cell(certificate, name) for _, certificate in certificates))
    table.add_section()
    best = _smallest(certificates)
    table.add_row(
        "best",
        *(
            Text(_best_text(c), "bold green" if best is not None and c is best[1] else "")
            for _, c in certificates
        ),
    )
    table.add_row("training error", *(f"{c.sample['training_error']:.4f}" for _, c in certificates))
    table.add_row("test error", *(_test_error(certificate) for _, certificate in certificates))
    table.add_row("units m", *(f"{c.sample['m']:,}" for _, c in certificates))
    return table


def best_of(
    certificates: Sequence[tuple[str, Certificate]], *, paid: bool = False, joint: bool = False
) -> Text:
    """Which certificate is smallest, and with what probability one may say so.

    ``paid`` says that each of them paid for being one of so many, ``joint`` that they share δ;
    otherwise they were made apart.
    """
    best = _smallest(certificates)
    if best is None:
        return Text("None of these is a certificate.")
    name, certificate = best
    line = (
        f"Best: {name}, whose error on a new draw is at most "
        f"{rounded_up(certificate.risk_bound, 4)}."
    )
    if len(certificates) == 1:
        return Text(line)
    if paid:
        return Text(
            f"{line} Each network paid for being one of {len(certificates)}, so all these "
            f"statements hold together with probability at least {confidence(certificate.delta)}%."
        )
    found = [c for _, c in certificates]
    return Text(f"{line} {together(found) if joint else apart(found)}")


def apart(certificates: Sequence[Certificate]) -> str:
    """At what failure probability certificates that were made apart hold together."""
    n, total = len(certificates), _total_delta(certificates)
    if total >= 1:
        return (
            f"These {n} statements were made apart, and their failure probabilities add up to "
            "1 or more: nothing can be said of all at once, nor of the best."
        )
    return (
        f"Each of these {n} statements holds by itself at its own δ. All at once, and so the best "
        f"chosen after looking, they hold with a failure probability of "
        f"{significant_up(total, 4)}, the sum; recert certify A B … makes them hold together at "
        "one δ."
    )


def together(certificates: Sequence[Certificate]) -> str:
    """What may be said of networks that were certified together."""
    total = significant_up(_total_delta(certificates), 4)
    return (
        f"Certified together: all {len(certificates)} statements hold at once with a failure "
        f"probability of {total}, so the best may be chosen."
    )


def _total_delta(certificates: Sequence[Certificate]) -> Fraction:
    """The sum, of the numbers as they are written."""
    return sum((Fraction(repr(c.delta)) for c in certificates), Fraction(0))


def cell_text(network: Mapping[str, Any]) -> str:
    """The recurrent part in a few words: "lstm", "2 × gru, two ways"."""
    layers = [
        (layer["forward"], True) if "forward" in layer else (layer, False)
        for layer in network.get("layers", [])
    ]
    kinds = list(
        dict.fromkeys(
            str(layer.get("cell", "vanilla")) + (", two ways" if both else "")
            for layer, both in layers
        )
    )
    return (f"{len(layers)} × " if len(layers) > 1 else "") + " + ".join(kinds)


def _smallest(
    certificates: Sequence[tuple[str, Certificate]],
) -> tuple[str, Certificate] | None:
    """The name and the certificate with the smallest certified bound."""
    sound = [pair for pair in certificates if pair[1].kind == "certificate"]
    return min(sound, key=lambda pair: pair[1].risk_bound, default=None)


def _best_text(certificate: Certificate) -> str:
    mark = "" if certificate.kind == "certificate" else f" ({certificate.kind})"
    return rounded_up(certificate.risk_bound, 4) + mark


def _test_error(certificate: Certificate) -> str:
    held = certificate.sample.get("holdout")
    return "—" if held is None else f"{held['error']:.4f}"


def _cell(certificate: Certificate, name: str) -> str:
    found = [bound for bound in certificate.bounds if bound.name == name]
    if not found:
        return ""
    mark = "" if found[0].kind == "certificate" else f" ({found[0].kind})"
    return value_text(found[0]) + ("" if found[0].log10 is None else mark)
