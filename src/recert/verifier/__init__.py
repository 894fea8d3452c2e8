"""The independent verifier: a certificate's numbers derived again, in ball arithmetic.

It shares no arithmetic with the rest of the package: formulas are written here from
``docs/theory.md``. Of the package it uses reading files and arrays, the JSON Schema, and the
certificate's plain words. What it cannot derive it does not confirm.

Levels: ``arithmetic``, the JSON alone; ``model``, with the network (or posterior) that it speaks
of: norms, digests, structure, divergence; ``full``, with the data as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recert.certificates.certificate import SCHEMA, Certificate
from recert.certificates.schema import seal
from recert.errors import InputError
from recert.utils import files
from recert.verifier.verification import Check, Verification

__all__ = ["Check", "Verification", "verify"]


def verify(
    certificate: str | Path | Mapping[str, Any] | Certificate,
    model: Any = None,
    sequences: Any = None,
    labels: Any = None,
    *,
    lengths: Any = None,
    groups: Any = None,
    holdout: Sequence[Any] | None = None,
    initial: Any = None,
    progress: Any = None,
) -> Verification:
    """Check a certificate: its arithmetic, its model where one is passed, its data with them.

    Args:
        certificate: a file, its JSON, or the certificate itself.
        model: a ``Network``, the path of one or of a program's file, a posterior or its folder.
        sequences: the sample as it was certified, (m, T) tokens or (m, T, d_x) vectors.
        labels: (m,) or (m, T).
        lengths: (m,), or None as in ``recert.certify``.
        groups: (m,) ids of units, or None.
        holdout: ``(sequences, labels[, lengths[, groups]])`` held back, where there were such.
        initial: the network before training, where Gaussian priors are centred there.
        progress: called with the number of sequences done, the sample's and then those held out,
            for progress bars.

    Raises:
        InputError: not a certificate of this version's schema, or data that cannot be its own;
        FileError: a file cannot be read; MissingDependencyError: python-flint is not installed.
    """
    try:
        import flint  # noqa: F401
    except ImportError:
        raise files.missing("python-flint", "'recert[verify]'", "verify") from None
    from recert.verifier import limits
    from recert.verifier.levels import run

    if (sequences is None) != (labels is None):
        raise InputError("sequences and labels belong together; pass both")
    if model is None and any(x is not None for x in (sequences, lengths, groups, holdout)):
        raise InputError("data are measured on a network; pass the model as well")
    data = _json(certificate)
    limits.check_size(data)
    sample = None if sequences is None else (sequences, labels, lengths, groups)
    if holdout is not None and (
        not isinstance(holdout, (tuple, list)) or not 2 <= len(holdout) <= 4
    ):
        raise InputError("holdout must be (sequences, labels[, lengths[, groups]])")
    held = None if holdout is None else (*holdout, None, None)[:4]
    return run(data, seal(data), model, initial, sample, held, progress)


def _json(certificate: Any) -> Mapping[str, Any]:
    """A certificate as JSON values; InputError for another schema."""
    data = certificate
    if isinstance(certificate, Certificate):
        data = certificate.to_json()
    elif isinstance(certificate, (str, Path)):
        data = files.read_json(certificate)
    if not isinstance(data, Mapping) or "schema" not in data:
        raise InputError("that is no certificate; pass what `recert certify` wrote")
    if data["schema"] != SCHEMA:
        raise InputError(
            f"certificate has schema {data['schema']!r}, this version reads {SCHEMA!r}; "
            "certify the network again"
        )
    return data
