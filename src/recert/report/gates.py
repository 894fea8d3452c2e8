"""The gates of a network for people: ranges measured and class-wide, and the rates β_t and θ_t."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.table import Table

from recert.errors import InputError
from recert.networks.network import Network
from recert.networks.norm_class import Caps
from recert.numerics.rounding import rounded_up, significant_up
from recert.samples.sample import Batch
from recert.sensitivities.gate_ranges import (
    Direction,
    Gates,
    classwide_gates,
    measured_gates,
    printed_gates,
)
from recert.sensitivities.growth_rates import Rates, rates

Curves = dict[str, tuple[list[float], list[float]]]
TITLES = {
    False: ("β_t, as printed", "θ_t, as printed"),
    True: ("β_t", "θ_t, repaired (sigmoid of slope 1/4)"),
}


@dataclass(frozen=True, eq=False)
class GateReport:
    """Ranges of one network's gates, and its rates.

    ``caps`` are those of the class, None for the network's own norms.
    """

    network: Network
    measured: Gates
    calculus: Gates
    printed: Gates
    caps: Caps | None = None

    @property
    def steps(self) -> int:
        """T, the steps that were measured."""
        return self.measured.steps

    def rates(
        self,
        source: str,
        *,
        repaired: bool = False,
        layer: int = 0,
        direction: Direction = "forward",
    ) -> Rates:
        """The rates of one layer from ``"measured"``, ``"calculus"`` or ``"printed"`` ranges.

        Raises:
            InputError: there are no such ranges, or no such layer.
        """
        known: dict[str, Gates] = {
            gates.source: gates for gates in (self.measured, self.calculus, self.printed)
        }
        if source not in known:
            raise InputError(f"source is {source!r}; use 'measured', 'calculus' or 'printed'")
        for found in rates(self.network, known[source], repaired=repaired, caps=self.caps):
            if (found.layer, found.direction) == (layer, direction):
                return found
        raise InputError(f"the network has no layer {layer} {direction}")


def gate_report(
    network: Network,
    batches: Iterable[Batch],
    *,
    input_bound: float = 1.0,
    caps: Caps | None = None,
) -> GateReport:
    """Measure a network's gates on data and bound them class-wide up to the longest sequence.

    Args:
        network: any network.
        batches: validated batches, such as a `recert.samples.sample.Sample`.
        input_bound: B_x ≥ ‖x_t‖_2; 1 for one-hot inputs.
        caps: block name → ``Cap`` or number; None for the network's own norms.

    Raises:
        InputError: as `recert.sensitivities.gate_ranges.measured_gates` and
        `recert.sensitivities.gate_ranges.classwide_gates`.
    """
    measured = measured_gates(network, batches)
    T = measured.steps
    return GateReport(
        network,
        measured,
        classwide_gates(network, steps=T, input_bound=input_bound, caps=caps),
        printed_gates(network, steps=T, input_bound=input_bound),
        caps,
    )


def table(report: GateReport, title: str = "Gates") -> Table:
    """One row per gate, layer and direction with its range up to T, then β_T and θ_T.

    A gate's entries lie between its least and its largest value; class-wide they lie in [1 − s, s],
    s by the calculus and by the paper's formula.
    """
    shown = Table(title=f"{title}, T = {report.steps}", title_justify="left")
    shown.add_column("layer")
    for column in ("", "least", "largest", "s, calculus", "s, printed"):
        shown.add_column(column, justify="right")
    T = report.steps
    for found in report.measured.ranges:
        largest, complement = found.up_to(T)
        bound = report.calculus.of(found.gate, found.layer, found.direction).up_to(T)[0]
        printed = "—"
        if not report.printed.reason:
            printed = rounded_up(report.printed.of(found.gate).up_to(T)[0], 4)
        shown.add_row(
            f"{found.layer} {found.direction}",
            f"gate {found.gate}",
            f"{1.0 - complement:.4f}",
            f"{largest:.4f}",
            rounded_up(bound, 4),
            printed,
        )
    shown.add_section()
    _add_rates(shown, report)
    shown.caption = report.printed.reason and f"printed: {report.printed.reason}"
    return shown


def _add_rates(shown: Table, report: GateReport) -> None:
    """Rows of β_T and θ_T: measured under "largest", class-wide beside it."""
    for repaired in (False, True):
        measured = rates(report.network, report.measured, repaired=repaired, caps=report.caps)
        classwide = rates(report.network, report.calculus, repaired=repaired, caps=report.caps)
        printed: tuple[Rates | None, ...] = (None,) * len(measured)
        if not report.printed.reason:
            printed = rates(report.network, report.printed, repaired=repaired, caps=report.caps)
        for found, bound, formula in zip(measured, classwide, printed, strict=True):
            for name in ("beta", "theta"):
                letter = {"beta": "β_T", "theta": "θ_T"}[name]
                cells = [f"{getattr(found, name)[-1]:.4g}"]
                limits = (getattr(r, name)[-1] for r in (bound, formula) if r is not None)
                cells += [significant_up(float(value), 4) for value in limits]
                shown.add_row(
                    f"{found.layer} {found.direction}",
                    f"{letter}, {'repaired' if repaired else 'as printed'}",
                    "",
                    *cells,
                    *["—"] * (3 - len(cells)),
                )


def curves(
    reports: Mapping[str, GateReport], *, repaired: bool = False
) -> list[tuple[str, Curves]]:
    """Panels for `recert.report.gates_against_time`: β_t and θ_t of every network's first layer.

    Args:
        reports: name → report, such as vanilla, MGU, GRU and LSTM networks trained on the same
            data.
        repaired: the repaired rates instead of the printed ones.

    Returns:
        two pairs of a title and name → (measured, class-wide by the calculus) at t = 1..T.
    """
    beta: Curves = {}
    theta: Curves = {}
    for name, report in reports.items():
        pair = [report.rates(source, repaired=repaired) for source in ("measured", "calculus")]
        measured, classwide = pair
        beta[name] = (measured.beta.tolist(), classwide.beta.tolist())
        theta[name] = (measured.theta.tolist(), classwide.theta.tolist())
    return list(zip(TITLES[repaired], (beta, theta), strict=True))
