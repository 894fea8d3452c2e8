"""The shape of the house: one direction of flow, light imports, small files, true names.

A room may import only rooms that stand above it in `ROOMS`. A module of a package such as
`theorems` belongs to that package's room; inside a room imports must not form a cycle.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("recert", "recert_studies")
SOURCE = ROOT / "src" / "recert"
SYMBOLS = ROOT / "docs" / "symbols.md"
LONGEST = 450

ROOMS = (
    "errors",
    "utils",
    "numerics",
    "samples",
    "networks",
    "sensitivities",
    "perturbation",
    "certificates",
    "compression",
    "readers",
    "printed",
    "theorems",
    "certification",
    "pac_bayes",
    "verifier",
    "data",
    "report",
    "training",
    "workflows",
    "cli",
    "recert_studies",
)

# Imports inside functions that go down the list, each for a reason.
EXCEPTIONS = {
    ("certificates", "report"): "cert.plot() draws itself; matplotlib is loaded only then",
}

HEAVY = (
    "torch",
    "matplotlib",
    "scipy.stats",
    "rich",
    "typer",
    "pandas",
    "safetensors",
    "onnx",
    "flint",
)
# The only rooms of the package that may know torch.
TORCH_ROOMS = ("readers", "training")


def modules() -> dict[str, Path]:
    """Dotted name → file; below recert the package's own name is left out."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / "src" / package).rglob("*.py")):
            parts = path.relative_to(ROOT / "src").with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if name != "recert":
                found[name.removeprefix("recert.")] = path
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules imported, each with whether the import stands inside a function.

    Names under ``if TYPE_CHECKING`` count as well: the flow of types is one-way, too.
    """
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, lazy: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            for alias in node.names:
                found.append((f"{node.module}.{alias.name}", lazy))
        lazy = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, lazy)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


def own(name: str, known: dict[str, Path]) -> str | None:
    """The module of recert that an imported name is or lives in; None for other packages."""
    if name.split(".")[0] not in PACKAGES:
        return None
    name = name.removeprefix("recert.")
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def edges() -> list[tuple[str, str, bool]]:
    known = modules()
    return [
        (module, target, lazy)
        for module, path in known.items()
        for name, lazy in imports(path)
        if (target := own(name, known)) is not None and target != module
    ]


def test_every_room_is_in_the_list() -> None:
    assert {room(m) for m in modules()} == set(ROOMS)
    assert len(set(ROOMS)) == len(ROOMS)


def test_imports_go_one_way() -> None:
    place = {name: i for i, name in enumerate(ROOMS)}
    wrong = [
        f"{a} imports {b}"
        for a, b, lazy in edges()
        if place[room(b)] > place[room(a)] and not (lazy and (room(a), room(b)) in EXCEPTIONS)
    ]
    assert not wrong


def test_exceptions_are_still_needed() -> None:
    down = {(room(a), room(b)) for a, b, lazy in edges() if lazy}
    assert set(EXCEPTIONS) <= down


def test_the_check_sees_a_wrong_import(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text("def f():\n    from recert import report\nimport recert.cli\n")
    found = [(own(name, modules()), lazy) for name, lazy in imports(path)]
    assert found == [("report", True), ("cli", False)]


def test_no_cycles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for a, b, lazy in edges():
        if not (lazy and (room(a), room(b)) in EXCEPTIONS):
            graph[a].add(b)
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join([*trail, module])
        if module not in done:
            for target in sorted(graph[module]):
                walk(target, (*trail, module))
            done.add(module)

    for module in graph:
        walk(module, ())


def test_few_rooms_know_torch() -> None:
    users = {
        room(module)
        for module, path in modules().items()
        for name, _ in imports(path)
        if name.split(".")[0] == "torch"
    }
    assert users <= {*TORCH_ROOMS, "recert_studies"}


def test_no_file_is_long() -> None:
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running code."""
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(found.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import recert",
        "import recert; recert.certify, recert.Network, recert.load_certificate, recert.printed",
        "import recert; recert.from_torch, recert.load_network, recert.sensitivity",
    ],
)
def test_importing_is_light(code: str) -> None:
    loaded = loaded_after(code)
    assert "recert" in loaded
    assert not loaded & set(HEAVY)


def test_importing_recert_alone_loads_nothing_else_of_it() -> None:
    loaded = loaded_after("import recert")
    assert {name for name in loaded if name.startswith("recert")} == {"recert"}
    assert "numpy" not in loaded and "scipy" not in loaded


def test_the_command_line_starts_without_torch() -> None:
    loaded = loaded_after("import recert.cli")
    assert not loaded & {"torch", "matplotlib", "scipy", "pandas"}


def test_public_names_exist_and_are_listed() -> None:
    import recert

    for name in recert.__all__:
        assert getattr(recert, name) is not None
        assert name in dir(recert)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        recert.nothing  # noqa: B018


def test_every_module_imports_and_says_what_it_is() -> None:
    for module in modules():
        needs_torch = "torch" in module or room(module) in ("training", "recert_studies")
        if needs_torch and not importlib.util.find_spec("torch"):
            continue
        full = module if room(module) in PACKAGES else f"recert.{module}"
        assert importlib.import_module(full).__doc__, module


def documented() -> list[str]:
    """Names in backticks in the column 'code' of docs/symbols.md."""
    names: list[str] = []
    column: int | None = None
    for line in SYMBOLS.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            column = None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        titles = [cell.lower() for cell in cells]
        if column is None:
            column = titles.index("code") if "code" in titles else -1
        elif 0 <= column < len(cells):
            names += re.findall(r"`([A-Za-z_][\w.]*)`", cells[column])
    return names


def resolve(name: str) -> object:
    """A dotted name below recert: a module, an attribute, or a field of a frozen value."""
    parts = name.removeprefix("recert.").split(".")
    found: object = importlib.import_module("recert")
    module = "recert"
    for part in parts:
        fields = getattr(found, "__dataclass_fields__", {})
        if part in fields:
            found = fields[part]
        elif hasattr(found, part):
            found = getattr(found, part)
        else:
            module = f"{module}.{part}"
            found = importlib.import_module(module)
            continue
        module = getattr(found, "__name__", module) if hasattr(found, "__path__") else module
    return found


def test_every_documented_symbol_exists() -> None:
    names = documented()
    assert len(names) >= 10
    absent = []
    for name in names:
        try:
            resolve(name)
        except (ImportError, AttributeError):
            absent.append(name)
    assert not absent


@pytest.mark.parametrize(
    "name",
    [
        "certify",
        "certification.certify.certify",
        "networks.network.Network",
        "sensitivities.sensitivity.Sensitivity.log_norm",
    ],
)
def test_resolving_names(name: str) -> None:
    assert resolve(name) is not None
    with pytest.raises((ImportError, AttributeError)):
        resolve(f"{name}_that_is_not_there")


def test_modules_are_found_by_their_former_names() -> None:
    import recert

    for old, new in recert._MOVED.items():
        sys.modules.pop(old, None)
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            found = importlib.import_module(old)
        assert found is importlib.import_module(new)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("recert.never_there")


def test_a_public_class_has_a_name_of_its_own() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
