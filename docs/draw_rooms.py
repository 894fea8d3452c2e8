"""Draw the rooms of the package and the way of a certificate through them.

    python docs/draw_rooms.py            writes docs/images/rooms.svg
    python docs/draw_rooms.py --check    exit status 1 where the picture is not of today's imports

Everything is read off the code: rooms and arrows are imports, with those left out that follow from
others; the numbered way is the order in which ``recert.certify`` first enters the rooms when it is
run.
"""

from __future__ import annotations

import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "recert"
PICTURE = ROOT / "docs" / "images" / "rooms.svg"
# cert.plot() draws itself: the one import that goes back, inside a method.
BACK = {"certificates": {"report"}}
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 176, 58, 22, 46, 20


def room_of(path: Path) -> str:
    """The first part of a module's name below the package."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def rooms() -> dict[str, list[Path]]:
    """Room → its files; the package's own face is none."""
    found: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if path != SOURCE / "__init__.py":
            found.setdefault(room_of(path), []).append(path)
    return found


def uses(files: list[Path], known: set[str]) -> set[str]:
    """Rooms that these files import."""
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            parts = [name.split(".") for name in names if name.startswith("recert.")]
            found |= {part[1] for part in parts if part[1] in known}
    return found


def floors(arrows: dict[str, set[str]]) -> dict[str, int]:
    """Room → the length of the longest way down from it."""
    found: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((depth(other) for other in sorted(arrows[name])), default=-1)
        return found[name]

    for name in sorted(arrows):
        depth(name)
    return found


def essential(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that do not follow from others."""
    reach: dict[str, set[str]] = {}

    def below(name: str) -> set[str]:
        if name not in reach:
            reach[name] = set().union(*({o} | below(o) for o in arrows[name]))
        return reach[name]

    return {
        name: {o for o in others if not any(o in below(p) for p in others - {o})}
        for name, others in arrows.items()
    }


def way() -> list[str]:
    """The rooms that a run of ``recert.certify`` enters, in the order of their first calls."""
    import numpy as np

    import recert

    tokens = np.arange(800).reshape(200, 4) * 7 % 3
    labels = (tokens[:, -1] != 0).astype(int)
    network = recert.vanilla(np.eye(2) * 0.2, [[2, -2, -2], [0, 0.1, 0]], [[2, 0], [-2, 0]])
    recert.certify(network, tokens, labels, max_length=4)
    found: list[str] = []

    def enter(frame: object, event: str, _: object) -> None:
        code = frame.f_code  # type: ignore[attr-defined]
        path = Path(code.co_filename)
        if event == "call" and code.co_name != "<module>" and path.is_relative_to(SOURCE):
            name = room_of(path)
            if name not in found and path != SOURCE / "__init__.py":
                found.append(name)

    sys.setprofile(enter)  # type: ignore[arg-type]
    try:
        recert.certify(network, tokens, labels, max_length=4)
    finally:
        sys.setprofile(None)
    return found


def purpose(files: list[Path]) -> str:
    """The first clause of a room's docstring."""
    first = next((p for p in files if p.name == "__init__.py"), files[0])
    text = (ast.get_docstring(ast.parse(first.read_text(encoding="utf-8"))) or "").split("\n")[0]
    return text.split(":")[0].rstrip(".")


def lines_of(text: str, width: int, most: int) -> list[str]:
    """Text in at most so many lines."""
    found = [""]
    for word in text.split():
        if len(found[-1]) + len(word) + 1 <= width:
            found[-1] = f"{found[-1]} {word}".strip()
        elif len(found) < most:
            found.append(word)
        else:
            found[-1] += " …"
            break
    return found


def draw() -> str:
    """The picture as SVG, the same text for the same code."""
    files = rooms()
    arrows = {
        name: uses(paths, set(files)) - {name} - BACK.get(name, set())
        for name, paths in files.items()
    }
    floor, order = floors(arrows), way()
    rows: dict[int, list[str]] = {}
    for name in sorted(files):
        rows.setdefault(floor[name], []).append(name)
    across = max(map(len, rows.values()))
    width = 2 * MARGIN + across * WIDTH + (across - 1) * GAP_X
    height = 2 * MARGIN + len(rows) * HEIGHT + (len(rows) - 1) * GAP_Y
    place = {}
    for level, names in rows.items():
        spare = width - (len(names) * WIDTH + (len(names) - 1) * GAP_X)
        for i, name in enumerate(names):
            y = MARGIN + (len(rows) - 1 - level) * (HEIGHT + GAP_Y)
            place[name] = (spare / 2 + i * (WIDTH + GAP_X), y)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">',
        "<title>The rooms of recert: an arrow points to what is imported</title>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#8a8a8a"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for name, others in sorted(essential(arrows).items()):
        for other in sorted(others):
            (x, y), (u, v) = place[name], place[other]
            a, b, c, d = x + WIDTH / 2, y + HEIGHT, u + WIDTH / 2, v
            out.append(
                f'<path d="M{a:g} {b:g}C{a:g} {b + 30:g} {c:g} {d - 30:g} {c:g} {d:g}" '
                'fill="none" stroke="#8a8a8a" marker-end="url(#a)"/>'
            )
    for name in sorted(files):
        out += _room(name, files[name], place[name], order)
    return "\n".join([*out, "</svg>"]) + "\n"


def _room(name: str, files: list[Path], at: tuple[float, float], order: list[str]) -> list[str]:
    x, y = at
    entered = name in order
    lines = [
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" '
        f'fill="{"#e3eefb" if entered else "#f4f4f4"}" stroke="#444444"/>',
        f'<text x="{x + 10:g}" y="{y + 18:g}" font-size="13" font-weight="bold">{name}</text>',
    ]
    for k, line in enumerate(lines_of(purpose(files), 31, 2)):
        lines.append(
            f'<text x="{x + 10:g}" y="{y + 34 + 13 * k:g}" font-size="9.5">{escape(line)}</text>'
        )
    if entered:
        lines += [
            f'<circle cx="{x + WIDTH - 14:g}" cy="{y + 14:g}" r="9" fill="#1f5fa8"/>',
            f'<text x="{x + WIDTH - 14:g}" y="{y + 18:g}" font-size="10" fill="#ffffff" '
            f'text-anchor="middle">{order.index(name) + 1}</text>',
        ]
    return lines


if __name__ == "__main__":
    now = draw()
    if "--check" in sys.argv:
        sys.exit(0 if PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == now else 1)
    PICTURE.write_text(now, encoding="utf-8")
