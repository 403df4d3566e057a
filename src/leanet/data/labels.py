"""What a label in a table or an export says: normal, or anomalous and of which kind."""

from __future__ import annotations

from collections.abc import Sequence

from leanet.data.find import folded
from leanet.data.layout import GOOD

NORMAL = frozenset(("0", "negative", *GOOD))
ANOMALOUS = frozenset(("1", "positive", "anomalous", "abnormal", "bad"))

REMEDY = "Write 0 or 1, or normal or anomalous, or name the normal labels with --normal"
"""What to do about a label that leanet does not know."""


def meaning(text: str, normal: Sequence[str]) -> tuple[int, str] | None:
    """A label and the kind of anomaly; None if the text is no known label.

    Args:
        text: a label as its author wrote it; case and outer blanks do not count.
        normal: the values of --normal. With any, every other label is a kind of anomaly.
    """
    word = folded(text)
    if normal:
        return (0, "") if word in map(folded, normal) else (1, text.strip())
    if word in NORMAL:
        return 0, ""
    return (1, "") if word in ANOMALOUS else None
