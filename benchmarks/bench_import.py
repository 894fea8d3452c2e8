"""What importing costs: `import recert` beside a bare interpreter and beside numpy alone.

    python benchmarks/bench_import.py [--repeats 7]

Target: `import recert` under 0.3 s, interpreter included, torch not loaded. The last column is the
time over that of importing numpy.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

STATEMENTS = {
    "pass": "pass",
    "numpy": "import numpy",
    "import recert": "import recert",
    "recert.certify": "import recert; recert.certify",
    "recert.cli": "import recert.cli",
}


def seconds(code: str, repeats: int) -> float:
    """Best wall time of a fresh interpreter."""
    times = []
    for _ in range(repeats + 1):  # the first one warms the disk cache
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def run(repeats: int) -> list[tuple[str, float, str]]:
    """Rows: what, ratio to importing numpy, seconds."""
    times = {name: seconds(code, repeats) for name, code in STATEMENTS.items()}
    return [
        (f"start: {name}", took / times["numpy"], f"{took:.3f} s") for name, took in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    for what, ratio, details in run(2 if args.quick else args.repeats):
        print(f"{what:58} {ratio:7.3f}  {details}", flush=True)


if __name__ == "__main__":
    main()
