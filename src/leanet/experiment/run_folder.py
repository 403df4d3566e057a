"""Where everything of a run lies and in which format: the only file that knows paths."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import zarr
from numpy.typing import NDArray
from zarr import Array
from zarr.codecs import BloscCodec, numcodecs

from leanet.data.pixels import DAMAGED_ARRAY
from leanet.errors import UserError
from leanet.files import is_free, open_text, partial_of, read_csv, remove, unfinished, write_csv, write_text

DELTA_E_STEP = 0.005
"""Anomaly maps are stored as uint16 in steps of this many ΔE00 units."""

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
    """RUN/<fold>/<detector>: weights, history, predictions and metrics of one trained detector."""

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
        """Predictions of the inner validation; missing where nothing was held out."""
        return self.path / "validation.csv"

    @property
    def metrics(self) -> Path:
        """Written last."""
        return self.path / "metrics.json"

    def lacking(self) -> list[str]:
        """Names of the files that a finished detector has and this folder has not: empty where it is done.

        Raises:
            UserError: metrics.json is damaged.
        """
        held_out = self.metrics.exists() and self.read_metrics().get("validation", {}).get("images")
        needed = [
            self.weights,
            self.history,
            self.predictions,
            *([self.validation] if held_out else []),
            self.metrics,
        ]
        return [path.name for path in needed if not path.exists()]

    def read_metrics(self) -> dict[str, Any]:
        """What metrics.json holds.

        Raises:
            UserError: it is damaged.
        """
        try:
            found = json.loads(self.metrics.read_text(encoding="utf-8"))
        except (ValueError, OSError):
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{self.metrics}: damaged. Delete {self.path} and run `leanet detect` again.")
        return found


@dataclass(frozen=True)
class FoldFolder:
    """RUN/<fold>: the colorizer and the anomaly maps of one fold, and a folder for each detector."""

    path: Path

    @property
    def colorizer_weights(self) -> Path:
        return self.path / "colorizer" / "weights.safetensors"

    @property
    def colorizer_checkpoint(self) -> Path:
        return self.path / "colorizer" / "checkpoint.safetensors"

    @property
    def colorizer_history(self) -> Path:
        return self.path / "colorizer" / "history.csv"

    def inner_weights(self, part: int) -> Path:
        """Weights of the colorizer that has not seen one inner part; deleted when the maps are made."""
        return self.path / "colorizer" / f"inner-{part}.safetensors"

    def inner_checkpoint(self, part: int) -> Path:
        """Where that colorizer's training is."""
        return self.path / "colorizer" / f"inner-{part}-checkpoint.safetensors"

    def inner_history(self, part: int) -> Path:
        """Training history of that colorizer."""
        return self.path / "colorizer" / f"inner-{part}-history.csv"

    @property
    def maps(self) -> Path:
        """Renamed into place when complete: where it is, the fold's first stage is done."""
        return self.path / "maps.zarr"

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
        """Every detector that was begun, of all folds and seeds."""
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
        """Raise UserError where something that no run wrote stands where this many folds would be written."""
        if "recorded" in self.read_config():
            return
        places = [self.config, self.report, *(self.fold(number).path for number in range(folds))]
        taken = [place for place in places if not is_free(place) and not _of_the_published_program(place)]
        if self.images.exists() and not self._begins_like_ours(self.images):
            taken.append(self.images)
        if taken:
            raise UserError(
                f"{taken[0]}: is there already, and of no run; a run would write there. Choose another --out."
            )

    @staticmethod
    def _begins_like_ours(images: Path) -> bool:
        with open_text(images) as file:
            return file.readline().strip() == ",".join(f.name for f in dataclasses.fields(ImageRow))

    def read_images(self) -> list[ImageRow]:
        """The lines of images.csv.

        Raises:
            UserError: there is none: the folder is no run.
        """
        if not self.images.exists():
            raise UserError(f"{self.path}: not a run folder (no images.csv). Make one with `leanet colorize`.")
        try:
            return [
                ImageRow(**{**row, **{k: int(row[k]) for k in ("label", "width", "height")}})  # type: ignore[arg-type]
                for row in read_csv(self.images)
            ]
        except (KeyError, TypeError, ValueError, OSError):
            raise UserError(
                f"{self.images}: damaged, or not a list of images. Delete it and run `leanet colorize` again."
            ) from None

    def read_config(self) -> dict[str, Any]:
        """The recorded options, or an empty mapping where none are recorded yet."""
        return read_config(self.config)

    def read_pixels(self, images: int) -> NDArray[np.uint8]:
        """The pixel cache that images.csv belongs to: uint8 (N, side, side, 3), memory-mapped.

        Raises:
            UserError: it is missing, damaged, or of another length.
        """
        name = self.read_config().get("recorded", {}).get("pixels", "")
        path = self.pixels / name
        if not name or not path.is_file():
            raise UserError(f"{path}: the pixel cache is missing. Run `leanet colorize` again; it makes it anew.")
        try:
            pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
        except DAMAGED_ARRAY:
            raise UserError(f"{path}: damaged. Run `leanet colorize` again; it makes it anew.") from None
        if len(pixels) != images:
            raise UserError(
                f"{path}: {len(pixels)} images where images.csv has {images}. Delete it and run `leanet colorize`."
            )
        return pixels


