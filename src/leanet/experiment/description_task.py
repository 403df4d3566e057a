"""The task that describes every image of a run once, for map sources that say what is the same in every fold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from leanet.config import ColorizeConfig
from leanet.data.tensors import images_to_tensor
from leanet.errors import DamagedError
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import RunFolder, sha256_once
from leanet.experiment.tasks import Worker
from leanet.files import LARGEST, beside, write_json
from leanet.maps.registry import build_map_source, find_map_source
from leanet.ranks import is_first
from leanet.reading import parse_json, read_bytes, sha256_of
from leanet.training.compute import find_device, resolve
from leanet.training.prediction import in_single_threads, predictor
from leanet.training.processes import wait_for_all

BATCH = 32
"""Images at a time; a map source may take them in smaller batches."""


@dataclass(frozen=True)
class DescribeImages:
    """Describe a run's images by the map source as it is before it is fitted.

    Attributes:
        config: the options of the maps.
    """

    config: ColorizeConfig

    @property
    def key(self) -> str:
        return f"descriptions for {self.config.colorizer.map_source}"

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def path(self) -> Path:
        """The file that is written."""
        return RunFolder(self.config.out).descriptions(self.config.colorizer.map_source)

    def cost(self, worker: Worker) -> int:
        return len(worker.run_at(self.config.out).images)

    def done(self, worker: Worker) -> bool:
        """Whether the descriptions are there and whole, of these images by this source."""
        try:
            return read_descriptions(worker.run_at(self.config.out)) is not None
        except DamagedError:
            return False

    def run(self, worker: Worker) -> None:
        run = worker.run_at(self.config.out)
        if is_first():
            with beside(self.path) as partial:
                self._write(partial, run, worker)
                facts = {"made_from": _fingerprint(run), "sha256": sha256_of(partial)}
                write_json(_facts_file(self.path), facts)  # the array's own name is last
        wait_for_all(find_device(self.config.compute.device))

    def _write(self, path: Path, run: Run, worker: Worker) -> None:
        """Write an .npy file piece by piece; it may be larger than the memory."""
        describe, count = self.describer(run.side), len(run.images)
        batches = [np.arange(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]

        def described(rows: NDArray[np.int64]) -> NDArray[Any]:
            return np.ascontiguousarray(describe(images_to_tensor(run.pixels, rows)).cpu().numpy())

        with path.open("wb") as file:
            for found in in_single_threads(described, batches, find_device(self.config.compute.device)):
                if file.tell() == 0:
                    header = {"descr": found.dtype.str, "fortran_order": False, "shape": (count, *found.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(found.data)
                worker.on_images(len(found), self.key)

    def describer(self, side: int) -> Callable[[Tensor], Tensor]:
        """A function from images (N, 3, side, side) in [0, 1] to their descriptions (N, ...)."""
        source = build_map_source(self.config.colorizer.map_source, side, self.config.colorizer)
        source.load_pretrained()
        describe: Callable[[Tensor], Tensor] = predictor(
            source, resolve(self.config.compute, 0).in_float32(), "describe"
        )
        return describe


def descriptions_for(config: ColorizeConfig) -> tuple[DescribeImages, ...]:
    """The task that fitting a map source and making its maps need; none if it has no descriptions."""
    return (DescribeImages(config),) if find_map_source(config.colorizer.map_source).described_by else ()


def read_descriptions(run: Run) -> NDArray[Any] | None:
    """The descriptions of all images of a run, (N, ...), memory-mapped; None if its map source has none.

    Raises:
        DamagedError: they are missing, damaged, or of other images or another source.
    """
    if not find_map_source(run.map_source).described_by:
        return None
    path = run.folder.descriptions(run.map_source)
    try:
        facts = parse_json(read_bytes(_facts_file(path), LARGEST))
        if facts == {"made_from": _fingerprint(run), "sha256": sha256_once(path)}:
            return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        pass
    raise DamagedError(path, "missing, damaged or of other images. Repeat `leanet colorize` to make it again.")


def _fingerprint(run: Run) -> str:
    images, source = [image.sha256 for image in run.images], find_map_source(run.map_source)
    content = (images, run.side, run.map_source, source.described_by)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _facts_file(path: Path) -> Path:
    return path.with_suffix(".json")
