"""The interface of every trained model: images in, results out."""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from leanet.data.shape import to_square
from leanet.errors import UserError
from leanet.model.card import Card, with_threshold
from leanet.model.picture import Picture, is_picture, to_pixels
from leanet.model.result import Result
from leanet.model.tiles import by_tiles_of

BATCH = 16

NO_COLORIZER = "this model has no colorizer and cannot make anomaly maps: pass anomaly_maps and map_coding."


class AnomalyModel(ABC):
    """A model as `leanet.load` returns it, from a model folder or an exported file.

    Attributes:
        card: the model's description: its networks, threshold and training data.
        at_once: threads that may call it at once with a gain, see `leanet.model.load`.
        together: most images that `predict_pixels` computes in one pass.
    """

    card: Card
    at_once: int = 1
    together: int = BATCH

    @overload
    def predict(  # type: ignore[overload-overlap]  # a path is an iterable of texts too; it is a picture first
        self,
        images: Picture,
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        map_coding: Literal["true", "authors"] | None = None,
    ) -> Result: ...

    @overload
    def predict(
        self,
        images: Iterable[Picture],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        map_coding: Literal["true", "authors"] | None = None,
    ) -> list[Result]: ...

    def predict(
        self,
        images: Picture | Iterable[Picture],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        map_coding: Literal["true", "authors"] | None = None,
    ) -> Result | list[Result]:
        """Classify a picture, or several.

        A model that was trained on tiles divides larger pictures, and its result is that of `leanet predict`.

        Args:
            images: a picture (see `Picture`), or an iterable of them, which is read a batch at a time. An array
                uint8 (N, H, W, 3) is N pictures; for a type checker, pass `list(array)`.
            anomaly_maps: only for a model without colorizer: float (N, S, S), unscaled ΔE, 0 or more; S is the
                model's image size.
            map_coding: the maps' coding.
        Returns:
            A Result for one picture, a list of them for several.
        Raises:
            UserError: an unreadable picture; missing maps, or maps of another coding or shape.
        """
        single = is_picture(images) or not isinstance(images, Iterable)
        pictures: Iterable[Any] = [images] if single else images  # type: ignore[assignment]
        if anomaly_maps is not None or self.card.map_source is None:
            pictures = list(pictures)
            anomaly_maps = self._checked(anomaly_maps, map_coding, len(pictures))
        by_tiles = by_tiles_of(self)
        results: list[Result] = []
        numbered = enumerate(pictures)
        while some := list(itertools.islice(numbered, BATCH)):
            sizes, pixels, tiled = [], [], dict[int, Result]()
            for number, picture in some:
                image = to_pixels(picture, "picture" if single else f"picture {number} (counted from 0)")
                if by_tiles is not None and by_tiles.divides(*image.shape[:2]):
                    tiled[number] = by_tiles.predict(image)
                    continue
                sizes.append(image.shape[:2])
                pixels.append(to_square(image, self.card.image_size, self.card.aspect))
            maps = None if anomaly_maps is None else anomaly_maps[some[0][0] : some[-1][0] + 1]
            whole = iter(self.predict_pixels(pixels, maps, sizes=sizes, paint=True) if pixels else [])
            results += [tiled[number] if number in tiled else next(whole) for number, _ in some]
        return results[0] if single else results

    @abstractmethod
    def predict_pixels(
        self,
        images: Sequence[NDArray[np.uint8]],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        paint: bool = False,
    ) -> list[Result]:
        """Classify one batch of images.

        Args:
            images: uint8 (H, W, 3), of any sizes.
            anomaly_maps: float (N, S, S), ΔE, if the model has no colorizer.
            sizes: original heights and widths, for the boxes, if the images were resized.
            paint: whether the results include the recolored images, which takes a tenth longer.
        Raises:
            UserError: an array of another type or shape; sizes or maps for other images; no maps where nothing
                makes them; or maps for an exported model, which makes its own.
        """

    def with_threshold(self, threshold: float) -> Self:
        """The same model with another threshold: a probability or, for a model without detector, a mean ΔE.

        Raises:
            OptionError: a probability outside 0 to 1, or a mean ΔE below 0.
        """
        other = copy.copy(self)
        object.__setattr__(other, "card", with_threshold(self.card, threshold))
        return other

    def _checked(self, maps: NDArray[np.float32] | None, coding: str | None, images: int) -> NDArray[np.float32]:
        if maps is None:
            raise UserError(NO_COLORIZER)
        if coding != self.card.map_coding:
            raise UserError(
                f"map_coding {coding}: this model was trained on maps of coding '{self.card.map_coding}'."
            )
        return checked_maps(maps, (images, self.card.image_size, self.card.image_size))


def checked_maps(maps: NDArray[np.float32], expected: tuple[int, int, int]) -> NDArray[np.float32]:
    """A caller's anomaly maps as float32.

    Raises:
        UserError: not an array of numbers, another shape than expected, or values below 0 or not finite.
    """
    if not isinstance(maps, np.ndarray) or maps.dtype.kind not in "fiu" or maps.shape != expected:
        found = f"{getattr(maps, 'dtype', type(maps).__name__)} {np.shape(maps)}"
        raise UserError(f"anomaly_maps: expected numbers of shape {expected}, found {found}.")
    if not np.isfinite(maps).all() or (maps < 0).any():
        raise UserError("anomaly_maps: expected finite numbers of 0 or more, found others.")
    return np.ascontiguousarray(maps, dtype=np.float32)
