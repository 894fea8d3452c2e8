"""The command line: parses, calls, prints. Exit status 0 done, 1 the answer is no, 2 bad input."""

from recert.cli.entry import main

__all__ = ["main"]
