"""``recert reproduce figure4``: Section 6 of the paper, trained anew, with certified bounds beside.

The four complexities are as printed: constants, logarithms common to all, 1/(√m γ) and B_x left
out, so they compare with each other and bound nothing. Beside them stand values of statements that
hold: they bound the error, and at 128 hidden units all that rest on norms say 1 or more, on a small
corpus and on tens of thousands of images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import Progress

from recert import printed
from recert.certificates.certificate import Certificate
from recert.certification.certify import certify
from recert.data import text, wikipedia
from recert.numerics.rounding import rounded_up
from recert.printed import evaluate
from recert_studies import charts
from recert_studies.figure4 import data
from recert_studies.figure4.claims import PAPER, claims
from recert_studies.framework import Cell, Conclusion, Option, Request, Result, Study

CERTIFIED = (
    "theorem_2",
    "theorem_2_clipped",
    "theorem_2_single_scale",
    "theorem_3_l1_cover",
    "theorem_3_gaussian",
    "margin_ball",
    "held_out",
)
LOCAL = "local_ball"
LARGE = 1e300  # values from here on are not kept
SHORT = {
    "theorem_2": "Theorem 2, paper's range",
    "theorem_2_clipped": "Theorem 2, clipped range",
    "theorem_2_single_scale": "Theorem 2, single scale",
    "theorem_3_l1_cover": "(3) repaired",
    "theorem_3_gaussian": "(4) repaired",
    "margin_ball": "margin ball",
    "local_ball": "local margin ball",
    "held_out": "units held out",
}
ERRORS = ("training error", "held-back error", "constant answer", "nats a unit")
BARS = {"Bound 1": "#8c8c8c", "Bound 2": "#8c8c8c", "Bound 3": "#8c8c8c", "Ours": "#2166ac"}
COLOURS = {"certificate": "#1b7837", "estimate": "#b8860b"}


def _cells(request: Request) -> list[Cell]:
    source = data.read(request)
    options = source.deciding(request.options)
    return [_cell(source, options, seed) for seed in request.seeds]


def _cell(source: data.Source, options: dict[str, Any], seed: int) -> Cell:
    what = {
        "study": "figure4", "revision": 4, "seed": seed, "data": source.name,
        "digest": source.digest, **options,
    }  # fmt: skip
    return Cell(f"seed {seed}", what, lambda bar: _trained(source, options, seed, bar))


def _trained(source: data.Source, options: dict[str, Any], seed: int, bar: Progress) -> Result:
    """Train one network, measure its norms, evaluate what is printed and what holds."""
    from recert.training import Recipe, train

    parts = source.parts(options, seed)
    recipe = Recipe(
        d_h=options["hidden"], epochs=options["epochs"], batch=options["batch"],
        learning_rate=options["learning_rate"],
    )  # fmt: skip
    trained = train(
        parts.sample, recipe, seed=seed, progress=bar, description=f"training, seed {seed}"
    )  # fmt: skip
    network = trained.model.recert_network()
    sample, held = parts.sample, parts.held
    certificate = certify(
        network,
        sample.sequences,
        sample.labels,
        delta=options["delta"],
        at="last" if sample.labels.ndim == 1 else "average",
        lengths=sample.lengths,
        groups=sample.groups,
        input_bound=sample.input_bound,
        max_length=sample.max_length,
        encoding=sample.encoding,
        holdout=(held.sequences, held.labels, held.lengths, held.groups),
        draws=f"{sample.unit}s are regarded as independent draws from a source of them",
        bounds=_menu(options),
        budget=math.inf,
    )
    letters = evaluate.letters(network, float(sample.input_bound or 1.0))
    bounds = [b for b in certificate.bounds if b.kind in COLOURS and b.log10 is not None]
    return {
        "source": source.name,
        "code": parts.code,
        "unit": sample.unit,
        "units": sample.units,
        "sequences": sample.m,
        "steps": sample.max_length,
        "letters": {name: float(value) for name, value in letters.items()},
        "loss": [float(x) for x in trained.losses],
        "error": float(certificate.sample["training_error"]),
        "constant_error": parts.constant_error,
        "held_error": float((certificate.sample.get("holdout") or {})["error"]),
        "printed": section6(letters, sample.max_length),
        "printed at twice t": section6(letters, 2 * sample.max_length),
        "bounds": {
            b.name: {
                "kind": b.kind,
                "log10": b.log10,
                "value": _finite(b.value),
                "nats a unit": b.terms.get("rate"),
            }
            for b in bounds
        },
        "local ball": _why_not(certificate),
    }


def _menu(options: Mapping[str, Any]) -> tuple[str, ...]:
    return (*CERTIFIED[:-1], LOCAL, CERTIFIED[-1]) if options.get("local") == "yes" else CERTIFIED


def _why_not(certificate: Certificate) -> str | None:
    """Why the local ball was asked for and does not apply, or None."""
    found = [b.reason for b in certificate.bounds if b.name == LOCAL and b.log10 is None]
    return found[0] if found else None


def section6(letters: Mapping[str, float], t: int) -> dict[str, float]:
    """log10 of the four complexities of Section 6 at horizon t, d = d_h."""
    a = {name: letters[name] for name in ("B_U", "B_V", "B_W")}
    d_h = int(letters["d_h"])
    columns = {name: letters[name] for name in ("M_U", "M_V", "M_W")}
    frobenius = {name: letters[name] for name in ("U_F", "V_F", "W_F")}
    found = {
        "Bound 1": printed.section6_bound_1(d_h=d_h, t=t, **a),
        "Bound 2": printed.section6_bound_2(t=t, **a, **columns),
        "Bound 3": printed.section6_bound_3(d_h=d_h, t=t, B_U=a["B_U"], B_W=a["B_W"], **frobenius),
        "Ours": printed.section6_ours(d_h=d_h, t=t, **a),
    }
    return {name: value.log10 for name, value in found.items() if value.log10 is not None}


def norms_of(letters: Mapping[str, float]) -> dict[str, float]:
    """The norms of U that Section 6 prints, and their quotients."""
    spectral, frobenius, columns = letters["B_U"], letters["U_F"], letters["M_U"]
    return _with_quotients({"‖U‖": spectral, "‖U‖_F": frobenius, "M_U": columns})


def _with_quotients(norms: Mapping[str, float]) -> dict[str, float]:
    ratio = norms["‖U‖_F"] / norms["‖U‖"]
    return {
        **norms,
        "‖U‖_F/‖U‖": ratio,
        "‖U‖_F²/‖U‖²": ratio**2,
        "M_U/‖U‖_F": norms["M_U"] / norms["‖U‖_F"],
    }


def _conclude(request: Request, results: Sequence[Result]) -> Conclusion:
    rows: list[dict[str, Any]] = [{"network": "the paper's", **_with_quotients(PAPER)}]
    for seed, result in zip(request.seeds, results, strict=True):
        rows.append(
            {
                "network": f"seed {seed}",
                **norms_of(result["letters"]),
                "training error": result["error"],
                "held-back error": result["held_error"],
                "constant answer": result["constant_error"],
                "nats a unit": result["bounds"].get("margin_ball", {}).get("nats a unit"),
                **{f"log10 {name}": value for name, value in result["printed"].items()},
                **{f"log10 {SHORT[n]}": b["log10"] for n, b in result["bounds"].items()},
            }
        )
    groups, first = _groups(results), results[0]

    def draw(path: Path) -> Path:
        return charts.bars(groups, path, title=_title(request, results))

    return Conclusion(
        rows, draw, claims(results), _notes(results),
        {"data": {name: first[name] for name in ("source", "code", "unit", "units")}},
        table=("network", *_with_quotients(PAPER), *ERRORS),
    )  # fmt: skip


def _groups(results: Sequence[Result]) -> list[tuple[str, list[tuple[str, str, list[float]]]]]:
    """The picture: the paper's bars, and ours that hold."""
    four = [
        (name, colour, [r["printed"][name] for r in results])
        for name, colour in BARS.items()
        if all(name in r["printed"] for r in results)
    ]
    held = []
    for name in SHORT:
        found = [r["bounds"][name] for r in results if name in r["bounds"]]
        if found:
            kind = max((b["kind"] for b in found), key=list(COLOURS).index)
            held.append((SHORT[name], COLOURS[kind], [b["log10"] for b in found]))
    kinds = {b["kind"] for r in results for b in r["bounds"].values()}
    error = "estimated error" if kinds == {"estimate"} else "certified error"
    mixed = ", ochre: estimated" if len(kinds) > 1 else ""
    return [
        ("log10 of the complexity, as printed", four),
        (f"log10 of the {error}{mixed}\n(0: says nothing)", held),
    ]


