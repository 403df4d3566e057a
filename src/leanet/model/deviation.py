"""How much lower precision changes a model's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanet.model.anomaly_model import AnomalyModel
from leanet.model.result import Result

BATCH = 16


@dataclass(frozen=True)
class Deviation:
    """The difference between two ways to compute one model.

    Attributes:
        of: the quantity that is compared with the threshold, see `Card.decisive`.
        images: number of images compared.
        largest_difference: the largest difference in that quantity over these images.
        decisions_changed: number of images with another decision.
    """

    of: str
    images: int
    largest_difference: float
    decisions_changed: int

    def __str__(self) -> str:
        decisions = f"{self.decisions_changed} of {self.images} decisions"
        return f"changes the {self.of} by up to {self.largest_difference:.2g}, and {decisions}"


def deviation(exact: AnomalyModel, coarse: AnomalyModel, images: Sequence[NDArray[np.uint8]]) -> Deviation:
    """Compare a model's predictions in two precisions on the same images.

    Args:
        exact: the model in float32.
        coarse: the model in another precision.
        images: at least one, uint8 (S, S, 3), S the model's image size.
    """
    pairs: list[tuple[Result, Result]] = []
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        pairs += zip(exact.predict_pixels(some), coarse.predict_pixels(some), strict=True)
    return Deviation(
        exact.card.decisive,
        len(pairs),
        max(abs(_measure(one) - _measure(other)) for one, other in pairs),
        sum(one.decision != other.decision for one, other in pairs),
    )


def _measure(result: Result) -> float:
    """The quantity that the threshold is compared with."""
    measure = result.mean_delta_e if result.probability is None else result.probability
    assert measure is not None, "every model makes a map"
    return measure
