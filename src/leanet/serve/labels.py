"""The labels that people give on the page, in a CSV file that `leanet fit` takes as a manifest."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from fastapi import HTTPException
from filelock import FileLock
from pydantic import BaseModel, Field

from leanet.errors import UserError
from leanet.files import OWN, from_cell, write_csv
from leanet.lock import alone_in
from leanet.reading import read_text

COLUMNS = ("file", "label", "decision", "probability")

UNSURE = "unsure"
"""Stored as an empty label, which a manifest leaves out."""

LONGEST = 4096
"""Most bytes of a request with a label."""

MOST_ROWS = 100_000
MOST_BYTES = 50_000_000


class Label(BaseModel):
    """What a person says of a picture, and what the model said."""

    file: str = Field(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029]+$")
    label: Literal["normal", "anomalous", "unsure"]
    decision: Literal["normal", "anomalous", "unfamiliar", ""] = ""
    probability: float | None = Field(default=None, ge=0, le=1)


class Labels(BaseModel):
    """All labels, in the order in which the pictures were first labeled."""

    labels: list[Label]


class LabelFile:
    """A file of labels, one row for each name of a picture; several processes may write it in turn.

    Args:
        path: of the CSV file; it need not exist.
    Raises:
        UserError: its folder is missing, or it is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.parent.is_dir():
            raise UserError(f"--labels {path}: no folder {path.parent}. Create it, or choose another file.")
        if path.suffix.lower() != ".csv":
            raise UserError(f"--labels {path}: a name that ends in .csv is needed, such as labels.csv.")
        self.read()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep other services from writing the file."""
        try:
            with alone_in(self.path.parent, name=f"{OWN}{self.path.name}-service"):
                yield
        except UserError as error:
            raise UserError(f"--labels {self.path}: {error}") from None

    def read(self) -> dict[str, Label]:
        """The labels by the names of their pictures.

        Raises:
            UserError: the file is damaged, or not one of labels.
        """
        if not self.path.exists():
            return {}
        try:
            text = io.StringIO(read_text(self.path, MOST_BYTES), newline="")
            header, *rows = csv.reader(text, strict=True)
            if header != list(COLUMNS) or any(len(row) != len(COLUMNS) for row in rows):
                raise ValueError("other columns, or a row with more or fewer cells")
            return {label.file: label for label in map(_label_of, rows)}
        except (OSError, ValueError, csv.Error):
            raise UserError(
                f"--labels {self.path}: not a file of labels (columns {', '.join(COLUMNS)}). Choose another file."
            ) from None

    def add(self, label: Label) -> None:
        """Add a label, or replace that of the same name.

        Raises:
            HTTPException: 507 if the file is full or cannot be written.
        """
        try:
            with FileLock(self.path.with_name(f"{OWN}{self.path.name}-row"), fallback_to_soft=False):
                labels = self.read() | {label.file: label}
                if len(labels) > MOST_ROWS:
                    raise HTTPException(507, f"{MOST_ROWS} labels are the limit of one file")
                write_csv(self.path, COLUMNS, [_row(each) for each in labels.values()])
        except (OSError, UserError):
            raise HTTPException(507, "the file of labels cannot be written") from None


def _label_of(row: Sequence[str]) -> Label:
    file, label, decision, probability = map(from_cell, row)
    return Label.model_validate(
        {"file": file, "label": label or UNSURE, "decision": decision, "probability": probability or None}
    )


def _row(label: Label) -> tuple[object, ...]:
    probability = "" if label.probability is None else f"{label.probability:.6g}"
    return label.file, "" if label.label == UNSURE else label.label, label.decision, probability