def _title(request: Request, results: Sequence[Result]) -> str:
    first = results[0]
    seeds = ", ".join(map(str, request.seeds))
    shown = f"seeds {seeds} (points) and their median (bars)" if len(request.seeds) > 1 else (
        f"seed {seeds}"
    )  # fmt: skip
    return (
        f"Section 6 anew: vanilla RNN, d_h = {request.options['hidden']}, t = {first['steps']}; "
        f"{shown}\n{_size(results)} of {first['source']}"
    )


def _size(results: Sequence[Result]) -> str:
    """What networks were trained on, such as "324 documents in 2,339 to 2,456 windows"."""
    first = results[0]
    units = f"{first['units']:,} {first['unit']}s"
    if first["unit"] != "document":
        return units
    windows = [f"{found(r['sequences'] for r in results):,}" for found in (min, max)]
    return f"{units} in {' to '.join(dict.fromkeys(windows))} windows"


def _notes(results: Sequence[Result]) -> list[str]:
    first = results[0]
    best = []
    for r in results:
        name, bound = min(r["bounds"].items(), key=lambda pair: pair[1]["log10"])
        best.append(f"{SHORT[name]} {_shown(bound['value'])} ({bound['kind']})")
    norm_based = median(
        min(_or_large(b["value"]) for n, b in r["bounds"].items() if n != "held_out")
        for r in results
    )
    reason = first.get("local ball")
    return [
        f"Trained on {_size(results)} of {first['source']}; {first['code']}.",
        "The paper's complexities have neither constants nor 1/(√m γ) nor B_x, and bound nothing.",
        f"Best bound on the error, by seed: {', '.join(best)}; the smallest that needs no units "
        f"held out is {_shown(norm_based)} in the median.",
        "'constant answer' is the error on units held back of the class that is most frequent in "
        "the sample; 'nats a unit' what the margin ball pays for complexity, useful well below 1.",
        "The paper's quotient ‖U‖_F/‖U‖ is the root of the usual stable rank.",
        *([f"The local margin ball does not apply: {reason}."] if reason else []),
    ]


