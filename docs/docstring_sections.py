"""An extension of griffe, which reads docstrings for the API's page."""

from __future__ import annotations

import re

import griffe


class DocstringSections(griffe.Extension):
    """Inserts an empty line before each section: griffe does not recognize a section right after another."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Called once for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"\n+(?=(?:Args|Attributes|Returns|Yields|Raises|Source):)", "\n\n", obj.docstring.value
            )
