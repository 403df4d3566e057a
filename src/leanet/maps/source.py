"""The contract of a map source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from leanet.config import ColorizerConfig, RecipeName
from leanet.data.tensors import images_to_tensor
from leanet.training.session import Session

History = Sequence[Mapping[str, float]]
"""One row per epoch, as `leanet.training.loop.train` returns it; empty if nothing is trained in epochs."""


@dataclass(frozen=True)
class AnomalyMap:
    """Anomaly maps of a batch.

    Attributes:
        values: float32 (N, 1, H, W), 0 or more, finite; higher is more anomalous.
        unit: unit of the values, for display.
        extras: further results by name, such as the recolored chrominance.
    """

    values: Tensor
    unit: str
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Normals:
    """A fold's normal training images, the only images that a map source trains on.

    Attributes:
        pixels: uint8 (M, H, W, 3), memory-mapped; every image of the data set.
        rows: int (N,), the rows of `pixels` to train on.
        descriptions: (M, ...), memory-mapped; what `MapSource.describe` returns for every image of the data set.
            None if the source has no descriptions.
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    descriptions: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int = 32) -> Iterator[Tensor]:
        """The images in order, in batches: float32 (n, 3, H, W) in [0, 1], n at most `size`."""
        for start in range(0, len(self.rows), size):
            yield images_to_tensor(self.pixels, self.rows[start : start + size])


class MapSource(nn.Module, ABC):
    """Makes anomaly maps of images; training, prediction, export and report all call its `forward`.

    All that it learns is in parameters and buffers, which are stored as safetensors.

    A source whose costly part is the same in every fold says so with `described_by`, and overrides `describe` and
    `compare`. An experiment then describes each image once, and `fit` and `compare` read the stored descriptions.

    Attributes:
        unit: unit of the maps, for display.
        step: resolution of stored maps; the largest value that can be stored is 65,535 steps.
        has_chroma: whether `forward` returns the recolored chrominance as the extra 'chroma', to be stored.
        described_by: what `describe` depends on besides the images, such as the network and its weights; stored
            descriptions of another value are made again. '' if the source has no descriptions.
        version: of what `fit` learns, if a source of this name did otherwise before; runs fit it again then.
        compiled: whether `forward` may compile elementwise functions, which pays off for thousands of images.

    Args:
        image_size: side of the images in pixels.
        config: options of the maps.
    """

    unit: ClassVar[str]
    step: ClassVar[float] = 0.005
    has_chroma: bool = False
    described_by: ClassVar[str] = ""
    version: ClassVar[str] = ""

    def __init__(self, image_size: int, config: ColorizerConfig) -> None:
        super().__init__()
        self.image_size, self.config, self.compiled = image_size, config, False

    @abstractmethod
    def fit(self, normals: Normals, session: Session) -> History:
        """Train on the normal images, from new weights or from the session's checkpoint."""

    @abstractmethod
    def forward(self, images: Tensor) -> AnomalyMap:
        """The maps (N, 1, H, W) of images (N, 3, H, W), sRGB: uint8, or float32 in [0, 1].

        They equal `compare(describe(images))`.
        """

    def load_pretrained(self) -> None:
        """Load the pretrained weights that `describe` needs, if any; `fit` does this itself."""
        return

    def describe(self, images: Tensor) -> Tensor:
        """Descriptions (N, ...) of images as `forward` takes them; whatever `fit` learns does not change them.

        They are stored with their dtype.
        """
        return images

    def compare(self, descriptions: Tensor) -> AnomalyMap:
        """The maps (N, 1, H, W) of images by their descriptions (N, ...)."""
        found: AnomalyMap = self(descriptions)
        return found

    @property
    def stored(self) -> nn.Module:
        """The module whose parameters and buffers are stored."""
        return self

    @classmethod
    def image_passes(cls, config: ColorizerConfig, recipe: RecipeName, images: int) -> int:  # noqa: ARG003
        """Images that `fit` processes for this many normal images, summed over the epochs."""
        return images

    def paint(self, images: Tensor, found: AnomalyMap) -> Tensor | None:  # noqa: ARG002
        """The images as the source reconstructs them, float (N, 3, H, W) in [0, 1]; None if it does not."""
        return None