def _finite(value: float) -> float | None:
    return value if value < LARGE else None


def _or_large(value: float | None) -> float:
    return LARGE if value is None else value


def _shown(value: float | None) -> str:
    """A bound with four decimals, never smaller than it is; None is one that was not `_finite`."""
    return f"above {LARGE:g}" if _or_large(value) >= LARGE else rounded_up(_or_large(value), 4)


FIGURE4 = Study(
    "figure4",
    "Section 6 and Figure 4: norms, printed complexities and certified bounds of a trained RNN",
    {
        "data_path": Option(None, "a UTF-8 text; by default WikiText-2 or the excerpt in gensim"),
        "images": Option(None, "images in MNIST's format, plain or .gz, read as strips of half "
                         "rows (56 of 14 pixels)"),
        "labels": Option(None, "their labels"),
        "source": Option("auto", "of a text: where it comes from", choices=wikipedia.SOURCES),
        "split": Option("paragraph", "of a text: what a document is", choices=text.SPLITS),
        "code": Option("vocabulary", "of words: made of documents set aside (vocabulary) or of "
                       "the sample (learnt), or a hash", choices=data.CODES),
        "units": Option(1_000_000, "most documents or images that are used", quick=600, least=20),
        "hidden": Option(128, "hidden units d_h"),
        "horizon": Option(56, "of a text: t, the length of a window"),
        "classes": Option(64, "of a text: classes K of the next word", least=2),
        "epochs": Option(30, "passes over the sample", quick=4),
        "batch": Option(64, "windows a step"),
        "learning_rate": Option(0.003, "peak of Adam's rate", least=1e-9),
        "local": Option("no", "of images: whether the local margin ball is evaluated, too",
                        choices=("no", "yes")),
        "delta": Option(0.01, "failure probability of all bounds", least=1e-300),
    },
    _cells,
    _conclude,
)  # fmt: skip
