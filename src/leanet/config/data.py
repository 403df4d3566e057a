"""Options of the data set: which images, how large, in which folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from leanet.config.limits import OVERLAP, at_least, check_image_size, check_tiles
from leanet.config.shown import AUTO, hidden, recent
from leanet.errors import OptionError

Aspect = Literal["squeeze", "letterbox", "crop"]
"""What becomes of the aspect ratio of a picture that is not square."""

WhiteBalance = Literal["none", "grey-world", "shades-of-grey", "border"]
"""How the light's color is estimated and divided out."""

FIELDS = ("file", "label", "kind", "group", "mask")
"""What a manifest says of an image; other columns are facts."""


@dataclass(frozen=True)
class DataConfig:
    """Options of the data set: images, size, folds."""

    normal_dir: str = "Negative"
    """Folder of normal images inside DATASET (case does not matter)."""
    abnormal_dir: str = "Positive"
    """Folder of anomalous images inside DATASET (case does not matter).
    Its subfolders name the kinds of anomaly."""
    normal: Annotated[tuple[str, ...], *recent("NAME [NAME ...]")] = ()
    """Names of the normal class: of folders in DATASET, or labels in a manifest or an export.
    All other folders and labels are kinds of anomaly."""
    columns: Annotated[tuple[str, ...], *recent("FIELD=COLUMN [FIELD=COLUMN ...]")] = ()
    """Other names of a manifest's columns, such as 'file=path label=class'.
    The fields are file, label, kind, group and mask."""
    groups: Path | None = None
    """CSV file with the columns file and group. Images of one group stay on the same side of every split.
    Further columns are for --hold-out."""
    image_size: int = 256
    """Every image is resized to a square of this side in pixels: a multiple of 32 from 64 to 512."""
    aspect: Annotated[Aspect, *recent("{squeeze,letterbox,crop}")] = "squeeze"
    """How a picture that is not square becomes one: 'squeeze' changes its aspect ratio.
    'letterbox' keeps it, and fills the square with the picture's mirror image. 'crop' keeps the middle alone."""
    white_balance: Annotated[WhiteBalance, *recent("{none,grey-world,shades-of-grey,border}")] = "none"
    """Divide the light's color out of every picture: the mean color, its mean of order 6, or that of the border,
    if the background is neutral. For maps of colors under other cameras and light; measure it."""
    tile: Annotated[int | None, *recent("INT")] = None
    """Divide every picture into square tiles of this side, in the pictures' own pixels, at least 32.
    Masks say which tiles of an anomalous picture are anomalous. Tiles of a picture stay together in every split."""
    overlap: Annotated[float, *recent("FLOAT")] = OVERLAP
    """Share of its side by which a tile overlaps the next one, from 0 to 0.75."""
    n_splits: int = 5
    """Number of cross-validation folds, at least 2."""
    hold_out: Annotated[str | None, *recent("COLUMN[=VALUE]")] = None
    """Test on images whose value of a column does not occur in training, each value in turn or only VALUE.
    'kind', 'group', or a column of a manifest or of --groups, such as the camera, the site or the day."""
    max_per_class: int | None = None
    """Use only about this many images of each class (random by --seed, whole groups), for a quick look."""
    skip_unreadable: bool = False
    """Skip unreadable files and list them, instead of stopping."""
    source: Annotated[str, *hidden()] = AUTO
    """Data source that reads DATASET: 'auto' (by its suffix), or the name of one, which a program may have
    registered."""

    def __post_init__(self) -> None:
        at_least("n_splits", self.n_splits, 2)
        check_image_size(self.image_size)
        check_tiles(self.tile, self.overlap)
        if self.tile is not None and self.white_balance != "none":
            raise OptionError("tile", self.tile, "with --white-balance, each tile is balanced by itself. Omit one.")
        for pair in self.columns:
            field, sign, column = pair.partition("=")
            if not sign or field not in FIELDS or not column.strip():
                raise OptionError("columns", pair, f"expected FIELD=COLUMN, FIELD one of {', '.join(FIELDS)}.")
        if self.hold_out is not None and not self.hold_out.partition("=")[0].strip():
            raise OptionError("hold_out", self.hold_out, "expected the name of a column, or COLUMN=VALUE.")
        if self.max_per_class is not None:
            at_least("max_per_class", self.max_per_class, self.n_splits)

    def column(self, field: str) -> str:
        """The name of a field's column."""
        return dict(pair.split("=", 1) for pair in self.columns).get(field, field)
