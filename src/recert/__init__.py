"""recert: generalization certificates for recurrent networks.

``certify`` answers with a bound on a trained recurrent network's error on new sequences, which
holds with probability 1 − δ and says what it rests on. Names are loaded when first used, and none
of them needs torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "certify": "recert.pipeline",
    "certify_all": "recert.joint",
    "certify_posterior": "recert.gibbs",
    "Posterior": "recert.posterior",
    "load_posterior": "recert.posterior",
    "save_posterior": "recert.posterior",
    "JointCertificate": "recert.joint",
    "Certificate": "recert.certificate",
    "load_certificate": "recert.certificate",
    "Network": "recert.network",
    "vanilla": "recert.network",
    "from_torch": "recert.adapters",
    "load_network": "recert.adapters",
    "save_network": "recert.adapters",
    "sensitivity": "recert.sensitivities",
    "Cap": "recert.caps",
    "verify": "recert.verifier",
    "Verification": "recert.verifier",
    "Enforced": "recert.sample",
}
_ROOMS = ("printed", "data", "errors")

__all__ = [
    "Cap",
    "Certificate",
    "Enforced",
    "JointCertificate",
    "Network",
    "Posterior",
    "Verification",
    "__version__",
    "certify",
    "certify_all",
    "certify_posterior",
    "data",
    "errors",
    "from_torch",
    "load_certificate",
    "load_network",
    "load_posterior",
    "printed",
    "save_network",
    "save_posterior",
    "sensitivity",
    "vanilla",
    "verify",
]

if TYPE_CHECKING:
    from recert import data, errors, printed
    from recert.adapters import from_torch, load_network, save_network
    from recert.caps import Cap
    from recert.certificate import Certificate, load_certificate
    from recert.gibbs import certify_posterior
    from recert.joint import JointCertificate, certify_all
    from recert.network import Network, vanilla
    from recert.pipeline import certify
    from recert.posterior import Posterior, load_posterior, save_posterior
    from recert.sample import Enforced
    from recert.sensitivities import sensitivity
    from recert.verifier import Verification, verify


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"recert.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'recert' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
