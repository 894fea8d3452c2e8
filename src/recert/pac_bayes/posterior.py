"""A posterior over networks: Gaussian weights round a mean, and the Gaussian prior they are
measured against. Frozen values, on disk without code, damaged or foreign files refused.

The predictor that they describe draws fresh weights for every sequence: N(w, diag s²). The prior is
N(w_0, s_0² I), where w_0 and everything else about it came from the first m_0 units of the sample
alone, which is recorded by those units' digest, and declared: no file can prove it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.compression.program import with_values
from recert.errors import FileError, InputError, RecertError, type_of
from recert.networks.network import Block, Network
from recert.numerics import rounding
from recert.numerics.union_bound import SCALE_GRID, Cost
from recert.readers import load_network
from recert.readers.load import network_files
from recert.utils import files, validation

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

FORMAT, VERSION = "recert-posterior", 1
LARGEST_LOG = 60.0  # |ln s| beyond it is no standard deviation that anybody wants
LARGEST_INDEX = 400  # s_0 within a factor of 2^50 of what the first units chose
# Relative amount by which a divergence is raised, for the few roundings in each of its terms.
OUTWARD = 2.0**-40


@dataclass(frozen=True, eq=False)
class Prior:
    """N(w_0, s_0² I), fixed by the first units of a sample.

    Args:
        centre: w_0.
        units: m_0, how many units it was made from.
        digest: of these units, as `recert.pac_bayes.split.part_digest` computes it.
        scale: the standard deviation that the first units chose.
        index: j where s_0 is ``scale``·2^(j/8) with j chosen later, on any units, and paid for;
            None where s_0 is ``scale`` itself.
        temperature: λ > 0, fixed by the first units, for the statement at a fixed temperature; None
            if there is none.

    Raises:
        InputError: a value is out of range.
    """

    centre: Network
    units: int
    digest: str
    scale: float
    index: int | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.centre, Network):
            raise InputError("the prior's centre is not a Network; pass the network w_0")
        # Plain numbers: a float32 would make float32 of whatever it is multiplied with.
        units = validation.whole("units of the prior", self.units)
        scale = validation.positive("scale of the prior", self.scale, low=1e-20, high=1e20)
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "scale", scale)
        if not (isinstance(self.digest, str) and re.fullmatch("[0-9a-f]{64}", self.digest)):
            raise InputError("digest of the prior's units is not 64 hexadecimal digits")
        if self.index is not None:
            least = -LARGEST_INDEX
            index = validation.whole("index of the prior's scale", self.index, least=least)
            if index > LARGEST_INDEX:
                raise InputError(f"index of the prior's scale is {index}; use one to {-least}")
            object.__setattr__(self, "index", index)
        if self.temperature is not None:
            temperature = validation.positive("temperature", self.temperature, low=1e-9, high=1e3)
            object.__setattr__(self, "temperature", temperature)

    @property
    def s_0(self) -> float:
        """The prior's standard deviation."""
        return self.scale * (1.0 if self.index is None else SCALE_GRID.value(self.index))

    @property
    def cost(self) -> tuple[Cost, ...]:
        """The price of choosing s_0 after looking."""
        if self.index is None:
            return ()
        nats = SCALE_GRID.cost(self.index)
        return (Cost("prior scale s_0", self.index, self.s_0, nats),)


