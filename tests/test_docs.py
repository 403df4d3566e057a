"""The README and the docs: their commands parse, their links lead somewhere, their code uses names that exist."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import leanet
from leanet.cli import VERBS, parse
from leanet.config import ColorizeConfig, RunConfig, StudyConfig

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks" / "README.md"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each command that stands in a line of its own, or is quoted whole."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ *(?:accelerate launch.*--no_python )?(leanet [a-z].*)$", text, re.M)
    quoted = re.findall(r"`(leanet [a-z-]+ [^`]*--out[^`]*)`", text)
    for command in (*lines, *(" ".join(q.split()) for q in quoted)):
        _, *arguments = shlex.split(command, comments=True)
        if arguments[0] in VERBS and not re.search(r"\.\.\.|--config|\$", command):
            yield arguments


@each_page
def test_every_command_parses(page: Path) -> None:
    for arguments in commands(page):
        assert parse(arguments[0], arguments[1:]) is not None, arguments  # a mistake raises; --help gives None


def test_no_folder_is_made_twice_with_other_options() -> None:
    made: dict[Path, tuple[Any, Path]] = {}
    for page in PAGES:
        for arguments in commands(page):
            config = parse(arguments[0], arguments[1:])
            if isinstance(config, ColorizeConfig | RunConfig | StudyConfig):
                options = config.dataset.name, config.data, config.colorizer, replace(config.compute, folds="all")
                earlier, where = made.setdefault(config.out, (options, page))
                assert options == earlier, f"{' '.join(arguments)} in {page.name}, otherwise in {where.name}"
    assert len(made) > 10


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings can be linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if ":" not in target:
            found = (page.parent / target).resolve() if target else page
            assert found.is_file(), link
            assert not anchor or anchor in anchors(found), link


def python_blocks(page: Path) -> list[str]:
    """The Python code of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@each_page
def test_python_code_imports_names_that_exist(page: Path) -> None:
    for code in python_blocks(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("leanet"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)


def test_the_network_of_ones_own_runs() -> None:
    (code,) = (code for code in python_blocks(ROOT / "docs/how-to/python.md") if "class Guided" in code)
    names: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + code, names)
    assert names["loss"].isfinite()


def test_the_reference_documents_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: leanet\.(\w+)$", page, re.M)) == sorted(leanet.__all__)


def test_the_readme_stays_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert "## Architecture" in lines
