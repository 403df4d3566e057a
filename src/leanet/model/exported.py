"""Exported models: the same predictions with ONNX Runtime or OpenVINO, without torch or leanet's networks."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from leanet.data.decode import checked_images
from leanet.data.threads import processors
from leanet.errors import DamagedError, UserError, install
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.card import HASH, card_from, check_hash
from leanet.model.result import Result, make_result
from leanet.model.seal import is_sealed, is_whole
from leanet.reading import parse_json

METADATA = "leanet"
"""The metadata key of the model's card, as JSON."""

WEIGHTS_HASH = "leanet_weights_sha256"
"""The key of the .bin file's hash in .xml files of an earlier version."""

OUTPUTS = ("probability", "caan_probability", "anomaly_map", "attention")
PAINTED = "recoloured"
"""The output that is computed only on request."""

HEAT = "heat"
"""The output that earlier versions' files lack; it is asked for where it is not the anomaly map."""


DISTANCE = "distance"
"""The output that is asked for where the card has distances of familiar images; earlier versions' files lack it."""


class ExportedModel(AnomalyModel):
    """A file that `leanet export` wrote, in any runtime.

    Attributes:
        card: the model's card, from the file's metadata.
        runtime, extra: the module that runs it, and the extra that installs the module.
        at_once: threads that call it at once; each then waits for its share of the processors without spinning.
        threads: threads that compute; None: as many as there are processors.

    Raises:
        UserError: the runtime is missing; no such file, or one that `leanet export` did not write.
    """

    runtime: ClassVar[str]
    extra: ClassVar[str]
    together = 1

    def __init__(self, path: Path, at_once: int = 1, threads: int | None = None) -> None:
        _require(self.runtime, self.extra, path)
        self._path, self.at_once, self.threads = path, at_once, threads
        beside = self._beside(path)
        if beside is not None and not beside.is_file():
            raise DamagedError(beside, f"missing; {path.name} needs it. Export the model again.")
        sealed = is_sealed(path)
        if sealed and not is_whole(path, beside):  # before the runtime, which a hostile file can crash
            raise _damaged(path)
        try:
            card, outputs = self._open(path)
            _check_outputs(outputs)
        except Exception:  # the runtimes raise a dozen classes of their own
            raise _damaged(path) from None
        self.card = card_from(card, path)
        if not sealed and HASH in parse_json(card):  # only earlier versions' cards come without a seal
            raise _damaged(path)

    def _beside(self, _path: Path) -> Path | None:
        """The companion file; None if one file holds everything."""
        return None

    @abstractmethod
    def _open(self, path: Path) -> tuple[str, list[str]]:
        """Load the file; return the card's JSON and the names of the outputs."""

    @abstractmethod
    def _run(self, image: NDArray[np.uint8], names: Sequence[str]) -> Sequence[Any]:
        """The outputs of these names for one image."""

    def predict_pixels(
        self,
        images: Sequence[NDArray[np.uint8]],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        paint: bool = False,
    ) -> list[Result]:
        """See `AnomalyModel`; one image after another."""
        if anomaly_maps is not None:
            raise UserError("anomaly_maps: an exported model makes its own. Omit them.")
        checked_images(images, sizes)
        shapes = sizes or [image.shape[:2] for image in images]
        return [self._predict(i, shape, paint) for i, shape in zip(images, shapes, strict=True)]

    def _predict(self, image: NDArray[np.uint8], size: tuple[int, ...], paint: bool) -> Result:
        card = self.card
        names = [*OUTPUTS]
        names += [PAINTED] if paint else []
        names += [HEAT] if card.heat != "map" else []
        names += [DISTANCE] if card.familiar_distances is not None else []
        try:
            found = dict(zip(names, self._run(np.ascontiguousarray(image), names), strict=True))
        except MemoryError:
            raise
        except Exception:  # as when opened: a file of an earlier version, without a seal, may be damaged anywhere
            raise _damaged(self._path) from None
        return make_result(
            card,
            size,
            found["anomaly_map"],
            float(found["probability"]) if card.adn else None,
            float(found["caan_probability"]) if card.has_caan_probability else None,
            found["attention"] if card.has_attention else None,
            found.get(PAINTED),
            found.get(HEAT),
            None if DISTANCE not in found else float(found[DISTANCE]),
        )


class OnnxModel(ExportedModel):
    """An .onnx file, run by ONNX Runtime."""

    runtime, extra = "onnxruntime", "export"

    def _open(self, path: Path) -> tuple[str, list[str]]:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        if self.at_once > 1:  # waiting threads that spin would take the processors from the other predictions
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.intra_op_num_threads = processors()
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        # The fallback, to the same provider, would print a banner.
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        card: str = self._session.get_modelmeta().custom_metadata_map[METADATA]
        return card, [output.name for output in self._session.get_outputs()]

    def _run(self, image: NDArray[np.uint8], names: Sequence[str]) -> Sequence[Any]:
        outputs: Sequence[Any] = self._session.run(list(names), {"image": image})
        return outputs


class OpenVinoModel(ExportedModel):
    """An .xml file with its .bin beside it, run by OpenVINO."""

    runtime, extra = "openvino", "openvino"

    def _beside(self, path: Path) -> Path:
        return path.with_suffix(".bin")

    def _open(self, path: Path) -> tuple[str, list[str]]:
        with no_statistics():
            import openvino

        model = openvino.Core().read_model(path)
        if not is_sealed(path):
            check_hash(self._beside(path), model.get_rt_info(WEIGHTS_HASH).astype(str))
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if self.at_once > 1:
            settings |= {"NUM_STREAMS": self.at_once, "INFERENCE_NUM_THREADS": processors()}
        if self.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._of_thread = threading.local()  # a request for inference serves one thread
        return model.get_rt_info(METADATA).astype(str), [n for output in model.outputs for n in output.names]

    def _run(self, image: NDArray[np.uint8], names: Sequence[str]) -> Sequence[Any]:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        found = self._of_thread.request.infer({"image": image})
        return [found[name] for name in names]


OF_SUFFIX: dict[str, type[ExportedModel]] = {".onnx": OnnxModel, ".xml": OpenVinoModel}
"""The class of an exported file, by its suffix."""


@contextlib.contextmanager
def no_statistics() -> Iterator[None]:
    """Let a first import of OpenVINO or NNCF, which otherwise report their use, find no package for that."""
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # an import of it then fails
    try:
        yield
    finally:
        del sys.modules[name]


def is_exported(path: Path) -> bool:
    """Whether a path has an exported file's suffix, and is not a folder."""
    return path.suffix.lower() in OF_SUFFIX and not path.is_dir()


def load_exported(path: Path, at_once: int = 1, threads: int | None = None) -> ExportedModel:
    """Load an exported file by its suffix, one of OF_SUFFIX; see `ExportedModel` for the threads.

    Raises:
        UserError: the runtime is missing, no such file, or one that `leanet export` did not write.
    """
    return OF_SUFFIX[path.suffix.lower()](path, at_once, threads)


def _require(module: str, extra: str, path: Path) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{path}: {module} is missing. {install(extra)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file. Write one with `leanet export`.")


def _check_outputs(names: Sequence[str]) -> None:
    if missing := {*OUTPUTS, PAINTED} - set(names):
        raise ValueError(f"no output {min(missing)}")


def _damaged(path: Path) -> DamagedError:
    return DamagedError(path, "damaged, or not written by `leanet export`. Export the model again.")
