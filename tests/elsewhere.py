"""A device that no machine lacks: its tensors compute on the CPU and mix with no others.

A tensor there (`Elsewhere`) holds one of the CPU and does with it whatever is asked, bit by bit the
same. As on a GPU, an operation on tensors of both places is an error, numpy cannot read them, and
random numbers cannot be drawn from a generator of the CPU. Whatever trains in this mode reaches
every tensor where it is, so it trains on a GPU, up to how that rounds. The device calls itself
"meta", the name torch has for tensors without memory.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "meta"
COPIES = ("_to_copy", "copy_")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")


class Elsewhere(torch.Tensor):
    """A tensor of the other device."""

    here: torch.Tensor
    is_meta = False  # it has memory

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Elsewhere:
        found: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(),
            dtype=here.dtype, device=NAME,
        )  # fmt: skip
        found.here = here
        return found

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return done(operation, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.here})"


class OtherDevice(TorchDispatchMode):
    """While it lasts there is the device; `operations` counts what was done on it, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(leaf, Elsewhere) for leaf in tree_leaves((args, kwargs))):
            self.operations[operation.overloadpacket.__name__] += 1
        return done(operation, args, kwargs)


def done(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, on the device where its tensors are or where it is sent."""
    leaves = tree_leaves((args, kwargs))
    there = any(isinstance(leaf, Elsewhere) for leaf in leaves)
    name = operation.overloadpacket.__name__
    if there and name not in COPIES:
        # Indices, the second argument, may be on the CPU: torch moves them itself.
        check_places(name, tree_leaves((args[0], args[2:])) if name in INDEXING else leaves)
    target = kwargs.get("device")
    if target is not None:
        there, kwargs = torch.device(target).type == NAME, {**kwargs, "device": "cpu"}
    if there and kwargs.get("generator") is not None:
        raise RuntimeError(f"{name}: the generator is on the CPU, the tensor is not")
    found = operation(*tree_map(brought, args), **tree_map(brought, kwargs))
    if name.endswith("_") and isinstance(args[0], torch.Tensor):
        return args[0]  # changed in place
    return tree_map(sent, found) if there else found


def check_places(name: str, leaves: list[Any]) -> None:
    """RuntimeError where an operation has tensors of both places; numbers may come from the CPU."""
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Elsewhere) and leaf.dim() > 0:
            raise RuntimeError(f"{name}: tensors are on {NAME} and on the CPU")


def brought(leaf: Any) -> Any:
    return leaf.here if isinstance(leaf, Elsewhere) else leaf


def sent(leaf: Any) -> Any:
    return Elsewhere(leaf) if isinstance(leaf, torch.Tensor) else leaf
