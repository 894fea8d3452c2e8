"""recert: generalization certificates for recurrent networks.

``certify`` answers with a bound on a trained recurrent network's error on new sequences, which
holds with probability 1 − δ and says what it rests on. Names are loaded when first used, and none
of them needs torch.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "certify": "recert.certification.certify",
    "certify_losses": "recert.certification.black_box",
    "certify_all": "recert.certification.certify",
    "certify_posterior": "recert.pac_bayes",
    "Posterior": "recert.pac_bayes.posterior",
    "load_posterior": "recert.pac_bayes.posterior",
    "save_posterior": "recert.pac_bayes.posterior",
    "JointCertificate": "recert.certification.certify",
    "Certificate": "recert.certificates.certificate",
    "load_certificate": "recert.certificates.certificate",
    "Network": "recert.networks.network",
    "vanilla": "recert.networks.network",
    "from_torch": "recert.readers",
    "load_network": "recert.readers",
    "save_network": "recert.readers",
    "sensitivity": "recert.sensitivities.sensitivity",
    "Cap": "recert.networks.norm_class",
    "verify": "recert.verifier",
    "Verification": "recert.verifier",
    "Enforced": "recert.samples.sample",
}
_ROOMS = ("printed", "data", "errors")
# Modules that programs may import by the names that they had in 0.1.
_MOVED = {
    "recert.adapters": "recert.readers",
    "recert.blocks": "recert.networks.blocks",
    "recert.caps": "recert.networks.norm_class",
    "recert.cells": "recert.networks.cells",
    "recert.certificate": "recert.certificates.certificate",
    "recert.layers": "recert.networks.layers",
    "recert.network": "recert.networks.network",
    "recert.norms": "recert.numerics.norms",
    "recert.plots": "recert.report",
    "recert.posterior": "recert.pac_bayes.posterior",
    "recert.predict": "recert.networks.forward",
    "recert.sample": "recert.samples.sample",
    "recert.schemas": "recert.certificates.schema",
}

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
    "certify_losses",
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
    from recert.certificates.certificate import Certificate, load_certificate
    from recert.certification.black_box import certify_losses
    from recert.certification.certify import JointCertificate, certify, certify_all
    from recert.networks.network import Network, vanilla
    from recert.networks.norm_class import Cap
    from recert.pac_bayes import certify_posterior
    from recert.pac_bayes.posterior import Posterior, load_posterior, save_posterior
    from recert.readers import from_torch, load_network, save_network
    from recert.samples.sample import Enforced
    from recert.sensitivities.sensitivity import sensitivity
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


class _Moved(MetaPathFinder, Loader):
    """Finds a module by its former name, and says where it is now."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in _MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module(_MOVED[name])
        warnings.warn(f"{name} is now {_MOVED[name]}", DeprecationWarning, stacklevel=2)


sys.meta_path.append(_Moved())
