"""One thread a test process: tests run side by side, and threads that wait for each other crawl."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command; return exit status, stdout, stderr."""
    from recert import cli

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recert", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        out, err = capsys.readouterr()
        return status, out, err

    return call


WORDS = ["the", "lobster", "is", "blue", "and", "long", "sea", "under", "a", "rock", "sleeps", "by"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text of 60 paragraphs in twelve words."""
    generator = np.random.default_rng(0)
    lines = [" ".join(generator.choice(WORDS, 9)) for _ in range(60)]
    path = tmp_path / "text.txt"
    path.write_text("= Heading =\n\n" + "\n\n".join(lines) + "\n")
    return path
