"""Margins of a trained network over many short sequences, against torch's bare forward pass.

    python benchmarks/bench_margins.py [--sequences 1000000] [--steps 12] [--hidden 12] [--quick]

Both in float64, in one run, on the threads that torch takes by itself. Ours checks every input,
sorts out lengths, keeps a digest and one margin per sequence; the bare pass computes outputs with
``torch.nn.RNN`` (the same numbers) over the same batches and keeps the last logits. Prints the
ratio of throughputs, ours to bare, and the memory that each adds at its peak.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from typing import Any

import numpy as np
import torch

import recert
from recert.networks.margins import margin_table
from recert.samples.sample import Reading, Sample

BATCH = 8192
LETTERS, CLASSES, DIMENSION = 30, 3, 8


def trained(hidden: int, width: int) -> tuple[torch.nn.RNN, torch.nn.Linear]:
    """A plain recurrent network in float64; what it was trained on does not change its speed."""
    torch.manual_seed(0)
    rnn = torch.nn.RNN(width, hidden, batch_first=True, dtype=torch.float64)
    return rnn, torch.nn.Linear(hidden, CLASSES, dtype=torch.float64)


def bare(rnn: Any, head: Any, x: np.ndarray, onehot: bool) -> np.ndarray:
    """Logits at the last step, batch by batch."""
    out = []
    with torch.inference_mode():
        for i in range(0, len(x), BATCH):
            batch = torch.from_numpy(x[i : i + BATCH])
            if onehot:
                batch = torch.nn.functional.one_hot(batch, LETTERS).to(torch.float64)
            out.append(head(rnn(batch)[0][:, -1]))
    return torch.cat(out).numpy()


def bare_looked_up(rnn: Any, head: Any, x: np.ndarray) -> np.ndarray:
    """As ``bare``, letters looked up in a table in place of products with one-hot vectors."""
    table = rnn.weight_ih_l0.T.contiguous() + rnn.bias_ih_l0 + rnn.bias_hh_l0
    U, out = rnn.weight_hh_l0.T.contiguous(), []
    with torch.inference_mode():
        for i in range(0, len(x), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(x[i : i + BATCH].T))
            h = torch.zeros((batch.shape[1], U.shape[0]), dtype=torch.float64)
            for letters in batch:
                h = torch.tanh(torch.addmm(torch.nn.functional.embedding(letters, table), h, U))
            out.append(head(h))
    return torch.cat(out).numpy()


def ours(network: recert.Network, x: np.ndarray, y: np.ndarray, track: bool) -> np.ndarray:
    """Margins, torch being loaded; as certify does it, with digest and fingerprints, if tracked."""
    reading = Reading(network.input_kind, network.d_x, network.K)
    sample = Sample(x, y, reading, track=track)
    return margin_table(sample, recert.readers.torch_predictor(network)).margins


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def inputs(kind: str, sequences: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, sequences)
    if kind == "tokens":
        return rng.integers(0, LETTERS, (sequences, steps)), y
    return rng.standard_normal((sequences, steps, DIMENSION)), y


def measure(job: tuple[str, str, int, int, int, int]) -> tuple[float, float, np.ndarray]:
    """Best seconds, MiB added at the peak, and the first margins or logits, of one method."""
    import recert.readers

    method, kind, sequences, steps, hidden, repeats = job
    x, y = inputs(kind, sequences, steps)
    rnn, head = trained(hidden, LETTERS if kind == "tokens" else DIMENSION)
    network = recert.readers.from_torch((rnn, head), x[:64])
    run = {
        "ours": lambda n: ours(network, x[:n], y[:n], False),
        "identified": lambda n: ours(network, x[:n], y[:n], True),
        "bare": lambda n: bare(rnn, head, x[:n], kind == "tokens"),
        "looked up": lambda n: bare_looked_up(rnn, head, x[:n]),
    }[method]
    run(BATCH)
    before, best, out = peak_mib(), float("inf"), np.zeros(0)
    for _ in range(repeats):
        began = time.perf_counter()
        out = run(sequences)
        best = min(best, time.perf_counter() - began)
    if method in ("bare", "looked up"):
        from recert.networks.forward import margins_of

        out = margins_of(out[:100], y[:100])
    return best, peak_mib() - before, out[:100]


def run(sequences: int, steps: int, hidden: int, repeats: int) -> list[tuple[str, float, str]]:
    """Rows: what, ratio, details. Every method has a process of its own, one after the other."""
    rows = []
    context = multiprocessing.get_context("spawn")
    for kind in ("tokens", "reals"):
        methods = ["ours", "identified", "bare", *(["looked up"] if kind == "tokens" else [])]
        found = {}
        for method in methods:
            with context.Pool(1) as pool:
                job = (method, kind, sequences, steps, hidden, repeats)
                found[method] = pool.apply(measure, (job,))
        for mine, label in (("ours", "margins"), ("identified", "margins, digest, fingerprints")):
            for other in methods[2:]:
                assert np.allclose(found[mine][2], found[other][2], atol=1e-12)
                rows.append(
                    (
                        f"{label}, {kind}: throughput over torch ({other})",
                        found[other][0] / found[mine][0],
                        f"{found[mine][0]:.2f} s and {found[other][0]:.2f} s; adds "
                        f"{found[mine][1]:.0f} MiB and {found[other][1]:.0f} MiB",
                    )
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    sequences = 100_000 if args.quick else args.sequences
    for what, ratio, details in run(sequences, args.steps, args.hidden, args.repeats):
        print(f"{what:58} {ratio:7.3f}  {details}", flush=True)


if __name__ == "__main__":
    main()