@dataclass(frozen=True, eq=False)
class Posterior:
    """N(w, diag s²) with its prior: what the Gibbs predictor draws its weights from.

    Args:
        mean: w.
        log_scales: block name → ln s, a number for the whole block or an array that broadcasts to
            the block's shape. Columns that are always zero are not drawn, whatever stands here.
        prior: what its divergence is measured from.

    Raises:
        InputError: a block has no scale, a scale is out of range, or the two networks are not of
            one architecture.
    """

    mean: Network
    log_scales: Mapping[str, Array]
    prior: Prior

    def __repr__(self) -> str:
        """One line: whose weights are drawn, and from how many units their prior was made."""
        return f"Posterior({self.mean!r}, prior of {self.prior.units:,} units)"

    def __post_init__(self) -> None:
        mean, centre = self.mean, self.prior.centre
        if mean.description() != centre.description() or shape_of(mean) != shape_of(centre):
            raise InputError(
                "the mean network and the prior's centre differ in architecture; "
                "give one that both have"
            )
        names = [block.name for block in mean.blocks()]
        if set(self.log_scales) != set(names):
            raise InputError(f"log_scales must name the blocks {', '.join(names)}, each once")
        scales = {
            block.name: _scales(self.log_scales[block.name], block) for block in mean.blocks()
        }
        object.__setattr__(self, "log_scales", scales)

    @cached_property
    def drawn(self) -> dict[str, tuple[Array32, Array32]]:
        """Block name → w and s as float32, with which is drawn; s = 0 where w is always 0.

        The divergence is that of these very numbers, so rounding them costs nothing.
        """
        found = {}
        for block in self.mean.blocks():
            s = np.where(_mask(block), np.exp(self.log_scales[block.name]), 0.0)
            with np.errstate(over="ignore", under="ignore"):
                pair = block.value.astype(np.float32), s.astype(np.float32)
            if not np.isfinite(pair[0]).all():
                raise InputError(f"block {block.name} has weights beyond float32; scale them down")
            found[block.name] = pair
        return found

    @cached_property
    def divergence(self) -> float:
        """KL(N(w, diag s²) ‖ N(w_0, s_0² I)) in nats, rounded up.

        ½ Σ_i [ρ_i² − 1 − ln ρ_i² + ((w_i − w_0i)/s_0)²], ρ_i = s_i/s_0, over all entries but those
        that are always zero.
        """
        s_0, terms = self.prior.s_0, []
        for block, start in zip(self.mean.blocks(), self.prior.centre.blocks(), strict=True):
            drawn, w, s = _drawn(block), *(a.astype(np.float64) for a in self.drawn[block.name])
            doubled = 2.0 * (np.log(s[..., drawn]) - math.log(s_0))
            # e^x − 1 − x, in which what is lost to cancellation is added again, and more.
            widths = np.expm1(doubled) - doubled + 2.0**-44 * (1.0 + np.abs(doubled)) ** 2
            widths = np.maximum(widths, 0.0) * (1.0 + OUTWARD)
            moves = np.square((w - start.value)[..., drawn] / s_0)
            terms.append(np.ravel(0.5 * (widths + moves)))
        total = math.fsum(np.concatenate(terms)) * (1.0 + OUTWARD)
        return math.nextafter(total, math.inf)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything here."""
        sha = hashlib.sha256(f"{FORMAT} {VERSION}".encode())
        for name, value in _plain(self).items():
            sha.update(f" {name}={value!r}".encode())
        for block in self.mean.blocks():
            sha.update(self.log_scales[block.name].astype("<f8").tobytes())
        return sha.hexdigest()


def shape_of(network: Network) -> list[tuple[Any, ...]]:
    """Names, shapes and constraints of all blocks."""
    return [(b.name, b.shape, b.norm, b.zero_columns, b.positions) for b in network.blocks()]


def around(centre: Network, units: int, digest: str, scale: float, **options: Any) -> Posterior:
    """The prior itself as a posterior: divergence 0; what training starts from.

    Args:
        centre: w_0.
        units: m_0.
        digest: of these units.
        scale: s_0.
        options: other fields of `Prior`.
    """
    prior = Prior(centre, units, digest, scale, **options)
    log_s = np.asarray(math.log(prior.s_0))
    return Posterior(centre, {block.name: log_s for block in centre.blocks()}, prior)


def save_posterior(posterior: Posterior, folder: str | Path) -> Path:
    """Write a folder: three networks (mean, centre, scales) and ``posterior.json``, which is last.

    Raises:
        FileError: it cannot be written there; the folder is then as it was.
        MissingDependencyError: safetensors is not installed.
    """
    if not isinstance(posterior, Posterior):
        raise InputError(f"{type_of(posterior)} is no Posterior; save what certify takes")
    files.write_together(posterior_files(posterior, folder))
    return Path(folder)


def posterior_files(posterior: Posterior, folder: str | Path) -> dict[Path, bytes]:
    """What `save_posterior` writes, by path.

    Raises:
        MissingDependencyError: safetensors is not installed.
    """
    folder = files.path_of(folder)
    scales = {
        block.name: np.where(_mask(block), posterior.log_scales[block.name], 0.0)
        for block in posterior.mean.blocks()
    }
    networks = {
        "mean": posterior.mean,
        "centre": posterior.prior.centre,
        "scales": with_values(posterior.mean, scales),
    }
    contents: dict[Path, bytes] = {}
    for name, network in networks.items():
        contents |= network_files(network, folder / f"{name}.safetensors")
    plain = {"format": FORMAT, "version": VERSION, **_plain(posterior)}
    text = json.dumps({**plain, "digest": posterior.digest}, indent=2)
    contents[folder / "posterior.json"] = f"{text}\n".encode()
    return contents


@rounding.usual
def load_posterior(folder: str | Path) -> Posterior:
    """Read what `save_posterior` wrote, checked; nothing in it is run.

    Raises:
        FileError: a file is missing, damaged, from elsewhere, or was changed since it was written.
        InputError: a value is out of range.
    """
    folder = files.path_of(folder)
    where = folder / "posterior.json"
    entry = files.read_json(where, largest=100_000)
    _check_entry(entry, where)
    networks = {}
    for name in ("mean", "centre", "scales"):
        networks[name] = load_network(folder / f"{name}.safetensors")
        if name != "scales" and networks[name].digest != entry[name]:
            raise FileError(f"{folder}: {name} is not the network that {where.name} speaks of")
    if shape_of(networks["scales"]) != shape_of(networks["mean"]):
        raise FileError(f"{folder}: the scales do not have the shapes of the mean's blocks")
    try:
        prior = Prior(
            networks["centre"], entry["units"], entry["units_digest"], entry["scale"],
            entry["index"], entry["temperature"],
        )  # fmt: skip
        scales = {block.name: block.value for block in networks["scales"].blocks()}
        found = Posterior(networks["mean"], scales, prior)
    except RecertError as error:
        raise type(error)(f"{where}: {error}") from None
    if found.digest != entry["digest"]:
        raise FileError(
            f"{where}: its digest does not fit what it holds; it was changed or damaged"
        )
    return found


_ENTRY: dict[str, tuple[type, ...]] = {
    "format": (str,),
    "version": (int,),
    "mean": (str,),
    "centre": (str,),
    "units": (int,),
    "units_digest": (str,),
    "scale": (float, int),
    "index": (int, type(None)),
    "temperature": (float, int, type(None)),
    "digest": (str,),
}


def _check_entry(entry: Any, where: Path) -> None:
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise FileError(f'{where} is no posterior; it needs "format": "{FORMAT}"')
    if entry.get("version") != VERSION:
        raise FileError(
            f"{where} has version {entry.get('version')!r}; this recert reads version {VERSION}"
        )
    if set(entry) != set(_ENTRY):
        wrong = sorted(set(entry) ^ set(_ENTRY))[0]
        raise FileError(f"{where}: key {wrong!r} is missing or unknown; save the posterior again")
    for name, kinds in _ENTRY.items():
        if not isinstance(entry[name], kinds) or isinstance(entry[name], bool):
            raise FileError(f"{where}: {name!r} has the wrong type ({type(entry[name]).__name__})")


def _plain(posterior: Posterior) -> dict[str, Any]:
    """Everything but arrays, which the digests of the networks stand for."""
    prior = posterior.prior
    return {
        "mean": posterior.mean.digest,
        "centre": prior.centre.digest,
        "units": int(prior.units),
        "units_digest": prior.digest,
        "scale": float(prior.scale),
        "index": prior.index,
        "temperature": None if prior.temperature is None else float(prior.temperature),
    }


def _scales(value: Any, block: Block) -> Array:
    """Log-scales of a block as a read-only array of its shape; 0 where nothing is drawn."""
    try:
        given = np.asarray(value, dtype=np.float64)
        full = np.where(_mask(block), np.broadcast_to(given, block.shape), 0.0)
    except (TypeError, ValueError):
        raise InputError(
            f"log_scales of {block.name} do not suit its shape {block.shape}; give one number, or "
            "an array of that shape"
        ) from None
    if not (np.abs(full) <= LARGEST_LOG).all():
        raise InputError(
            f"log_scales of {block.name} leave [-{LARGEST_LOG:g}, {LARGEST_LOG:g}] or are not "
            "finite; they are natural logarithms of standard deviations"
        )
    full.setflags(write=False)
    return full


def _drawn(block: Block) -> NDArray[np.bool_]:
    """Which entries of the last axis are drawn: not the columns that are always zero."""
    keep = np.ones(block.shape[-1], dtype=bool)
    keep[list(block.zero_columns)] = False
    return keep


def _mask(block: Block) -> NDArray[np.bool_]:
    return np.broadcast_to(_drawn(block), block.shape)
