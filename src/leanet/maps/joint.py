"""Several map sources as one."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from leanet.config import ColorizerConfig
from leanet.maps.source import AnomalyMap, History, MapSource, Normals
from leanet.ranks import is_first
from leanet.training.compute import Compute
from leanet.training.prediction import predictor
from leanet.training.session import Session

BATCH = 32
"""Images at a time."""


class JointMap(MapSource):
    """The mean of several sources' maps, each divided by its own mean over normal training images.

    Several maps are several channels of one guide. Attention takes the mean over a guide's channels, so one channel
    with their mean is the same guide.

    A part with descriptions computes them anew in each fit.

    Attributes:
        scales: float (parts,), what each part's maps are divided by.

    Args:
        parts: sources by name, with new weights.
    """

    unit = "times the normals'"
    step = 0.001

    scales: Tensor

    def __init__(self, image_size: int, config: ColorizerConfig, parts: Mapping[str, MapSource]) -> None:
        super().__init__(image_size, config)
        self.parts = nn.ModuleDict(parts)
        self.has_chroma = any(part.has_chroma for part in parts.values())
        self.register_buffer("scales", torch.ones(len(parts)))

    def fit(self, normals: Normals, session: Session) -> History:
        """Fit each part and learn its scale; the history has the losses of those that are trained in epochs."""
        histories, checkpoints = {}, []
        for i, (name, part) in enumerate(self._parts()):
            path = session.checkpoint.path
            checkpoint = dataclasses.replace(session.checkpoint, path=path.with_name(f"{name}-{path.name}"))
            own = dataclasses.replace(session, checkpoint=checkpoint, engines=session.engines.of_part(name))
            histories[name], scale = _fitted(part, normals, own)
            self.scales[i] = max(scale, part.step)  # never 0: maps are divided by it
            checkpoints.append(checkpoint)
        if is_first():
            for checkpoint in checkpoints:
                checkpoint.remove()
        return _side_by_side(histories)

    def forward(self, images: Tensor) -> AnomalyMap:
        """Maps (N, 1, H, W), about 1 on normal images; the extras hold each part's map by name, and its extras."""
        found = {name: part(images) for name, part in self._parts()}
        scaled = [each.values / scale for each, scale in zip(found.values(), self.scales, strict=True)]
        extras = {name: tensor for each in found.values() for name, tensor in each.extras.items()}
        maps = {name: each.values for name, each in found.items()}
        return AnomalyMap(torch.stack(scaled).mean(0), self.unit, {**extras, **maps})

    def paint(self, images: Tensor, found: AnomalyMap) -> Tensor | None:
        """What the first part paints that paints: the colorizer, if there is one."""
        painted = (part.paint(images, found) for _, part in self._parts())
        return next((each for each in painted if each is not None), None)

    def _parts(self) -> Iterator[tuple[str, MapSource]]:
        for name, part in self.parts.items():
            assert isinstance(part, MapSource)
            yield name, part


def _fitted(part: MapSource, normals: Normals, session: Session) -> tuple[History, float]:
    """Fit a source; its history, and the mean of its maps of normal images.

    A source with descriptions compares with stored ones, and maps of images that it was fitted to are nearly 0. Its
    scale is the mean over half of the images, of maps by a fit to the other half.
    """
    if not part.described_by:
        history = part.fit(normals, session)
        return history, _mean(part, normals, session.compute)
    normals = _described(part, normals, session.compute)
    half, other = (dataclasses.replace(normals, rows=rows) for rows in np.array_split(normals.rows, 2))
    never_saved = dataclasses.replace(
        session.checkpoint, path=session.checkpoint.path.with_name("half"), every_seconds=math.inf
    )
    part.fit(half, dataclasses.replace(session, checkpoint=never_saved))
    scale = _mean(part, other if len(other) else half, session.compute)
    return part.fit(normals, session), scale


def _described(part: MapSource, normals: Normals, compute: Compute) -> Normals:
    """The normal images with their descriptions; rows of other images stay empty."""
    part.load_pretrained()
    describe = predictor(part, compute.in_float32(), "describe")
    found = np.concatenate([describe(images).cpu().numpy() for images in normals.batches(BATCH)])
    descriptions = np.zeros((len(normals.pixels), *found.shape[1:]), found.dtype)
    descriptions[normals.rows] = found
    return dataclasses.replace(normals, descriptions=descriptions)


def _mean(part: MapSource, normals: Normals, compute: Compute) -> float:
    """The mean of a source's maps of these images."""
    make, total = predictor(part, compute.in_float32(), "compare"), 0.0
    for start, images in zip(itertools.count(0, BATCH), normals.batches(BATCH), strict=False):
        rows = normals.rows[start : start + BATCH]
        given = images if normals.descriptions is None else torch.from_numpy(normals.descriptions[rows])
        total += float(make(given).values.mean((1, 2, 3)).sum())
    return total / len(normals)


def _side_by_side(histories: Mapping[str, History]) -> History:
    """One history with each part's loss by epoch; a training that stopped early keeps its last loss."""
    losses = {
        f"{name}_loss": [row["loss"] for row in rows]
        for name, rows in histories.items()
        if rows and "loss" in rows[0]
    }
    epochs = max(map(len, losses.values()), default=0)
    return [
        {"epoch": epoch + 1.0, **{name: each[min(epoch, len(each) - 1)] for name, each in losses.items()}}
        for epoch in range(epochs)
    ]
