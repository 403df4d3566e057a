"""The layout and file formats of a run folder: the only module that knows paths."""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from leanet import __version__
from leanet.config import COLOR_MAP
from leanet.config.options import read_options
from leanet.data.cache import open_cache
from leanet.errors import DamagedError, UserError
from leanet.files import LARGEST, is_free, open_text, read_csv, unfinished, write_csv, write_text
from leanet.reading import parse_json, read_bytes, sha256_of
from leanet.training.checkpoint import is_whole

_PACKAGES = ("torch", "accelerate", "numpy", "pillow", "zarr", "safetensors", "scikit-learn")


@dataclass(frozen=True)
class ImageRow:
    """One line of images.csv; its position is the image's row in the pixel cache and in maps.zarr."""

    file: str
    label: int
    kind: str
    group: str
    mask: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class DetectorFolder:
    """RUN/<fold>/<detector>: weights, history, training images, predictions and metrics of one trained detector."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.csv"

    @property
    def validation(self) -> Path:
        """Predictions for the held-out images; missing if nothing was held out."""
        return self.path / "validation.csv"

    @property
    def labelled(self) -> Path:
        """The training images whose labels the detector saw; missing if an earlier version trained it."""
        return self.path / "labelled.csv"

    @property
    def metrics(self) -> Path:
        """Written last."""
        return self.path / "metrics.json"

    def lacking(self) -> list[str]:
        """Names of the files that are missing or damaged; empty if the detector is finished."""
        try:
            metrics = self.read_metrics() if self.metrics.exists() else {}
        except DamagedError:
            return [self.metrics.name]
        held_out = metrics and metrics["validation"]["images"]
        needed = [
            self.config,
            self.weights,
            self.history,
            self.predictions,
            *([self.validation] if held_out else []),
            self.metrics,
        ]
        hashes = metrics.get("sha256", {})
        return [path.name for path in needed if not (path.exists() and self._is_whole(path, hashes))]

    def _is_whole(self, path: Path, hashes: Mapping[str, str]) -> bool:
        """Whether a file is unchanged: by its hash or, without one, by its content."""
        if path.name in hashes:
            return hashes[path.name] == sha256_once(path)
        if path == self.weights:
            return _are_whole(path, path.stat().st_mtime_ns)
        return bool(read_history(path)) if path == self.history else path != self.config or bool(self.read_config())

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that metrics.json records: all that do not change after training."""
        files = (self.weights, self.history, self.predictions, self.validation)
        return {path.name: sha256_of(path) for path in files if path.exists()}

    def read_config(self) -> dict[str, Any]:
        """The options and facts that the detector was trained with; empty if missing or damaged."""
        try:
            found = read_config(self.config)
        except UserError:
            return {}
        return found if isinstance(found.get("recorded"), dict) else {}

    def read_metrics(self) -> dict[str, Any]:
        """The content of metrics.json; `validation` counts no images if an earlier version omitted it.

        Raises:
            DamagedError: the file is damaged.
        """
        try:
            found: dict[str, Any] = parse_json(read_bytes(self.metrics, LARGEST))
            found = {"validation": {"images": 0, "anomalous": 0}, **found}
            [int(found[side]["images"]) for side in ("train", "validation")]
            [int(found["epoch"]), dict(found["adn"]), dict(found.get("sha256", {}))]
        except (KeyError, TypeError, ValueError, OSError):
            raise DamagedError(
                self.metrics, "damaged. Run the command again to train this detector again."
            ) from None
        return found


@dataclass(frozen=True)
class MapFolder:
    """RUN/<fold>/<map source>: weights, checkpoint and history of a map source, and of those of cross-fitting.

    Part None is the fold's own source. Part k was not trained on inner part k; it is deleted after making the maps.
    """

    path: Path

    def weights(self, part: int | None = None) -> Path:
        """Weights."""
        return self.path / ("weights.safetensors" if part is None else f"inner-{part}.safetensors")

    def checkpoint(self, part: int | None = None) -> Path:
        """Checkpoint of the training."""
        return self.path / ("checkpoint.safetensors" if part is None else f"inner-{part}-checkpoint.safetensors")

    def history(self, part: int | None = None) -> Path:
        """Training history, one line per epoch."""
        return self.path / ("history.csv" if part is None else f"inner-{part}-history.csv")


