"""The contract of a source of images, such as a folder, a manifest or a database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from leanet.config import DataConfig
from leanet.data.dataset import Dataset


class DataSource(ABC):
    """A source of data sets, registered by name with `register_source`.

    A source must define only `scan`. It decodes nothing: each `Sample` reads its own bytes.

    Attributes:
        suffixes: of files that this source reads unless `DataConfig.source` names another, in lowercase.
        dataset: the DATASET argument, which each source interprets in its own way.
        options: options that select images. `groups` and `max_per_class` apply to the images of any source.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dataset: Path, options: DataConfig) -> None:
        self.dataset = dataset
        self.options = options

    @abstractmethod
    def scan(self) -> Dataset:
        """List the images of both classes, in the same order each time.

        Raises:
            UserError: no such data set, or a class without images.
        """

    def scan_normals(self) -> Dataset:
        """List only the normal images of a data set that may have no others; errors as in `scan`."""
        dataset = self.scan()
        return replace(dataset, samples=dataset.of_class(0))

    def has_anomalies(self) -> bool:
        """Whether there are any anomalous images; `leanet fit` works without them."""
        return bool(self.scan().of_class(1))

    def searched(self) -> list[Path]:
        """The folders that are searched for images; a run refuses to write into them."""
        return []
