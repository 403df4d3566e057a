"""A hook of MkDocs: the repository's own pages on the site, and links between these and docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

PLACES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""The site's path for each page from outside docs/."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the existing pages from outside docs/."""
    for source, place in PLACES.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links between the repository's files into links between the site's pages."""
    sources = {place: source for source, place in PLACES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(link: re.Match[str]) -> str:
        target, _, anchor = link[1].partition("#")
        if not target or ":" in target:
            return link[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = PLACES.get(wanted, wanted.removeprefix("docs/"))
        there = posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")
        return f"]({there}#{anchor})" if anchor else f"]({there})"

    return re.sub(r"\]\(([^)\s]+)\)", moved, markdown)