@dataclass(frozen=True)
class FoldFolder:
    """RUN/<fold>: the map source and the anomaly maps of one fold, and a folder for each detector."""

    path: Path

    def map_source(self, name: str) -> MapFolder:
        """Folder of the map source with this name; version 0.1.0 called that of the color maps 'colorizer'."""
        return MapFolder(self.path / ("colorizer" if name == COLOR_MAP else name))

    @property
    def maps(self) -> Path:
        """Renamed into place when complete: if it exists, the fold's first stage is finished."""
        return self.path / "maps.zarr"

    def attention(self, adn: str) -> Path:
        """What the maps make of a frozen ADN's features of all images."""
        return self.path / f"{adn}-attention.safetensors"

    def detector(self, name: str) -> DetectorFolder:
        """Folder of the detector with this name."""
        return DetectorFolder(self.path / name)


@dataclass(frozen=True)
class RunFolder:
    """A run on disk; the README has its layout."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def splits(self) -> Path:
        return self.path / "splits.json"

    @property
    def images(self) -> Path:
        return self.path / "images.csv"

    def detectors(self) -> list[DetectorFolder]:
        """Every detector whose training has begun, of all folds and seeds."""
        return [DetectorFolder(path.parent) for path in sorted(self.path.glob("[0-9]*/*/config.yaml"))]

    def cells(self) -> list[RunFolder]:
        """Of a study: the folders of its p_rates, each like a run's."""
        return [RunFolder(path.parent) for path in sorted(self.path.glob("p-rate-*/config.yaml"))]

    def cell(self, p_rate: float) -> RunFolder:
        """Of a study: the folder of this p_rate."""
        return RunFolder(self.path / f"p-rate-{p_rate:g}")

    @property
    def pixels(self) -> Path:
        return self.path / "pixels"

    def features(self, adn: str) -> Path:
        """Pooled features of all images by a frozen ADN."""
        return self.computed / f"{adn}.safetensors"

    def descriptions(self, map_source: str) -> Path:
        """What a map source compares of all images, as one array; a JSON file beside it has its hash."""
        return self.computed / f"{map_source}-map.npy"

    @property
    def computed(self) -> Path:
        """What networks that are not trained compute of all images, once for all folds."""
        return self.path / "features"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def fold(self, number: int) -> FoldFolder:
        """Folder of the fold with this number, counted from 0."""
        return FoldFolder(self.path / str(number))

    def make(self) -> None:
        """Make the folder.

        Raises:
            UserError: it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with unfinished(self.path / "anything") as probe:
                probe.touch()
        except OSError as error:
            raise UserError(f"{self.path}: cannot write there ({error.strerror}). Choose another --out.") from None

    def refuse_others(self, folds: int) -> None:
        """Raise UserError if a file that no run wrote is in the way of this many folds."""
        if "recorded" in self.read_config():
            return
        places = [self.config, self.report, *(self.fold(number).path for number in range(folds))]
        taken = [place for place in places if not is_free(place) and not _of_the_published_program(place)]
        if self.images.exists() and not self._begins_like_ours(self.images):
            taken.append(self.images)
        elif self.images.exists() and taken:
            raise UserError(
                f"{self.config}: missing or damaged; it alone records the options of this run. "
                "Restore it, or choose another --out."
            )
        if taken:
            raise UserError(
                f"{taken[0]}: exists, and no run made it; a run would overwrite it. Choose another --out."
            )

    @staticmethod
    def _begins_like_ours(images: Path) -> bool:
        with open_text(images) as file:
            return file.readline(1000).strip() == ",".join(f.name for f in dataclasses.fields(ImageRow))

    def read_images(self) -> list[ImageRow]:
        """The lines of images.csv.

        Raises:
            UserError: there is no images.csv; the folder is not a run.
        """
        if not self.images.exists():
            raise UserError(
                f"{self.path}: not a run folder (no images.csv). Make one with `leanet run`, or the maps alone "
                "with `leanet colorize`."
            )
        try:
            rows = [
                ImageRow(**{**row, **{k: int(row[k]) for k in ("label", "width", "height")}})  # type: ignore[arg-type]
                for row in read_csv(self.images)
            ]
            if len({row.file for row in rows if row.file and row.label in (0, 1)}) < len(rows) or not rows:
                raise ValueError("a file listed twice, or a label other than 0 and 1")
        except (KeyError, TypeError, ValueError, OSError):
            raise DamagedError(
                self.images, "damaged, or not a list of images. Delete it and run `leanet colorize` again."
            ) from None
        return rows

    def read_config(self) -> dict[str, Any]:
        """The recorded options, or an empty mapping if none are recorded yet."""
        return read_config(self.config)

    def read_pixels(self, images: int) -> NDArray[np.uint8]:
        """The pixel cache that images.csv belongs to: uint8 (N, side, side, 3), memory-mapped.

        Raises:
            UserError: it is missing, damaged, or of another length.
        """
        name = self.read_config().get("recorded", {}).get("pixels", "")
        path = self.pixels / Path(name).name
        if not name or not path.is_file():
            raise UserError(f"{path}: the pixel cache is missing. Run `leanet colorize` to make it again.")
        try:
            pixels = open_cache(path)
        except (ValueError, OSError):
            raise DamagedError(path, "damaged. Run `leanet colorize` to make it again.") from None
        if len(pixels) != images:
            raise UserError(
                f"{path}: {len(pixels)} images where images.csv has {images}. Delete it and run `leanet colorize`."
            )
        return pixels


def _of_the_published_program(fold: Path) -> bool:
    """Whether a folder holds only the arrays of an authors' fold; a run can write beside them."""
    return fold.is_dir() and all(file.suffix == ".npz" for file in fold.iterdir())


