"""Where training runs. Certificates are always computed on the CPU, in float64."""

from __future__ import annotations

import torch


def fastest() -> str:
    """The torch device "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"
