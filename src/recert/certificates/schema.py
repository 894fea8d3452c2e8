"""JSON Schemas (draft 2020-12) of the files that the package writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from recert.errors import InputError


def certificate_schema() -> dict[str, Any]:
    """The schema of ``certificate.json``."""
    text = resources.files(__package__).joinpath("certificate.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def check_certificate(data: Mapping[str, Any]) -> None:
    """InputError at the first place where the data do not follow the certificate's schema."""
    from jsonschema import Draft202012Validator, validators
    from jsonschema.exceptions import best_match

    # 3.0 is a whole number to JSON Schema, but is none to those who ask for the type.
    types = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, x: isinstance(x, int) and not isinstance(x, bool)
    )
    strict = validators.extend(Draft202012Validator, type_checker=types)
    error = best_match(strict(certificate_schema()).iter_errors(data))
    if error is not None:
        what = " ".join(error.message.split())[:120]
        raise InputError(f"not a certificate: at {error.json_path}, {what}")


def seal(data: Mapping[str, Any]) -> str:
    """SHA-256 of a certificate's JSON without its seal: keys sorted, no blanks, ASCII.

    It shows that a file was edited or damaged. It says nothing of who wrote it: whoever changes a
    certificate can seal it anew, and only ``recert.verify`` tells whether its numbers follow.
    """
    plain = {key: value for key, value in data.items() if key != "seal"}
    text = json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()
