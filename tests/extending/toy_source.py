"""A source of images, registered from outside the package: pictures in memory."""

from __future__ import annotations

from functools import partial

from leanet import Dataset, DataSource, Sample, register_source

PICTURES: dict[str, tuple[bytes, int]] = {}
"""What each picture is called -> the content of its file, and its label."""


@register_source("memory")
class Memory(DataSource):
    """All that lies in PICTURES, whatever DATASET is called."""

    def scan(self) -> Dataset:
        """List the pictures."""
        samples = [Sample(name, label, read=partial(bytes, data)) for name, (data, label) in PICTURES.items()]
        return Dataset(self.dataset, tuple(samples), ())