def write_config(path: Path, options: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Write options as YAML, and below them the recorded facts: versions, machine, choices made."""
    versions = versions_here()
    machine = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    content = {**options, "recorded": {**recorded, "versions": versions, "machine": machine}}
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def amend_config(path: Path, **options: Any) -> None:
    """Change options that `write_config` wrote; recorded facts stay."""
    write_text(path, yaml.safe_dump(read_config(path) | options, sort_keys=False, allow_unicode=True))


def versions_here() -> dict[str, str]:
    """The versions of leanet and of the packages that its results depend on."""
    return {"leanet": __version__} | {name: version(name) for name in _PACKAGES}


def read_config(path: Path) -> dict[str, Any]:
    """The mapping that `write_config` wrote, or an empty one if there is no file.

    Raises:
        UserError: the file is not such a mapping.
    """
    if not path.exists():
        return {}
    try:
        return read_options(path)
    except (OSError, ValueError):
        raise UserError(
            f"{path}: damaged, not a mapping of options in YAML. Correct it, or choose another --out."
        ) from None


def read_history(path: Path) -> list[dict[str, float]]:
    """A training's history, one row per epoch; empty if the file is damaged."""
    try:
        return [{name: float(value) for name, value in row.items()} for row in read_csv(path)]
    except (OSError, ValueError):
        return []


@functools.cache
def _are_whole(weights: Path, _changed: int) -> bool:
    """As `is_whole`, but read once: a report asks for every detector more than once."""
    return is_whole(weights)


def sha256_once(path: Path) -> str:
    """As `sha256_of`, but a file that has not changed is read once."""
    return _hash_once(path, path.stat().st_mtime_ns)


@functools.cache
def _hash_once(path: Path, _changed: int) -> str:
    return sha256_of(path)


def plain(value: object) -> object:
    """A value for a CSV table: numbers to six digits, undefined values empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write a training's history, one line per epoch."""
    header = list(history[0]) if history else ["epoch"]
    write_csv(path, header, [[f"{row[k]:.7g}" for k in header] for row in history])
