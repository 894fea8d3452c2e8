"""Seconds for the whole menu of bounds with every grid, and for sensitivities at long horizons.

    python benchmarks/bench_bounds.py [--quick]

Targets: the menu at T = 1,000 within 0.5 s, sensitivities at T = 10^6 within 2 s, those of an LSTM
of two layers in two directions at T = 10^5 within 2 s. The ratios are the times over these.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import recert
from recert.certification.certify import evaluate_menu, prepare
from recert.networks.cells import CELLS
from recert.networks.layers import Bidirectional, Layer, layer_of, suffix_of
from recert.networks.network import Block, Head, Network
from recert.theorems import THEOREMS

MENU_SECONDS, SENSITIVITY_SECONDS = 0.5, 2.0


def network(activation: str, d_h: int = 32, letters: int = 30) -> recert.Network:
    rng = np.random.default_rng(0)
    U = rng.normal(size=(d_h, d_h))
    return recert.vanilla(
        0.99 * U / np.linalg.norm(U, 2),
        rng.normal(size=(d_h, letters)),
        rng.normal(size=(3, d_h)),
        b=rng.normal(size=d_h) * 0.1,
        activation=activation,
    )


def gated(cell: str, layers: int = 1, two_way: bool = False, d_h: int = 32) -> Network:
    """A network of that cell with biases on 30 tokens, of weights as a framework starts them."""
    rng = np.random.default_rng(0)

    def one(k: int, width: int, reverse: bool) -> Layer:
        values = {}
        for gate in CELLS[cell].gates:
            for letter, shape in (("U", (d_h, d_h)), ("W", (d_h, width)), ("b", (d_h,))):
                values[letter + gate] = rng.uniform(-1, 1, shape) / np.sqrt(d_h)
        suffix = suffix_of(k, layers, reverse=reverse)
        return layer_of(cell, values, suffix=suffix, reads_tokens=k == 0)

    stack: list[Layer | Bidirectional] = []
    width = 30
    for k in range(layers):
        forward = one(k, width, False)
        stack.append(Bidirectional(forward, one(k, width, True)) if two_way else forward)
        width = stack[-1].d_out
    return Network(tuple(stack), Head(Block("V", rng.normal(size=(3, width)), "spectral")))


def best_time(f: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        f()
        times.append(time.perf_counter() - began)
    return min(times)


def menu(net: Network, steps: int, repeats: int) -> float:
    """Every certified statement, γ on the whole grid, caps measured; margins are there already."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 30, (2000, 8)), rng.integers(0, 3, 2000)
    case = prepare(net, x, y, max_length=steps, holdout=(x[:500], y[:500]))

    def evaluate() -> object:
        fresh = case.setting.at_horizon(steps)  # nothing cached
        return evaluate_menu(THEOREMS, fresh, case.delta, case.rows)

    return best_time(evaluate, repeats)


def rows(steps: int, horizon: int, repeats: int) -> list[tuple[str, float, str]]:
    """Rows: what, seconds over the target, details."""
    found = []
    for activation in ("tanh", "relu"):
        seconds = menu(network(activation), steps, repeats)
        found.append(
            (f"menu, {activation}, T = {steps:,}", seconds / MENU_SECONDS, f"{seconds:.3f} s")
        )
        net = network(activation)
        for every in (False, True):
            seconds = best_time(
                lambda net=net, every=every: recert.sensitivity(net, steps=horizon, every=every),
                repeats,
            )
            what = f"sensitivities, {activation}, T = {horizon:,}" + (", every" if every else "")
            found.append((what, seconds / SENSITIVITY_SECONDS, f"{seconds:.3f} s"))
    for cell in ("gru", "lstm"):
        seconds = menu(gated(cell), steps, repeats)
        found.append((f"menu, {cell}, T = {steps:,}", seconds / MENU_SECONDS, f"{seconds:.3f} s"))
    net, far = gated("lstm", layers=2, two_way=True, d_h=128), horizon // 10
    seconds = best_time(lambda: recert.sensitivity(net, steps=far), repeats)
    what = f"sensitivities, 2-layer two-way LSTM, T = {far:,}"
    found.append((what, seconds / SENSITIVITY_SECONDS, f"{seconds:.3f} s"))
    return found


def run(quick: bool) -> list[tuple[str, float, str]]:
    return rows(100, 10_000, 1) if quick else rows(1000, 1_000_000, 3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    for what, ratio, details in run(parser.parse_args().quick):
        print(f"{what:58} {ratio:7.3f}  {details}", flush=True)


if __name__ == "__main__":
    main()
