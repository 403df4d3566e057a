"""The rooms of the package, and which may import from which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import leanet

PACKAGE = Path(leanet.__file__).parent

ROOMS = (
    ("errors", "ranks", "progress"),
    ("reading", "terminal"),
    ("files",),
    ("lock", "console", "cluster"),
    ("config",),
    ("color",),
    ("data",),
    ("networks",),
    ("training",),
    ("maps",),
    ("results",),
    ("model",),
    ("experiment",),
    ("compat", "report", "serve"),
    ("cli", "__init__"),
)
"""From the first on; a module imports from its own room and from those before it."""

RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


def room_of(module: str) -> str:
    """'data' of leanet.data.decode, 'files' of leanet.files."""
    return [*module.split("."), "__init__"][1]


def imported(file: Path) -> set[str]:
    """The modules of the package that a file imports, at the top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [alias.name for alias in node.names] if node.module == "leanet" else [""]
            found |= {f"{node.module}.{name}".rstrip(".") for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "leanet"}


FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_room_imports_from_those_before_it_alone(file: Path) -> None:
    own = file.parts[0].removesuffix(".py")
    later = {
        module
        for module in imported(PACKAGE / file)
        if room_of(module) not in (own, "__version__") and RANK[room_of(module)] >= RANK[own]
    }
    assert not later


def test_every_room_has_its_place() -> None:
    there = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__pycache__", "py.typed"} == set(RANK)
