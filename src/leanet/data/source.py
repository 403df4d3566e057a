"""The contract of what lists a data set's images, be it a folder, a manifest or a database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

from leanet.config import DataConfig
from leanet.data.dataset import Dataset


class DataSource(ABC):
    """A kind of place that data sets come from, under the name that `register_source` gives it.

    A source needs a `scan` alone. It decodes nothing: each `Sample` knows how to read its own bytes.

    Attributes:
        dataset: what DATASET named, which means to a source what it likes.
        options: which images are asked for. `groups` and `max_per_class` are applied to whatever a source lists.
    """

    def __init__(self, dataset: Path, options: DataConfig) -> None:
        self.dataset = dataset
        self.options = options

    @abstractmethod
    def scan(self) -> Dataset:
        """List the images of both classes, in the same order each time.

        Raises:
            UserError: there is no such data set, or none of a class in it.
        """

    def scan_normals(self) -> Dataset:
        """List the normal images alone, of a data set that may have no others; errors as in `scan`."""
        dataset = self.scan()
        return replace(dataset, samples=dataset.of_class(0))

    def has_anomalies(self) -> bool:
        """Whether there are anomalous images at all; `leanet fit` does without them."""
        return bool(self.scan().of_class(1))

    def searched(self) -> list[Path]:
        """The folders that are searched for images; a run refuses to write into them."""
        return []
