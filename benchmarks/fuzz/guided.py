"""Coverage-guided fuzzing of one reader: python benchmarks/fuzz/guided.py NAME [libFuzzer options].

Needs atheris, which is no dependency of the project. NAME is a reader of `tests/hostile.py`; what
escapes it is written to a crash file. Example: guided.py program -max_total_time=60
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

with atheris.instrument_imports(include=["recert", "zipfile", "json"]):
    import hostile
    from recert.pac_bayes import posterior  # noqa: F401
    from recert.readers.onnx import read  # noqa: F401
    from recert.workflows import posteriors  # noqa: F401


def main() -> None:
    """Fuzz, beginning with the valid file."""
    name, options = sys.argv[1], sys.argv[2:]
    target = hostile.targets()[name]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as corpus:
        (Path(corpus) / "valid").write_bytes(target.seed)

        def one(raw: bytes) -> None:
            hostile.attack(target, raw, Path(folder))

        options = [f"-artifact_prefix={folder}-", "-timeout=5", "-rss_limit_mb=4096", *options]
        atheris.Setup([sys.argv[0], *options, corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
