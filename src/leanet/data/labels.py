"""Files of labels as sources of images, and what a label says: normal, or anomalous and of which kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace

from leanet.data.dataset import CLASS_NAMES, Dataset, Sample
from leanet.data.find import folded, listed
from leanet.data.layout import ANOMALOUS, NORMAL
from leanet.data.remote import address
from leanet.data.source import DataSource
from leanet.errors import UserError

REMEDY = "Write 0 or 1, or normal or anomalous, or name the normal labels with --normal"
"""What to do about a label that leanet does not know."""


class LabelFile(DataSource):
    """A source that is one file, which lists images with their labels; a source defines `read`."""

    @abstractmethod
    def read(self, *, normals_only: bool = False) -> tuple[Dataset, Sequence[str]]:
        """The images of the file, of which one class may be missing, and some of its labels, for messages."""

    def scan(self) -> Dataset:
        """The images of both classes, normal ones first, in the file's order."""
        dataset, labels = self.read()
        for label, name in enumerate(CLASS_NAMES):
            if not dataset.of_class(label):
                said = f" The labels are {listed(labels)}." if labels else ""
                alone = " With normal images alone, only `leanet fit` works." if label else ""
                raise UserError(f"{address(self.dataset)}: no {name} images.{said} {REMEDY}.{alone}")
        return dataset

    def scan_normals(self) -> Dataset:
        """The normal images of a file that may have no others."""
        return self.read(normals_only=True)[0]

    def has_anomalies(self) -> bool:
        """Whether an image is anomalous."""
        return bool(self.read()[0].of_class(1))


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


def in_order(samples: Iterable[Sample], *, normals_only: bool) -> tuple[Sample, ...]:
    """Normal images first, and kinds that differ only in case or outer blanks as one, in the first spelling."""
    spelled = dict[str, str]()
    classes = list[Sample](), list[Sample]()
    for sample in samples:
        kind = spelled.setdefault(folded(sample.kind), sample.kind)
        classes[sample.label].append(sample if kind == sample.kind else replace(sample, kind=kind))
    return (*classes[0], *([] if normals_only else classes[1]))
