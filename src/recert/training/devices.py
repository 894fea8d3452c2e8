"""Where training runs. Certificates are always computed on the CPU, in float64.

Every trainer takes ``device=``; without it, it runs where `on` says, and outside of that on the
CPU. Random numbers are always drawn on the CPU, so a seed draws the same on every device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import torch

from recert.errors import InputError

_CURRENT: ContextVar[str] = ContextVar("device", default="cpu")


def fastest() -> str:
    """The torch device "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def named(name: str) -> str:
    """The device that a user names; "auto" is the `fastest`.

    Raises:
        InputError: it is no such name, or this machine has no such device.
    """
    if name == "auto":
        return fastest()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device is {name!r}; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device is {name!r}; use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(f"device is {name!r}, but torch sees {count or 'no'} GPUs here; use cpu")
    return name


def described(name: str) -> str:
    """The device for people, a GPU with its model."""
    known = name.startswith("cuda") and torch.cuda.is_available()
    return f"{name} ({torch.cuda.get_device_name(name)})" if known else name


def current() -> str:
    """Where trainers run that are not told otherwise."""
    return _CURRENT.get()


@contextmanager
def on(device: str) -> Iterator[None]:
    """Trainers that are not told otherwise run there; of this thread, while it lasts."""
    before = _CURRENT.set(device)
    try:
        yield
    finally:
        _CURRENT.reset(before)


@contextmanager
def arithmetic(device: str | None = None) -> Iterator[torch.device]:
    """The device to train on, `current` meanwhile, in a mode in which it repeats its numbers.

    Args:
        device: its name; None is the `current` one.
    """
    name = current() if device is None else str(device)
    with on(name), _one_thread(), nullcontext() if name == "cpu" else _deterministic():
        yield torch.device(name)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Sums split over threads differ in their last bits; and these matrices are too small to gain.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Algorithms that add in one order; where there is none, torch warns."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    # cuBLAS repeats its sums only with a workspace of a fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
