"""Time `spectral_norm_bound` against `torch.linalg.svdvals` in float64, in the same run.

    python benchmarks/bench_norms.py [--size 2048] [--repeats 2]

Prints one line per kind of matrix: both times, their ratio (below 1: the bound is the faster one),
and the relative excess of the bound over the largest singular value that LAPACK finds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from recert.numerics.norms import spectral_norm_bound


def matrices(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    gaussian = rng.standard_normal((n, n))
    rank = max(1, n // 64)
    return {
        "gaussian": gaussian,
        "orthogonal": np.linalg.qr(gaussian)[0],
        "low rank": rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n)),
    }


def best_time(f: Callable[[], float], repeats: int) -> tuple[float, float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = f()
        times.append(time.perf_counter() - start)
    return min(times), value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    for kind, A in matrices(args.size).items():
        B = torch.from_numpy(A)
        bound_s, bound = best_time(lambda A=A: spectral_norm_bound(A), args.repeats)
        torch_s, value = best_time(lambda B=B: float(torch.linalg.svdvals(B)[0]), args.repeats)
        print(
            f"{kind:10s} n={args.size}  bound {bound_s:.3f} s  svdvals {torch_s:.3f} s  "
            f"ratio {bound_s / torch_s:.3f}  excess {bound / value - 1:.2e}"
        )


if __name__ == "__main__":
    main()
