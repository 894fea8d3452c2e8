"""The independent verifier: a certificate's numbers derived again, in ball arithmetic.

It shares no arithmetic with the rest of the package: formulas are written here from
``docs/theory.md``. Of the package it uses reading files, the JSON Schema, and the certificate's
plain words. What it cannot derive it does not confirm.

Levels: ``arithmetic``, the JSON alone; ``model``, with the network (or posterior) that it speaks
of: norms, digests, structure, divergence; ``full``, with the data as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recert import files
from recert.certificate import SCHEMA, Certificate, seal
from recert.errors import InputError
from recert.verify.verification import Check, Verification

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
) -> Verification:
    """Check a certificate: its arithmetic, and with a model that it speaks of that model.

    Args:
        certificate: a file, its JSON, or the certificate itself.
        model: a ``Network``, the path of one or of a program's file, a posterior or its folder.
        sequences: the sample; reserved for level "full".
        labels: likewise.
        lengths: likewise.
        groups: likewise.
        holdout: likewise.
        initial: the network before training, where Gaussian priors are centred there.

    Raises:
        InputError: not a certificate of this version's schema; FileError: it cannot be read;
        MissingDependencyError: python-flint is not installed.
    """
    try:
        import flint  # noqa: F401
    except ImportError:
        raise files.missing("python-flint", "'recert[verify]'", "verify") from None
    from recert.verify.levels import run

    if any(x is not None for x in (sequences, labels, lengths, groups, holdout)):
        raise InputError("level 'full' is not there yet; verify without the sample")
    data = _json(certificate)
    return run(data, seal(data), model, initial)


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
