"""Margins of LSTM and GRU classifiers as people train them, against torch's bare forward pass.

    python benchmarks/bench_gated_margins.py [--sequences 50000] [--hidden 64] [--quick]

Both in float64, in one run, on the threads that torch takes by itself. Ours is
``recert.networks.margins.margin_table`` with ``recert.readers.torch_predictor``: it checks every
input, sorts out lengths and keeps one margin per sequence. The bare pass runs the user's own
module, made float64, over the same batches and keeps its logits. Inputs are letters read one-hot,
letters embedded, or vectors; networks have one layer, or two in both directions that read final
states. Prints the ratio of throughputs, ours to bare.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

import recert
from recert.networks.forward import margins_of
from recert.networks.margins import margin_table
from recert.samples.sample import Reading, Sample

BATCH = 8192
LETTERS, CLASSES, DIMENSION = 30, 3, 28
KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU}


class Classifier(nn.Module):
    """Perhaps an embedding, recurrent layers, a linear head."""

    def __init__(self, kind: str, reads: str, hidden: int, two_way: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(LETTERS, DIMENSION) if reads == "embedded" else None
        self.reads, self.two_way = reads, two_way
        width = LETTERS if reads == "one-hot" else DIMENSION
        layers = 2 if two_way else 1
        self.rnn = KINDS[kind](width, hidden, layers, batch_first=True, bidirectional=two_way)
        self.head = nn.Linear(layers * hidden, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.embed is not None:
            x = self.embed(x)
        elif self.reads == "one-hot":
            x = nn.functional.one_hot(x, LETTERS).to(self.head.weight.dtype)
        out, state = self.rnn(x)
        if not self.two_way:
            return self.head(out[:, -1])
        final = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat((final[-2], final[-1]), dim=1))


def inputs(reads: str, sequences: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, sequences)
    if reads == "vectors":
        return rng.standard_normal((sequences, steps, DIMENSION)), y
    return rng.integers(0, LETTERS, (sequences, steps)), y


def bare(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """Logits, batch by batch."""
    with torch.inference_mode():
        parts = [model(torch.from_numpy(x[i : i + BATCH])) for i in range(0, len(x), BATCH)]
    return torch.cat(parts).numpy()


def ours(network: recert.Network, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    sample = Sample(x, y, Reading(network.input_kind, network.d_x, network.K))
    return margin_table(sample, recert.readers.torch_predictor(network)).margins


def measure(job: tuple[str, str, int, int, int, bool, int]) -> tuple[float, float]:
    """Best seconds of both, turn by turn, so that whatever else runs disturbs both alike."""
    kind, reads, sequences, steps, hidden, two_way, repeats = job
    import recert.readers

    torch.manual_seed(0)
    x, y = inputs(reads, sequences, steps)
    model = Classifier(kind, reads, hidden, two_way)
    network = recert.readers.from_torch(model, x[:64])
    model = model.double().eval()
    ours(network, x[:BATCH], y[:BATCH]), bare(model, x[:BATCH])
    best: dict[Any, float] = {}
    for _ in range(repeats):
        for run, args in ((ours, (network, x, y)), (bare, (model, x))):
            began = time.perf_counter()
            found = run(*args)
            best[run] = min(best.get(run, np.inf), time.perf_counter() - began)
            margins = found if run is ours else margins_of(found, y)
            if run is ours:
                mine = margins
    assert np.allclose(mine, margins, atol=1e-9)
    return best[ours], best[bare]


def run(sequences: int, steps: int, hidden: int, repeats: int) -> Iterator[tuple[str, float, str]]:
    """Rows: what, ratio, details. Every row has a process of its own, one after the other."""
    context = multiprocessing.get_context("spawn")
    for kind in KINDS:
        for two_way in (False, True):
            for reads in ("one-hot", "embedded", "vectors"):
                job = (kind, reads, sequences, steps, hidden, two_way, repeats)
                with context.Pool(1) as pool:
                    mine, other = pool.apply(measure, (job,))
                shape = "two layers, two-way" if two_way else "one layer"
                what = f"{kind}, {shape}, {reads}: throughput over torch"
                yield what, other / mine, f"{mine:.2f} s and {other:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    sequences, repeats = (8192, 1) if args.quick else (args.sequences, args.repeats)
    for what, ratio, details in run(sequences, args.steps, args.hidden, repeats):
        print(f"{what:58} {ratio:7.3f}  {details}", flush=True)


if __name__ == "__main__":
    main()
