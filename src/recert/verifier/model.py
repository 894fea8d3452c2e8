"""Level "model": the weights that a certificate speaks of, measured again.

Whether a certificate describes the model that was passed, and not another with its weights.

Weights do not say how they are used: a GRU and its original form, or tanh and ReLU, may share every
array. So the model's own structure is read off its parts and held against what is recorded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flint import arb_mat

from recert.errors import InputError
from recert.verifier import balls, network_bounds
from recert.verifier.balls import Ball, ball, claims, shown
from recert.verifier.costs import on_grid
from recert.verifier.record import Record, Sheet
from recert.verifier.statements import GAUSSIAN, PAC_BAYES
from recert.verifier.structure import RecordedPart


@dataclass(frozen=True)
class VerifiedModel:
    """What was passed as the model: its network, and the posterior or the file that it came from.

    ``recoded`` says whether the package's own coder decodes the file and gives its bytes again.
    """

    network: Any
    posterior: Any = None
    file: bytes | None = None
    recoded: bool = False


def opened(model: Any) -> VerifiedModel:
    """Read a model; the only place where the verifier uses other rooms, to read files.

    Raises:
        FileError, InputError: it cannot be read.
    """
    from recert import compression, readers
    from recert.pac_bayes.posterior import Posterior, load_posterior

    if isinstance(model, (str, Path)):
        path = Path(model)
        if path.suffix == compression.SUFFIX:
            program = compression.load_program(path)
            data = path.read_bytes()
            return VerifiedModel(program.network(), None, data, compression.encode(program) == data)
        if (path / "posterior.json").is_file():
            model = load_posterior(path)
    if isinstance(model, Posterior):
        return VerifiedModel(model.mean, model)
    return VerifiedModel(readers.as_network(model))


def check(record: Record, subject: VerifiedModel, initial: Any, sheet: Sheet) -> None:
    """Digest, structure, norms, and what else the weights decide."""
    blocks = {block.name: np.asarray(block.value) for block in subject.network.blocks()}
    rows = record.data["network"]["blocks"]
    if not check_description(record, subject.network, sheet):
        return
    finite = all(bool(np.isfinite(value).all()) for value in blocks.values())
    if not sheet.holds("network.blocks", finite, finite, "finite weights", "re-measured"):
        return
    pool = subject.network.head.pool
    found = digest(record.data["network"], blocks, None if pool is None else pool.matrix)
    same = found == record.data["network"]["digest"]
    sheet.holds("network.digest", same, record.data["network"]["digest"], found, "re-measured")
    # The bound on roundings is derived from these norms.
    needed = record.needed("floats")
    for row in rows:
        _norms(row, blocks[row["name"]], sheet, needed)
    if pool is not None:
        matrix, norm = balls.balls_of(pool.matrix), record.data["network"]["pool_norm"]
        _spectral("network.pool_norm", balls.centred(matrix), norm, sheet, True)
    pooled = pool is not None
    forms = {part.name: _form(part, blocks[part.name], pooled) for part in record.network.blocks}
    _class(record, forms, blocks, sheet)
    _columns(record, forms, sheet)
    _distances(record, blocks, initial, pooled, sheet)
    _program(record, subject, sheet)
    if subject.posterior is not None or record.gibbs:
        _posterior(record, subject.posterior, sheet)


def digest(network: Mapping[str, Any], blocks: Mapping[str, Any], pool: Any) -> str:
    """SHA-256 of the description and every weight's little-endian float64 bytes.

    The description and the blocks' names, norms and shapes are the certificate's (`likeness` holds
    them against the model's), the weights the model's, so that equality ties the one to the other.
    """
    plain = {key: network[key] for key in DESCRIPTION if key in network}
    sha = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for row in network["blocks"]:
        sha.update(f"{row['name']}:{row['norm']}:{tuple(row['shape'])}".encode())
        sha.update(np.ascontiguousarray(blocks[row["name"]]).astype("<f8").tobytes())
        if row.get("zero_columns"):
            sha.update(f"zero:{tuple(row['zero_columns'])}".encode())
    if pool is not None:
        sha.update(np.ascontiguousarray(pool).astype("<f8").tobytes())
    return sha.hexdigest()


def _matrix(value: Any) -> arb_mat:
    """A block as a matrix with one row for each first index; biases as a column."""
    return balls.balls_of(np.asarray(value, dtype=np.float64).reshape(value.shape[0], -1))


def _norms(row: Mapping[str, Any], value: Any, sheet: Sheet, needed: bool) -> None:
    """The recorded norms of a block are not below its norms; columns that must be zero are."""
    where, recorded, A = f"network.blocks.{row['name']}", row["norms"], _matrix(value)
    zero = row.get("zero_columns", [])
    vanish = not zero or not np.any(value[..., zero])
    sheet.holds(f"{where}.zero_columns", vanish, zero, "zero columns", "re-measured")
    columns = balls.column_norms(A)
    derived = {
        "frobenius": balls.frobenius(A),
        "two_one": sum(columns, start=ball(0)),
        "row_sum": balls.row_sums(A),
        "column": balls.largest(columns),
        "l1": balls.entrywise(A),
    }
    for what, norm in derived.items():
        sheet.at_least(f"{where}.norms.{what}", recorded[what], norm, "re-measured")
    _spectral(f"{where}.norms.spectral", A, recorded["spectral"], sheet, needed)
    of_bank = row["norm"] == "operator"
    sheet.holds(f"{where}.norms", ("operator" in recorded) == of_bank, sorted(recorded), "known")
    if of_bank:
        acting = balls.balls_of(balls.acting(value, row["positions"]))
        _spectral(f"{where}.norms.operator", acting, recorded["operator"], sheet, needed)


def _spectral(where: str, A: arb_mat, recorded: float, sheet: Sheet, needed: bool) -> None:
    """A number is no smaller than a norm; where a matrix is too large, only as far as ``needed``.

    What is false is decisive, needed or not.
    """
    proved = balls.spectral_at_most(A, ball(recorded))
    if proved is None:
        before, sheet.decisive = sheet.decisive, sheet.decisive and needed
        sheet.unchecked(where, recorded, "the matrix is too large")
        sheet.decisive = before
    else:
        told = "at least the norm" if proved else "not proved to be at least the norm"
        sheet.holds(where, proved, recorded, told, "re-measured")


def _form(part: RecordedPart, value: Any, pooled: bool) -> arb_mat:
    """A block in margin form, as the matrix whose norm counts."""
    if part.norm == "operator":
        return balls.balls_of(balls.acting(value, part.rows // part.shape[0]))
    A = _matrix(value)
    if part.role == "head.b" or (part.role == "head.V" and not pooled):
        return balls.helmert(A)
    return A


def _class(
    record: Record, forms: Mapping[str, arb_mat], blocks: Mapping[str, Any], sheet: Sheet
) -> None:
    """The network lies within its class: every cap is proved to hold."""
    claimed = record.statuses.get("caps") != "violated"
    needed = any(record.claims(b) and b["name"] in GAUSSIAN for b in record.bounds)
    for part in record.network.blocks if not record.gibbs else ():
        row, A = record.class_rows[part.name], forms[part.name]
        where = f"network.caps.{part.name}"
        sheet.decisive = claimed
        _own(f"{where}.norm", part, A, row["norm"], sheet, record.needed("caps"))
        if row["row"] is not None:
            sheet.at_least(f"{where}.row", row["row"], balls.row_sums(A), "re-measured")
        if row["l1"] is not None:
            own = _matrix(blocks[part.name]) if part.norm == "operator" else A
            sheet.at_least(f"{where}.l1", row["l1"], balls.entrywise(own), "re-measured")
        sheet.decisive = True
        _own(f"{where}.held", part, A, row["held"], sheet, needed)


def _columns(record: Record, forms: Mapping[str, arb_mat], sheet: Sheet) -> None:
    """Columns that move apart lie within their own caps (theory, 4d)."""
    bound = record.bound("local_ball")
    if bound is None or not record.claims(bound) or "log_caps" not in bound["choices"]:
        return
    for name, caps in network_bounds.column_caps(record, bound).items():
        for i, norm in enumerate(balls.column_norms(forms[name])):
            ok = bool(norm.upper() <= caps[i].lower())
            where = f"local_ball.choices.log_caps.{name}[:, {i}]"
            sheet.holds(where, ok, shown(caps[i]), shown(norm), "re-measured")


def _own(
    where: str, part: RecordedPart, A: arb_mat, recorded: float, sheet: Sheet, needed: bool
) -> None:
    """A number is proved to be at least a block's own norm."""
    if part.norm in ("column", "euclidean"):
        norm = balls.largest(balls.column_norms(A))
        sheet.at_least(where, recorded, norm, "re-measured")
    else:
        _spectral(where, A, recorded, sheet, needed)


def _distances(
    record: Record, blocks: Mapping[str, Any], initial: Any, pooled: bool, sheet: Sheet
) -> None:
    """‖w_k − w_0k‖_F in margin form, for Gaussian priors."""
    start = None if initial is None else opened(initial).network
    values = None if start is None else {b.name: np.asarray(b.value) for b in start.blocks()}
    if values is not None:
        shapes = {name: value.shape for name, value in blocks.items()}
        if {name: value.shape for name, value in values.items()} != shapes:
            raise InputError(
                "the initial network has other blocks than the trained one; pass that from before "
                "training"
            )
        _prior(record, blocks, values, sheet)
    for bound in record.bounds:
        if bound["name"] not in GAUSSIAN or bound["kind"] == "not applicable":
            continue
        where = f"{bound['name']}.choices.distances"
        distances = bound["choices"].get("distances", [])
        if bound["choices"].get("prior_center") != "zero" and values is None:
            sheet.decisive = record.data["best"] == bound["name"]
            sheet.unchecked(where, distances, "the initial network was not passed")
            sheet.decisive = True
        else:
            centre = values if bound["choices"].get("prior_center") != "zero" else None
            for part, d in zip(record.network.blocks, distances, strict=True):
                moved = _distance(part, blocks, centre, pooled)
                sheet.at_least(f"{where}.{part.name}", d, moved, "re-measured")


def _prior(
    record: Record, blocks: Mapping[str, Any], values: Mapping[str, Any], sheet: Sheet
) -> None:
    """A centre that shares a block with the trained network was not fixed before (theory, 6)."""
    same = [
        name
        for name, value in blocks.items()
        if value.any() and np.allclose(value, values[name], rtol=1e-4, atol=0.0)
    ]
    status = record.statuses.get("prior")
    ok = not same or status == "violated"
    centres = {b["choices"].get("prior_center") for b in record.bounds if b["name"] in GAUSSIAN}
    if centres - {"zero"}:
        sheet.holds("assumptions.prior.status", ok, status, f"shared: {same}", "re-measured")


def _distance(part: RecordedPart, blocks: Mapping[str, Any], centre: Any, pooled: bool) -> Ball:
    A = _matrix(blocks[part.name])
    if centre is not None:
        A = A - _matrix(centre[part.name])
    if part.role == "head.b" or (part.role == "head.V" and not pooled):
        A = balls.centred(A)
    return balls.frobenius(A)


def _program(record: Record, subject: VerifiedModel, sheet: Sheet) -> None:
    """The file of which the network is the decoding: its bytes; decoding is repeated."""
    program = record.data["network"].get("program")
    if program is None:
        return
    where = "network.program"
    if subject.file is None:
        sheet.decisive = record.data["best"] == "occam"
        sheet.unchecked(where, program["bytes"], "the program's file was not passed")
        sheet.decisive = True
        return
    length, sha256 = len(subject.file), hashlib.sha256(subject.file).hexdigest()
    sheet.holds(f"{where}.bytes", program["bytes"] == length, program["bytes"], length,
                "re-measured")  # fmt: skip
    sheet.holds(f"{where}.sha256", program["sha256"] == sha256, program["sha256"], sha256,
                "re-measured")  # fmt: skip
    sheet.holds(where, subject.recoded, subject.recoded, "decoded, coded again: the same bytes",
                "repeated")  # fmt: skip


def _posterior(record: Record, posterior: Any, sheet: Sheet) -> None:
    """KL(Q‖P) of the very numbers that are drawn with, and what the prior fixed."""
    bounds = [b for b in record.bounds if b["name"] in PAC_BAYES and b["kind"] != "not applicable"]
    if posterior is None or not record.gibbs:
        sheet.unchecked("pac_bayes", record.gibbs, "a posterior and its certificate")
        return
    prior, parts = posterior.prior, []
    for block, start in zip(posterior.mean.blocks(), prior.centre.blocks(), strict=True):
        w, s = posterior.drawn[block.name]
        drawn = [i for i in range(block.shape[-1]) if i not in block.zero_columns]
        parts.append((w[..., drawn], s[..., drawn], np.asarray(start.value)[..., drawn]))
    KL = balls.divergence(parts, prior.s_0)
    # Whatever can be evaluated is, so that nobody takes another's share of δ after looking.
    needed = {"pac_bayes_kl"} | ({"pac_bayes_temperature"} if prior.temperature else set())
    names = {bound["name"] for bound in bounds}
    sheet.holds("pac_bayes", names == needed, sorted(names), sorted(needed), "re-measured")
    scales = [float(np.exp(np.mean(posterior.log_scales[b.name]))) for b in posterior.mean.blocks()]
    facts = {
        "posterior_digest": posterior.digest, "prior_units": prior.units,
        "prior_digest": prior.digest, "prior_scale": prior.s_0,
    }  # fmt: skip
    for bound in bounds:
        name = bound["name"]
        ok = claims(bound["terms"]["KL"], KL)
        sheet.holds(f"{name}.terms.KL", ok, bound["terms"]["KL"], shown(KL), "re-measured")
        for key, value in facts.items():
            found = bound["choices"].get(key)
            sheet.holds(f"{name}.choices.{key}", found == value, found, value, "repeated")
        told = bound["choices"].get("mean_scales", [])
        ok = len(told) == len(scales) and np.allclose(told, scales, rtol=1e-9, atol=0.0)
        sheet.holds(f"{name}.choices.mean_scales", ok, told, scales, "repeated")
        if name == "pac_bayes_temperature":
            lam = bound["choices"].get("temperature")
            sheet.holds(f"{name}.choices.temperature", lam == prior.temperature, lam,
                        prior.temperature, "re-measured")  # fmt: skip
        index = {row["what"]: row["index"] for row in bound["cost"]}.get("prior scale s_0")
        paid = index == prior.index
        if prior.index is not None:
            paid = paid and on_grid(prior.s_0, 8, prior.index, ball(prior.scale))
        sheet.holds(f"{name}.cost", paid, index, prior.index, "re-measured")


# Keys of a certificate's network that describe its structure, and enter its digest.
DESCRIPTION = (
    "input", "embedding", "layers", "classes", "head_bias", "encoder", "head_hidden", "pooled",
    "head_filters", "read",
)  # fmt: skip


def check_description(record: Record, network: Any, sheet: Sheet) -> bool:
    """The model's description, and of every block its place, norm, shape and fixed columns."""
    said = record.data["network"]
    own = dict(network.description())
    recorded = {key: said[key] for key in DESCRIPTION if key in said}
    fits = sheet.holds("network", recorded == own, recorded, own, "re-measured")
    rows = {row["name"]: _recorded(row) for row in said["blocks"]}
    places = {id(block): place for place, block in _places(network)}
    found = {block.name: _found(block, places[id(block)]) for block in network.blocks()}
    names = list(rows) == list(found)
    fits &= sheet.holds("network.blocks", names, list(rows), list(found), "re-measured")
    for name, facts in found.items():
        if name in rows:
            same = rows[name] == facts
            where = "network.blocks" if same else f"network.blocks.{name}"
            fits &= sheet.holds(where, same, rows[name], facts, "re-measured")
    return fits


def _recorded(row: Mapping[str, Any]) -> dict[str, Any]:
    zero = sorted(set(row.get("zero_columns", ())))
    return {
        "role": row["role"], "norm": row["norm"], "shape": list(row["shape"]),
        "zero_columns": zero, "positions": row.get("positions", 1),
    }  # fmt: skip


def _found(block: Any, place: str) -> dict[str, Any]:
    zero = sorted({int(column) for column in block.zero_columns})
    return {
        "role": place, "norm": block.norm, "shape": [int(n) for n in block.value.shape],
        "zero_columns": zero, "positions": int(block.positions),
    }  # fmt: skip


def _places(network: Any) -> Iterator[tuple[str, Any]]:
    """Every block with the part that it plays."""
    if network.embedding is not None:
        yield "embedding", network.embedding
    for k, layer in enumerate(network.layers):
        ways = layer.directions
        for way, cell in zip(("forward.", "backward.") if len(ways) == 2 else ("",), ways,
                             strict=True):  # fmt: skip
            for role, block in cell.blocks.items():
                yield f"layers.{k}.{way}{role}", block
    for where, chain in (("encoder", network.encoder), ("head.hidden", network.head.hidden)):
        for k, dense in enumerate(chain):
            yield f"{where}.{k}.A", dense.A
            if dense.b is not None:
                yield f"{where}.{k}.b", dense.b
    yield "head.V", network.head.V
    if network.head.b is not None:
        yield "head.b", network.head.b
