"""Bounds as bars: the ladder of one network, all rungs of a data set, networks side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recert.errors import InputError
from recert.numerics.rounding import rounded_up
from recert.report.canvas import COLOURS, TALLEST, plain, pyplot, save, value_text

if TYPE_CHECKING:
    from recert.certificates.certificate import Bound, Certificate


MOST_PANELS = 60  # beside each other, for matplotlib's largest picture


def ladder(certificates: Sequence[tuple[Certificate, str]], path: str | Path) -> Path:
    """One row per bound on a log axis, with the line at 1 and the errors; one panel each.

    Args:
        certificates: pairs of a certificate and the title of its panel.
        path: a PNG, SVG or PDF file, written through a temporary name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    if len(certificates) > MOST_PANELS:
        raise InputError(
            f"{len(certificates)} certificates are too many for a picture; draw {MOST_PANELS}"
        )
    plt = pyplot()
    figure, axes = plt.subplots(
        1, len(certificates), figsize=(7.2 * len(certificates), 6.4), squeeze=False
    )
    for axis, (certificate, title) in zip(axes[0], certificates, strict=True):
        _ladder_panel(axis, certificate, title)
    return save(figure, path)


def _ladder_panel(axis: Any, certificate: Certificate, title: str) -> None:
    bounds = sorted(
        (b for b in certificate.bounds if b.log10 is not None),
        key=lambda b: -(b.log10 if b.log10 is not None else 0.0),
    )
    for row, bound in enumerate(bounds):
        height = min(max(bound.value, 1e-4), TALLEST)
        axis.barh(row, height, left=1e-4, color=COLOURS[bound.kind], alpha=0.85, height=0.68)
        # Beside the bar, and right of the line at 1 rather than across it.
        axis.text(max(height, 1.0) * 1.25, row, value_text(bound), va="center", fontsize=8.5)
    axis.set_yticks(range(len(bounds)), [plain(b.title) for b in bounds], fontsize=8.5)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(1e-2, 300.0 * min(TALLEST, max(2.0, *(min(b.value, TALLEST) for b in bounds))))
    axis.axvline(1.0, color="black", linewidth=1.2)
    axis.text(1.0, -0.75, " 1: says nothing beyond", fontsize=8, va="bottom")
    held = certificate.sample.get("holdout")
    for label, error, style in (
        ("training error", certificate.sample.get("training_error"), ":"),
        ("test error", held and held["error"], "--"),
    ):
        if error:
            axis.axvline(
                error, color="#b2182b", linestyle=style, linewidth=1.2, label=f"{label} {error:.3f}"
            )
    for kind, colour in COLOURS.items():
        if any(b.kind == kind for b in bounds):
            text = {"order": "as printed, no constants"}.get(kind, kind)
            axis.barh([0], [0], color=colour, label=text)
    axis.legend(loc="lower right", fontsize=8)
    axis.set_xlabel("bound on the error (log scale)")
    axis.set_title(plain(title), fontsize=10.5, loc="right")


def cells(certificates: Sequence[tuple[str, Certificate]], path: str | Path) -> Path:
    """What each network's best certificate is made of, and its test error, one bar each.

    The dark part is the share of the sample within the margin γ of an error (the training error,
    where the best bound has no margin), the light part what the network's complexity costs.

    Args:
        certificates: pairs of a name and a certificate, drawn from top to bottom.
        path: a PNG, SVG or PDF file, written through a temporary name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(8.4, 1.6 + 0.75 * len(certificates)))
    labels = []
    for row, (name, certificate) in enumerate(certificates):
        best, sample, network = certificate.best, certificate.sample, certificate.network
        labels.append(
            f"{plain(name)}\n{network['dims']['d_h']} units, {network['parameters']:,} weights"
        )
        value, error = certificate.risk_bound, float(sample["training_error"])
        seen = error if best is None else min(value, best.terms.get("hard_margin_risk", error))
        first = {"label": None} if row else {}
        axis.barh(
            row, seen, **{"color": "#1b7837", "label": "sample within γ of an error", **first}
        )
        price = {"color": "#a6dba0", "label": "price of complexity", **first}
        axis.barh(row, value - seen, left=seen, **price)
        axis.text(value, row, f" {rounded_up(value, 4)}", va="center", fontsize=10)
        if sample.get("holdout"):
            mark = {"color": "#b2182b", "label": "error on units held back", **first}
            axis.plot([sample["holdout"]["error"]] * 2, [row - 0.4, row + 0.4], linewidth=2, **mark)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set_xlim(0.0, 1.12 * max(certificate.risk_bound for _, certificate in certificates))
    axis.set_xlabel("error")
    axis.set_title("Certified error of each cell, and its test error")
    axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8.5, frameon=False
    )
    return save(figure, path)


@dataclass(frozen=True)
class Rung:
    """A bound on one predictor of a data set, and the test error of that predictor.

    Attributes:
        label: what is bounded, and by what.
        bound: the bound.
        test_error: on units held back, or None.
    """

    label: str
    bound: Bound
    test_error: float | None = None


def rungs(steps: Sequence[Rung], title: str, path: str | Path) -> Path:
    """Bounds on several predictors of one data set on a log axis, each with its test error.

    Args:
        steps: from top to bottom.
        title: of the picture.
        path: a PNG, SVG or PDF file, written through a temporary name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(9.6, 1.5 + 0.36 * len(steps)))
    for row, step in enumerate(steps):
        height = min(max(step.bound.value, 1e-3), TALLEST)
        axis.barh(row, height, color=COLOURS[step.bound.kind], alpha=0.85, height=0.68)
        text = value_text(step.bound)
        axis.text(max(height, 1.0) * 1.12, row, text, va="center", fontsize=9)
        if step.test_error:
            axis.plot([step.test_error] * 2, [row - 0.42, row + 0.42], color="#b2182b", linewidth=2)
    axis.set_yticks(range(len(steps)), [step.label for step in steps], fontsize=9)
    axis.invert_yaxis()
    axis.set_xscale("log")
    smallest = min(step.test_error or step.bound.value for step in steps)
    largest = max(2.0, *(min(step.bound.value, TALLEST) for step in steps))
    axis.set_xlim(max(0.5 * smallest, 1e-3), 12.0 * largest)
    axis.axvline(1.0, color="black", linewidth=1.2)
    for kind, colour in COLOURS.items():
        if any(step.bound.kind == kind for step in steps):
            text = {"order": "as printed, no constants"}.get(kind, kind)
            axis.barh([0], [0], color=colour, label=text)
    axis.plot([], [], color="#b2182b", linewidth=2, label="error on units held back")
    axis.legend(loc="lower right", fontsize=8.5)
    axis.set_xlabel("bound on the error (log scale; from 1 on it says nothing)")
    axis.set_title(title, fontsize=11, loc="left")
    return save(figure, path)
