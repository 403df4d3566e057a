"""An exported model, run by ONNX Runtime: the same answers with neither torch nor our networks."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leanet.errors import UserError
from leanet.inference.card import Card, card_from
from leanet.inference.result import Result, make_result


class OnnxModel:
    """A file that `leanet export` wrote.

    Attributes:
        card: the model's card, from the file's metadata.

    Raises:
        UserError: onnxruntime is missing; no such file, or one that `leanet export` did not write.
    """

    def __init__(self, path: Path) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise UserError(f'{path}: onnxruntime is missing. Install it: pip install "leanet[export]".')
        import onnxruntime

        if not path.is_file():
            raise UserError(f"{path}: no such file. Write one with `leanet export`.")
        onnxruntime.set_default_logger_severity(3)
        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            metadata = self._session.get_modelmeta().custom_metadata_map
            content = json.loads(metadata["leanet"])
        except Exception:  # the runtime has a dozen classes of its own for what is wrong with a file
            raise UserError(f"{path}: damaged, or not written by `leanet export`. Export the model anew.") from None
        self.card: Card = card_from(content, str(path))
        self._names = [output.name for output in self._session.get_outputs()]

    def predict_pixels(
        self, images: Sequence[NDArray[np.uint8]], *, sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Result]:
        """Classify images, uint8 (H, W, 3) of any sizes, one by one; `sizes` are what boxes are meant for."""
        shapes = sizes or [image.shape[:2] for image in images]
        return [self._predict(np.ascontiguousarray(i), shape) for i, shape in zip(images, shapes, strict=True)]

    def _predict(self, image: NDArray[np.uint8], size: tuple[int, ...]) -> Result:
        found = dict(zip(self._names, self._session.run(None, {"image": image}), strict=True))
        card = self.card
        return make_result(
            card,
            size,
            found["anomaly_map"],
            float(found["probability"]) if card.adn else None,
            float(found["caan_probability"]) if card.has_caan_probability else None,
            found["attention"] if card.attention_points else None,
        )
