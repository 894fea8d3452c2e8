"""The command line: parses, calls, prints. Exit status 0 done, 1 the answer is no, 2 bad input."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["main"]

INTERRUPTED = 130


def main() -> None:
    """Entry point; Ctrl-C is one line from the first import on."""
    try:
        from recert.cli import entry

        entry.main()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError, ValueError):
            print("recert: interrupted; nothing half-written was left", file=sys.stderr)
        sys.exit(INTERRUPTED)
