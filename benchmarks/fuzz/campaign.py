"""Damage valid files at random and read them: python benchmarks/fuzz/campaign.py [SECONDS] [NAME].

Prints, for every reader, how many files were read, refused and how the slowest took; what escapes
is printed with the seed that makes it again.
"""

from __future__ import annotations

import collections
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import hostile

SLOW = 2.0  # seconds for one small file


def campaign(target: hostile.Target, seconds: float, first: int) -> int:
    """Attack one reader for so long; the number of defects."""
    counts: collections.Counter[str] = collections.Counter()
    seen: dict[str, int] = {}
    slowest, seed = (0.0, -1), first
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        hostile.attack(target, target.seed, Path(name))
        while time.monotonic() < end:
            raw = target.mutated(random.Random(seed))
            start = time.monotonic()
            try:
                counts[hostile.attack(target, raw, Path(name))] += 1
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
                if where not in seen:
                    seen[where] = seed
                    print(f"  {target.name!r}, seed {seed}: {where}: {str(error)[:150]}")
                counts["ESCAPED"] += 1
            slowest = max(slowest, (time.monotonic() - start, seed))
            seed += 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{target.name:20} {sum(counts.values()):7} files, slowest {slowest[0]:.2f} s "
          f"(seed {slowest[1]}), peak {memory} MiB: {dict(counts)}", flush=True)  # fmt: skip
    return len(seen) + (slowest[0] > SLOW)


def main() -> None:
    """Every reader, or the one that is named."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    found = [t for name, t in hostile.targets().items() if wanted in name]
    sys.exit(1 if sum(campaign(target, seconds, first) for target in found) else 0)


if __name__ == "__main__":
    main()
