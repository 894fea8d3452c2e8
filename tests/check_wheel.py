"""Build the wheel, unpack it apart from the checkout, and certify with it. No network needed.

    python tests/check_wheel.py

The unpacked wheel is run in an isolated interpreter in which the checkout is not on the path and
torch, safetensors and matplotlib cannot be imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PROBE = """
import sys
wheel, checkout = sys.argv[1:3]
inside = lambda p: p.rstrip("/") == checkout or p.startswith(checkout + "/src")
sys.path = [wheel, *(p for p in sys.path if not inside(p))]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "matplotlib"):
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Blocked())

import numpy as np
import recert

assert recert.__file__.startswith(wheel), recert.__file__
x = np.arange(4000).reshape(1000, 4) * 7 % 3
network = recert.vanilla(np.eye(2) * 0.2, [[2, -2, -2], [0, 0.1, 0]], [[2, 0], [-2, 0]])
found = recert.certify(
    network, x, (x[:, -1] != 0).astype(int), max_length=4, caps={"U": 0.3, "W": 3, "V": 4}
)
assert found.kind == "certificate" and not found.vacuous, found.statement()
path = found.save(sys.argv[3])
assert recert.load_certificate(path).risk_bound == found.risk_bound

from recert.certificates.schema import certificate_schema

assert certificate_schema()["title"] == "recert certificate"
try:
    import jsonschema
except ImportError:
    pass
else:
    jsonschema.Draft202012Validator(certificate_schema()).validate(found.to_json())

from recert import cli

sys.argv[1:] = ["version"]
cli.main()
"""


def build(folder: Path) -> Path:
    """The wheel, built with the hatchling that is installed here."""
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, ROOT,
        ],
        check=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_contents(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for needed in ("recert/py.typed", "recert/certificates/certificate.json", "recert/__init__.py"):
        assert needed in names, f"the wheel lacks {needed}"
    for path in (ROOT / "src").rglob("*.py"):
        name = path.relative_to(ROOT / "src").as_posix()
        assert name in names, f"the wheel lacks {name}"
    ours = ("recert/", "recert_studies/", f"recert-{project['version']}")
    stray = [n for n in names if not n.startswith(ours)]
    assert not stray, f"the wheel holds {stray}"
    assert not [n for n in names if "__pycache__" in n]
    scripts = [n for n in names if n.endswith("entry_points.txt")]
    entries = wheel.read(scripts[0]) if scripts else b""
    assert b"recert = recert.cli:main" in entries and b"recert_studies.command" in entries
    assert [n for n in names if n.endswith("licenses/LICENSE")], "the wheel lacks the licence"


def main() -> None:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        path = build(folder)
        unpacked = folder / "unpacked"
        with zipfile.ZipFile(path) as wheel:
            check_contents(wheel)
            wheel.extractall(unpacked)
        subprocess.run(
            [
                sys.executable, "-I", "-W", "error", "-c", PROBE,
                unpacked, ROOT, folder / "certificate.json",
            ],
            check=True,
            cwd=folder,
        )  # fmt: skip
    print(f"{path.name}: built, unpacked, certified with, in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
