"""Files with the same bytes: one group within a class, a contradiction across the classes."""

from collections.abc import Sequence
from dataclasses import dataclass

from leanet.data.cache import ImageInfo
from leanet.errors import UserError


@dataclass(frozen=True)
class Duplicates:
    """Sets of files with the same bytes: `within` one class, and `across` the two."""

    within: tuple[tuple[str, ...], ...]
    across: tuple[tuple[str, ...], ...]


def duplicates(infos: Sequence[ImageInfo], labels: Sequence[int]) -> Duplicates:
    """Find files with exactly the same bytes.

    Args:
        infos, labels: one entry per image, in the same order.
    """
    same: dict[str, list[tuple[str, int]]] = {}
    for info, label in zip(infos, labels, strict=True):
        same.setdefault(info.sha256, []).append((info.file, label))
    within: list[tuple[str, ...]] = []
    across: list[tuple[str, ...]] = []
    for members in same.values():
        if len(members) > 1:
            one_class = len({label for _, label in members}) == 1
            (within if one_class else across).append(tuple(file for file, _ in members))
    return Duplicates(tuple(within), tuple(across))


def refuse_duplicates_across(infos: Sequence[ImageInfo], labels: Sequence[int]) -> None:
    """Raise UserError if the same picture is in both classes."""
    across = duplicates(infos, labels).across
    if across:
        raise UserError(
            contradiction(across[0], dict(zip((i.file for i in infos), labels, strict=True)), len(across) - 1)
        )


def contradiction(files: Sequence[str], labels: dict[str, int], more: int = 0) -> str:
    """The message, in one line, that the same picture has both labels."""
    first, second = (next(file for file in files if labels[file] == label) for label in (0, 1))
    others = f" ({more} more such pictures)" if more else ""
    return f"{first} and {second} are the same picture in both classes{others}. Remove one of the two."
