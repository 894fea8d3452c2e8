"""What monitoring and constraints cost, against the bare work, in one run.

    python benchmarks/bench_tracker.py [--sequences 10000] [--hidden 64] [--steps 24] [--quick]

A row of the tracker is compared with one bare forward pass of the module over the same sequences,
in its own precision; a training step (forward, backward, Adam) of a module whose U and V are
constrained with the same step unconstrained. Ratios above 1: how many times as long.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from recert.training import KINDS, Tracker, constrain, settle

D, K, BATCH = 8, 3, 256


class Reader(nn.Module):
    def __init__(self, kind: type[nn.Module], hidden: int) -> None:
        super().__init__()
        self.rnn: Any = kind(D, hidden, batch_first=True)
        self.out = nn.Linear(hidden, K)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def best(f: Callable[[], object], repeats: int) -> float:
    """Best seconds, after one call to warm up."""
    f()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        f()
        times.append(time.perf_counter() - began)
    return min(times)


def rows_of_the_tracker(
    name: str, model: nn.Module, x: np.ndarray, y: np.ndarray, repeats: int
) -> list[tuple[str, float, str]]:
    def bare() -> None:
        with torch.inference_mode():
            for i in range(0, len(x), 8192):
                model(torch.from_numpy(x[i : i + 8192]))

    base, found = best(bare, repeats), []
    for bounds in ((), "margin_ball", "cheap"):
        tracker = Tracker((x, y), max_length=x.shape[1], input_bound=10.0, bounds=bounds)
        took = best(lambda t=tracker: t.record(model, 0), repeats)
        label = bounds if isinstance(bounds, str) else "no bounds"
        found.append((f"{name}: a row over a bare forward ({label})", took / base, f"{took:.3f} s"))
    few = Tracker((x, y), max_length=x.shape[1], input_bound=10.0, most=1000)
    took = best(lambda: few.record(model, 0), repeats)
    label = f"{name}: a row on 1,000 sequences over a bare forward on all"
    found.append((label, took / base, f"{took:.3f} s and {base:.3f} s"))
    return found


def step_of(model: nn.Module, x: np.ndarray, y: np.ndarray, settled: bool) -> Callable[[], None]:
    optimiser = torch.optim.Adam(model.parameters())
    batch, labels = torch.from_numpy(x[:BATCH]), torch.from_numpy(y[:BATCH])

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(batch), labels).backward()
        optimiser.step()
        if settled:
            settle(model)

    return step


def constrained_steps(
    name: str, kind: type[nn.Module], hidden: int, x: np.ndarray, y: np.ndarray, repeats: int
) -> list[tuple[str, float, str]]:
    torch.manual_seed(0)
    base, found = best(step_of(Reader(kind, hidden), x, y, False), repeats), []
    for how in KINDS:
        model = Reader(kind, hidden)
        constrain(model, {"U": 0.9, "V": 1.0}, kind=how)
        took = best(step_of(model, x, y, how != "orthogonal"), repeats)
        label = f"{name}: a step with {how} caps over one without"
        found.append((label, took / base, f"{1e3 * took:.1f} ms and {1e3 * base:.1f} ms"))
    return found


def run(sequences: int, hidden: int, steps: int, repeats: int) -> list[tuple[str, float, str]]:
    """Rows: what, ratio, seconds."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((sequences, steps, D)).astype(np.float32)
    y = rng.integers(0, K, sequences)
    found = []
    for name, kind in (("RNN", nn.RNN), ("LSTM", nn.LSTM)):
        torch.manual_seed(0)
        found += rows_of_the_tracker(name, Reader(kind, hidden), x, y, repeats)
        found += constrained_steps(name, kind, hidden, x, y, 5 * repeats)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    sequences, hidden = (2000, 16) if args.quick else (args.sequences, args.hidden)
    for what, ratio, details in run(sequences, hidden, args.steps, args.repeats):
        print(f"{what:62} {ratio:7.2f}  {details}", flush=True)


if __name__ == "__main__":
    main()
