"""Every benchmark, one after the other, in one table of ratios.

    python benchmarks/run.py [--quick]

Each script may be run alone; its docstring says what is compared. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = {
    "bench_import.py": ["--quick"],
    "bench_norms.py": ["--size", "256"],
    "bench_bounds.py": ["--quick"],
    "bench_margins.py": ["--quick"],
    "bench_gated_margins.py": ["--quick"],
    "bench_tracker.py": ["--quick"],
    "bench_work.py": ["--quick"],
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="reduced sizes")
    quick = parser.parse_args().quick
    failed = []
    for name, reduced in SCRIPTS.items():
        print(f"-- {name}", flush=True)
        command = [sys.executable, str(HERE / name), *(reduced if quick else [])]
        if subprocess.run(command).returncode != 0:
            failed.append(name)
    if failed:
        print(f"did not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
