"""Every `leanet` command of the README and the docs: it parses, and no folder is made twice with other options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leanet.cli import VERBS, parse
from leanet.config import ColorizeConfig, RunConfig, StudyConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each command that stands in a line of its own, or is quoted whole."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ *(?:accelerate launch.*--no_python )?(leanet [a-z].*)$", text, re.M)
    quoted = re.findall(r"`(leanet [a-z-]+ [^`]*--out[^`]*)`", text)
    for command in (*lines, *(" ".join(q.split()) for q in quoted)):
        _, *arguments = shlex.split(command, comments=True)
        if arguments[0] in VERBS and not re.search(r"\.\.\.|--config|\$", command):
            yield arguments


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
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
