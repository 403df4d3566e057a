"""The large pictures of a data set as tiles to train and test on, with labels from the pictures' masks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from leanet.data.dataset import Dataset, Sample
from leanet.data.decode import UnreadableImageError, size_of
from leanet.data.find import listed
from leanet.data.masks import checked_mask
from leanet.data.threads import in_threads
from leanet.data.tiles import SmallerThanTileError, Tiling, part_name
from leanet.errors import UserError

LEAST_SHARE = 0.005
"""Share of its pixels from which a tile is anomalous: at 256 px, 18 x 18."""


@dataclass(frozen=True)
class _Cut:
    """The tiles of a picture, and how many are left out; all of them, if its mask is empty."""

    file: str
    tiles: tuple[Sample, ...] = ()
    left_out: int = 0
    too_small: str = ""
    has_empty_mask: bool = False


def into_tiles(dataset: Dataset, tiling: Tiling) -> Dataset:
    """Divide each picture into tiles; those of a picture have its group.

    A tile of an anomalous picture is anomalous if the mask marks LEAST_SHARE of its pixels, or as many as in any of
    the picture's tiles. A tile with fewer of them is left out: neither label is right. Tiles without any are
    normal, and so are those of normal pictures. An anomalous picture whose mask is empty is left out.

    Args:
        dataset: pictures with their groups. One whose header cannot be read stays as it is: what reads it says why.
        tiling: side and overlap of the tiles.
    Returns:
        The tiles, normal ones first, under names of `leanet.data.tiles.part_name`. Masks have such names too.
    Raises:
        UserError: an anomalous picture without a mask, or with one that is unreadable or of another size; a picture
            that is smaller than a tile.
    """
    bare = [sample for sample in dataset.of_class(1) if not sample.mask]
    if bare:
        raise UserError(
            f"{dataset.place_of(bare[0])}: anomalous, but without a mask{_others(bare)}, which tells --tile its "
            "anomalous tiles. Add masks, or name a Label Studio export with boxes, or leave out --tile."
        )
    found = in_threads(lambda sample: _cut(dataset, sample, tiling), dataset.samples)
    small = [each.too_small for each in found if each.too_small]
    if small:
        raise UserError(f"{small[0]}{_others(small)}. Or leave these pictures out.")
    tiles = [tile for each in found for tile in each.tiles]
    anomalous, cut = sum(tile.label for tile in tiles), sum(bool(each.tiles) for each in found)
    notes = [f"--tile {tiling.side}: {cut} pictures as {len(tiles)} tiles, {anomalous} of them anomalous"]
    if left_out := sum(each.left_out for each in found):
        notes.append(f"left out, with less than {LEAST_SHARE:.1%} of their pixels anomalous: {left_out} tiles")
    if empty := [each.file for each in found if each.has_empty_mask]:
        notes.append(f"left out, anomalous with an empty mask: {listed(empty)}")
    ordered = tuple(sorted(tiles, key=lambda tile: tile.label))  # which keeps the order within a class
    return replace(dataset, samples=ordered, notes=(*dataset.notes, *notes), is_exact=False)


def _cut(dataset: Dataset, sample: Sample, tiling: Tiling) -> _Cut:
    try:
        size = size_of(dataset.read(sample))
    except UnreadableImageError:
        size = None
    if size is None:
        return _Cut(sample.file, (sample,))
    try:
        parts = tiling.parts(*size)
    except SmallerThanTileError as error:
        return _Cut(sample.file, too_small=f"{dataset.place_of(sample)}: {error}")
    if not sample.label:
        return _Cut(
            sample.file, tuple(replace(sample, file=part_name(sample.file, part), part=part) for part in parts)
        )
    mask = checked_mask(dataset, sample, (size[1], size[0]))
    shown = [int(np.count_nonzero(mask[y : y + h, x : x + w])) for x, y, w, h in parts]
    if not max(shown):
        return _Cut(sample.file, has_empty_mask=True)
    enough = min(LEAST_SHARE * tiling.side**2, max(shown))
    assert sample.mask is not None, "checked before"
    tiles = tuple(
        replace(
            sample,
            file=part_name(sample.file, part),
            label=int(count >= enough),
            kind=sample.kind if count else "",
            mask=part_name(sample.mask, part) if count else None,
            part=part,
        )
        for part, count in zip(parts, shown, strict=True)
        if count >= enough or not count
    )
    return _Cut(sample.file, tiles, len(parts) - len(tiles))


def _others(of: list[Sample] | list[str]) -> str:
    return f" (and {len(of) - 1} more)" if len(of) > 1 else ""