def _of_the_published_program(fold: Path) -> bool:
    """Whether a folder holds nothing but a fold's arrays, beside which a run of ours has room."""
    return fold.is_dir() and all(file.suffix == ".npz" for file in fold.iterdir())


def write_config(path: Path, options: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Write options as YAML, and below them what was recorded: versions, machine, choices made."""
    versions = versions_here()
    machine = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    content = {**options, "recorded": {**recorded, "versions": versions, "machine": machine}}
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def amend_config(path: Path, **options: Any) -> None:
    """Change options that `write_config` wrote, and nothing of what was recorded."""
    write_text(path, yaml.safe_dump(read_config(path) | options, sort_keys=False, allow_unicode=True))


def versions_here() -> dict[str, str]:
    """The versions of leanet and of the packages that its results depend on."""
    return {name: version(name) for name in ("leanet", *_PACKAGES)}


def read_config(path: Path) -> dict[str, Any]:
    """What `write_config` wrote, or an empty mapping where there is no file.

    Raises:
        UserError: the file is not such a mapping.
    """
    if not path.exists():
        return {}
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        loaded = None
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: damaged, not a mapping of options in YAML. Mend it, or choose another --out.")
    return loaded


def plain(value: object) -> object:
    """A value for a table of files: numbers to six digits, and what is undefined left empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write a training's history, one line an epoch."""
    header = list(history[0]) if history else ["epoch"]
    write_csv(path, header, [[f"{row[k]:.7g}" for k in header] for row in history])


@contextlib.contextmanager
def _no_word_of_numcodecs() -> Iterator[None]:
    """Zarr warns that programs not built on it may not know the filter Delta: true, and no news to our users."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not", category=UserWarning)
        yield


class MapWriter:
    """Writes RUN/<fold>/maps.zarr: one chunk an image, beside its place until `close`."""

    def __init__(self, path: Path, images: int, side: int) -> None:
        self.path = path
        self._partial = partial_of(path)
        remove(self._partial)
        self._group = zarr.open_group(self._partial, mode="w")
        # Bit planes, and differences of neighbours, were smallest on leaves: a quarter less than zstd alone.
        with _no_word_of_numcodecs():
            bits = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=2)
            self._delta_e = self._array("delta_e", (images, side, side), "uint16", compressors=bits)
            bytes_ = BloscCodec(cname="zstd", clevel=7, shuffle="shuffle", typesize=1)
            differences = numcodecs.Delta(dtype="|u1")
            self._chroma = self._array(
                "recoloured_ab", (images, 2, side, side), "uint8", filters=differences, compressors=bytes_
            )

    def _array(self, name: str, shape: tuple[int, ...], dtype: str, **codecs: Any) -> Array[Any]:
        return self._group.create_array(
            name,
            shape=shape,
            chunks=(1, *shape[1:]),
            dtype=dtype,
            chunk_key_encoding={"name": "default", "separator": "."},  # a directory costs as much disk as a file
            # A chunk is written even where all of it is 0, so that a missing one means a damaged fold.
            config={"write_empty_chunks": True},
            **codecs,
        )

    def write(self, rows: NDArray[np.int64], delta_e: NDArray[np.float32], coded_ab: NDArray[np.float32]) -> None:
        """Write the maps (n, H, W) in ΔE00 and the chrominance (n, 2, H, W) in [0, 1] of these rows."""
        self._delta_e.oindex[rows] = np.rint(delta_e / DELTA_E_STEP).clip(0, 65535).astype(np.uint16)
        self._chroma.oindex[rows] = np.rint(coded_ab * 255).astype(np.uint8)

    def close(self, attributes: Mapping[str, Any]) -> None:
        """Store the attributes and move the finished group to its place."""
        self._group.attrs.update(dict(attributes))
        remove(self.path)
        self._partial.rename(self.path)


class Maps:
    """Reads RUN/<fold>/maps.zarr.

    Unpacked, all anomaly maps are decoded into a scratch file at the first use: for who reads them many times.
    """

    def __init__(self, path: Path, images: int, unpack: bool = True) -> None:
        self._path, self._unpack = path, unpack
        if not path.exists():
            raise UserError(f"{path}: no anomaly maps yet. Run `leanet colorize` first, for the same folds.")
        try:
            with _no_word_of_numcodecs():
                self._delta_e = zarr.open_array(path / "delta_e", mode="r")
                self._chroma = zarr.open_array(path / "recoloured_ab", mode="r")
            self.attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
            self.normals_p99 = float(self.attributes["normals_p99"])
            complete = self._delta_e.nchunks_initialized == self._chroma.nchunks_initialized == images
        except (KeyError, TypeError, ValueError, OSError):
            complete = False
        if not complete:
            raise UserError(f"{path}: damaged anomaly maps. Delete it and run `leanet colorize` again.")

    def __len__(self) -> int:
        return int(self._delta_e.shape[0])

    @property
    def identity(self) -> str:
        """What tells these maps from any others: a hash of their images, split and values."""
        return hashlib.sha256(json.dumps(self.attributes, sort_keys=True).encode()).hexdigest()[:16]

    @functools.cached_property
    def _decoded(self) -> NDArray[np.uint16]:
        """The maps unpacked into a memory-mapped scratch file: a chunk costs a millisecond, every epoch anew.

        Beside the maps, since the system's folder for such files is often held in memory.
        """
        beside, needed = self._path.parent, 2 * math.prod(self._delta_e.shape)
        place = beside if os.access(beside, os.W_OK) else Path(tempfile.gettempdir())
        if shutil.disk_usage(place).free < needed:  # a memory map on a full disk dies by SIGBUS
            raise UserError(f"{place}: unpacking the anomaly maps needs {needed / 1e9:.1f} GB. Make room there.")
        with tempfile.TemporaryFile(dir=place) as scratch:
            decoded = np.memmap(scratch, dtype=np.uint16, mode="w+", shape=self._delta_e.shape)
        for start in range(0, len(self), 64):
            decoded[start : start + 64] = np.asarray(self._delta_e[start : start + 64])
        return decoded

    def delta_e(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Anomaly maps (n, H, W) of these rows, in ΔE00."""
        if self._unpack:
            stored = self._decoded[rows]
        else:
            stored = np.stack([np.asarray(self._delta_e[int(r)]) for r in rows])
        return stored.astype(np.float32) * np.float32(DELTA_E_STEP)

    def coded_ab(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Recoloured chrominance (n, 2, H, W) of these rows, coded to [0, 1]."""
        stored = np.stack([np.asarray(self._chroma[int(r)]) for r in rows])
        return stored.astype(np.float32) / np.float32(255)
