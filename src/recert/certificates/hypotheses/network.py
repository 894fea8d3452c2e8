"""Hypotheses on the network, its class, and how it came about."""

from __future__ import annotations

from recert.certificates.hypotheses.facts import (
    COUNTED,
    SAMPLE,
    Facts,
    Form,
    Sentences,
    always,
    among,
    by_status,
    digest,
    each,
    exact,
    excess,
    named,
    number,
    perhaps,
    positive,
    text,
)
from recert.numerics.rounding import significant_up


def _architecture(status: str, f: Facts) -> Sentences | None:
    fixed = "the architecture and training recipe were fixed before looking at the sample"
    if f["of"] == COUNTED:
        fixed = (
            "the architecture and the recipe for the prior were fixed before looking at the "
            f"{COUNTED}"
        )
    chosen = f"the recipe was one of {f['tried']:,} fixed beforehand; the choice is paid for"
    statement = "the architecture was fixed beforehand, or its choice is paid for"
    return by_status(statement, status, {"declared": fixed if f["tried"] == 1 else chosen})


def _caps(status: str, f: Facts) -> Sentences | None:
    broken = "; ".join(
        f"{named(block)} has {what} {significant_up(held, 6)} > {cap:.6g}"
        for block, what, held, cap in f["broken"]
    )
    evidence = {
        "proved": "measured, rounded up to a grid, and paid for",
        "declared": "declared before training; all hold",
    }
    if broken:
        evidence = {"violated": broken}
    return by_status("the norms of the weights are at most the caps", status, evidence)


def _margin(status: str, f: Facts) -> Sentences | None:
    evidence = {"proved": "chosen on a grid after looking, and paid for"}
    if f["gamma"] is not None:
        evidence = {"declared": f"γ = {exact(f['gamma'])} was declared before looking"}
    return by_status("the margin γ was fixed, or its choice is paid for", status, evidence)


def _floats(status: str, f: Facts) -> Sentences | None:
    slack, largest = f["slack"], f["largest_margin"]
    evidence = (
        "η exceeds the largest margin: float64 cannot tell this network's margins apart, and every "
        "unit is counted as an error"
    )
    if slack is not None and slack <= largest:
        evidence = f"η = {significant_up(slack, 3)}, a forward-error bound, added to γ"
    statement = "margins of the real-number network differ from the float64 ones by at most η"
    return by_status(statement, status, {"proved": evidence})


def _centre(status: str, f: Facts) -> Sentences | None:
    same = ", ".join(named(block) for block in f["same"])
    evidence = {"declared": "the initial weights, as declared"}
    if f["centre"] == "zero":
        evidence = {"proved": "the centre is zero"}
    if same:
        evidence = {"violated": f"blocks {same} are the trained ones"}
    return by_status("the prior's centre was fixed before looking at the sample", status, evidence)


def _prior(status: str, f: Facts) -> Sentences | None:
    errors = f"its centre errs on {f['own']:.2%} of them and on {f['rest']:.2%} of the rest"
    evidence = {"declared": f"declared where it was trained, no file can prove it; {errors}"}
    if f["deviations"] is not None:
        evidence = {
            "violated": f"{errors}, but on fewer of the first ones of the rest than of the last, "
            f"by {f['deviations']:.1f} deviations: it has seen more than it says"
        }
    statement = (
        f"the prior, its centre, scale and temperature, was made from the first {f['units']:,} "
        "units alone"
    )
    return by_status(statement, status, evidence)


def _program(status: str, f: Facts) -> Sentences | None:
    statement = (
        f"the network is the decoding of a file of {f['bytes']:,} bytes, in which nothing but the "
        "file is read"
    )
    evidence = f"decoded here, and coded again to the same bytes (sha256 {f['sha256'][:16]}…)"
    return by_status(statement, status, {"proved": evidence})


def _together(status: str, f: Facts) -> Sentences | None:
    names = f["names"]
    statement = (
        f"this is one of {len(names)} networks certified together; each statement holds at its "
        "share of δ, so all hold at once with probability 1 − δ, and the best may be chosen after "
        "looking"
    )
    evidence = f"a share of {f['share']:.6g} each, for {', '.join(map(named, names))}"
    return by_status(statement, status, {"proved": evidence})


FORMS: dict[str, tuple[Form, ...]] = {
    "architecture": (Form({"tried": positive, "of": among(SAMPLE, COUNTED)}, _architecture),),
    "step": (
        always(
            "declared",
            "the step at which the loss is read was fixed beforehand",
            "declared by the user",
        ),
    ),
    "settings": (
        always(
            "declared",
            "δ, the statements that share it, and all other settings that are not paid for were "
            "fixed before looking at what they give",
            "declared by the user; it is not so where another δ, choice of statements, sample, "
            "seed or number of draws was tried first (docs/choices.md lists all that can be set)",
        ),
    ),
    "caps": (Form({"broken": each(excess)}, _caps),),
    "margin": (Form({"gamma": perhaps(number)}, _margin),),
    "l1_caps": (
        always(
            "proved",
            "the entrywise l1 norms of the weights are at most their caps",
            "measured, rounded up to a grid, and paid for, where not declared",
        ),
    ),
    "floats": (Form({"slack": perhaps(number), "largest_margin": number}, _floats),),
    "enclosures": (
        always(
            "proved",
            "what moves of the weights can do was bounded at the trained network, roundings "
            "included",
            "by enclosures of every value, forward and back (theory 4d)",
        ),
    ),
    "prior": (
        Form({"centre": among("zero", "initial weights"), "same": each(text)}, _centre),
        Form(
            {"units": positive, "own": number, "rest": number, "deviations": perhaps(number)},
            _prior,
        ),
    ),
    "program": (Form({"bytes": positive, "sha256": digest}, _program),),
    "together": (Form({"names": each(text, least=2), "share": number}, _together),),
}
