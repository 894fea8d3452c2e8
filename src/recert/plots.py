"""Pictures, drawn from certificates alone: the ladder of bounds, and bounds against the horizon."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recert import files
from recert.concentration import rounded_up
from recert.errors import InputError

if TYPE_CHECKING:
    from recert.certificate import Bound, Certificate

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = {"certificate": "#1b7837", "estimate": "#b8860b", "order": "#8c8c8c"}
# Values above this are drawn on a broken scale's end; nobody reads their exact height.
TALLEST = 1e12


def ladder(certificates: Sequence[tuple[Certificate, str]], path: str | Path) -> Path:
    """One row per bound on a log axis, with the line at 1 and the errors; one panel each.

    Args:
        certificates: pairs of a certificate and the title of its panel.
        path: a PNG, SVG or PDF file, written through a temporary name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(
        1, len(certificates), figsize=(7.2 * len(certificates), 6.4), squeeze=False
    )
    for axis, (certificate, title) in zip(axes[0], certificates, strict=True):
        _ladder_panel(axis, certificate, title)
    figure.tight_layout()
    return _save(figure, path)


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
    axis.set_yticks(range(len(bounds)), [b.title for b in bounds], fontsize=8.5)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(1e-2, 300.0 * min(TALLEST, max(2.0, *(min(b.value, TALLEST) for b in bounds))))
    axis.axvline(1.0, color="black", linewidth=1.2)
    axis.text(1.0, -0.75, " 1: says nothing beyond", fontsize=8, va="bottom")
    held = certificate.sample.get("holdout")
    for label, error, style in (
        ("training error", certificate.sample["training_error"], ":"),
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
    axis.set_title(title, fontsize=10.5, loc="right")


def against_time(
    panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]],
    path: str | Path,
    *,
    longest: int,
    marked: int | None = None,
) -> Path:
    """log10 of bounds against the horizon t = 1..T, one panel for each network.

    Args:
        panels: (title, name of a curve → log10 values at t = 1..T, NaN where not applicable).
        path: the picture.
        longest: the last horizon drawn.
        marked: a horizon to mark, such as the declared T.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.9 * len(panels), 4.8), squeeze=False, sharey=True
    )
    highest = max(
        (v for _, curves in panels for vs in curves.values() for v in vs if math.isfinite(v)),
        default=1.0,
    )
    for axis, (title, curves) in zip(axes[0], panels, strict=True):
        for name, values in curves.items():
            printed = "printed" in name
            axis.plot(
                range(1, longest + 1),
                values,
                linestyle="--" if printed else "-",
                linewidth=1.3 if printed else 2.0,
                label=name,
            )
        axis.axhline(0.0, color="black", linewidth=1.2)
        if marked is not None:
            axis.axvline(marked, color="#8c8c8c", linewidth=0.9, linestyle=":")
        axis.set_title(title, fontsize=10.5)
        axis.set_xlabel("horizon t (steps)")
        axis.set_ylim(-1.0, min(highest, 24.0) + 0.5)
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("log10 of the bound (0: says nothing)")
    axes[0][-1].legend(fontsize=7.5, loc="upper left")
    figure.tight_layout()
    return _save(figure, path)


def value_text(bound: Bound) -> str:
    """A bound for people, rounded up: 0.3714, or 10^7.3 where large; '—' when not applicable."""
    if bound.log10 is None:
        return "—"
    if bound.log10 < 3:
        return rounded_up(bound.value, 4 if bound.value < 10 else 1)
    if bound.log10 < 1e5:
        return f"10^{rounded_up(bound.log10, 1)}"
    return f"10^{bound.log10 * 1.001:.3g}"


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise files.missing("matplotlib", "'recert[plots]'", "drawing") from None
    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, path: str | Path) -> Path:
    import matplotlib.pyplot as plt

    if Path(path).suffix.lower() not in SUFFIXES:
        plt.close(figure)
        raise InputError(f"{path}: pictures are written as {', '.join(SUFFIXES)}; choose one")
    suffix = Path(path).suffix.lstrip(".").lower() or "png"
    try:
        return files.write_atomically(
            path, lambda temporary: figure.savefig(temporary, format=suffix, dpi=130)
        )
    finally:
        plt.close(figure)


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
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(8.4, 1.6 + 0.75 * len(certificates)))
    labels = []
    for row, (name, certificate) in enumerate(certificates):
        best, sample, network = certificate.best, certificate.sample, certificate.network
        labels.append(f"{name}\n{network['dims']['d_h']} units, {network['parameters']:,} weights")
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
    figure.tight_layout()
    return _save(figure, path)


def gates_against_time(
    panels: Sequence[tuple[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]],
    path: str | Path,
    *,
    longest: int,
    marked: int | None = None,
) -> Path:
    """Rates such as β_t and θ_t of several networks against t = 1..T, one panel for each rate.

    Args:
        panels: (title, name of a network → its rate at t = 1..T as measured and class-wide), as
            `recert.report.gates.curves` makes them; measured is solid, class-wide dashed.
        path: a PNG, SVG or PDF file, written through a temporary name.
        longest: T.
        marked: a step to mark, or None.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = _pyplot()
    from matplotlib.ticker import FuncFormatter

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    sparse = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    figure, axes = plt.subplots(1, len(panels), figsize=(5.6 * len(panels), 4.6), squeeze=False)
    for axis, (title, networks) in zip(axes[0], panels, strict=True):
        for number, (name, pair) in enumerate(networks.items()):
            for values, style, label in zip(pair, ("-", "--"), (name, None), strict=True):
                axis.plot(
                    range(1, len(values[:longest]) + 1),
                    values[:longest],
                    style,
                    color=f"C{number}",
                    linewidth=2.0 if style == "-" else 1.3,
                    label=label,
                )
        axis.axhline(1.0, color="black", linewidth=1.0)
        if marked is not None:
            axis.axvline(marked, color="#8c8c8c", linewidth=0.9, linestyle=":")
        axis.plot([], [], "-", color="#555555", label="measured")
        axis.plot([], [], "--", color="#555555", label="class-wide")
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(plain)
        axis.yaxis.set_minor_formatter(sparse)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(title, fontsize=10.5)
        axis.set_xlabel("step t")
        axis.grid(alpha=0.25, which="both")
    axes[0][-1].legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    figure.tight_layout()
    return _save(figure, path)
