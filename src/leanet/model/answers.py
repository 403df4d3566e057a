"""A file of answers about many pictures: Parquet with counts and checksums, written completely or not at all."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leanet.data.pictures import Picture
from leanet.files import beside
from leanet.model.predict_files import Counts, Loaded
from leanet.model.result import Result
from leanet.reading import parse_json

GROUP = 10_000
"""Answers of a row group, which are in memory until it is written; a tar shard may have several."""

MOST_KINDS = 20
"""Most kinds of errors that are counted apart."""

_OTHER = "other errors"

_KEY = b"leanet"
"""The metadata key of a file's description and counts."""

OnPicture = Callable[[int, int], None]
"""on_picture(the number of its row, the pictures so far)"""


@dataclass
class Tally(Counts):
    """Counts of pictures, and of the errors of each kind."""

    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, image: Loaded | None, found: Result | str) -> None:
        """Count one picture."""
        super().add(image, found)
        self.files += 1
        if isinstance(found, str):
            self.count_kind(re.sub(r"\d[\d,]*", "N", found), 1)

    def count_kind(self, kind: str, count: int) -> None:
        """Count errors of a kind; a limited number of kinds is counted apart."""
        self.kinds[kind if kind in self.kinds or len(self.kinds) < MOST_KINDS else _OTHER] += count

    def __iadd__(self, other: Tally) -> Tally:
        """Add the counts of another shard."""
        for each in dataclasses.fields(Counts):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        for kind, count in other.kinds.items():
            self.count_kind(kind, count)
        return self


def write_answers(
    path: Path,
    description: Mapping[str, object],
    answers: Iterable[tuple[Picture, Loaded | None, Result | str]],
    on_picture: OnPicture | None = None,
) -> Tally:
    """Write a file of answers, completely or not at all; returns its counts.

    Args:
        description: what the answers were made from, for `read_answers`.
        answers: each picture with its pixels and its result, or the reason why it is unreadable.
        on_picture: called after each picture.
    Raises:
        OSError: the file cannot be written.
    """
    import pyarrow.parquet as pq

    tally, waiting = Tally(0), _Columns()
    with beside(path) as partial, pq.ParquetWriter(partial, schema(), write_page_checksum=True) as writer:
        for picture, image, found in answers:
            tally.add(image, found)
            waiting.add(picture.file, found)
            if len(waiting) == GROUP:
                writer.write_table(waiting.taken())
            if on_picture:
                on_picture(picture.row, tally.files)
        if len(waiting):
            writer.write_table(waiting.taken())
        writer.add_key_value_metadata({_KEY: json.dumps({**description, "tally": vars(tally)})})
    return tally


def read_answers(path: Path, description: Mapping[str, object]) -> Tally | None:
    """The counts of a file of answers; None if it is missing, damaged, or has another description.

    All pages are compared with their checksums.
    """
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as opened:
            rows = sum(len(batch) for batch in opened.iter_batches(GROUP))
            found = dict(parse_json(opened.metadata.metadata[_KEY]))
        tally = Tally(**found.pop("tally"))
        tally.kinds = Counter(tally.kinds)
    except Exception:  # on damaged files, pyarrow raises classes of its own, and the rest nearly anything
        return None
    return tally if found == description and rows == tally.files else None


def schema() -> Any:
    """The columns of a file of answers: those of predictions.csv, with null for an empty cell."""
    import pyarrow as pa

    numbers = ("adn_probability", "caan_probability", "mean_delta_e", "peak_delta_e")
    return pa.schema(
        [
            pa.field("file", pa.string(), nullable=False),
            ("probability", pa.float32()),
            ("decision", pa.string()),
            *((name, pa.float32()) for name in numbers),
            ("box", pa.list_(pa.int32())),
            ("error", pa.string()),
            ("unfamiliarity", pa.float32()),
        ]
    )


class _Columns:
    """Answers that are not written yet."""

    def __init__(self) -> None:
        self._rows: list[tuple[object, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, file: str, found: Result | str) -> None:
        if isinstance(found, str):
            self._rows.append((file, *[None] * 7, found, None))
            return
        numbers = (found.probability, found.caan_probability, found.mean_delta_e, found.peak_delta_e)
        box = None if found.box is None else list(found.box)
        self._rows.append((file, found.probability, found.decision, *numbers, box, None, found.unfamiliarity))

    def taken(self) -> Any:
        """The answers as a table; none are left."""
        import pyarrow as pa

        rows, self._rows = self._rows, []
        return pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema())
