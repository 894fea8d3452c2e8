"""JSON Schemas (draft 2020-12) of the files that the package writes."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def certificate_schema() -> dict[str, Any]:
    """The schema of ``certificate.json``."""
    text = resources.files(__name__).joinpath("certificate.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
