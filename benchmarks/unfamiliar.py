r"""Does a model tell pictures unlike those it was trained on? Shares of several sorts called unfamiliar.

    python -m benchmarks.unfamiliar heads-pepper/run heads-tile/run --others DATA/hurricane DATA/retina_dr

Each run is one that `heads` made; its features are read, not computed. On every fold, the distance is fitted to the
training side, and its limit comes from images that a fit had not seen. Told of each run: the share of the fold's
test images called unfamiliar; of 200 pictures of every other data set; of black, white and noisy frames; of test
images blurred, under color casts and at other exposures; and, kind by kind, of anomalies of a kind left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.common import facts, parser, write_csv
from leanet.color.light import DIRECTIONS, Gains, cast_gains, relit
from leanet.config import DataConfig, DetectConfig, DetectorConfig
from leanet.data.decode import decode_bytes, resize
from leanet.data.registry import list_images
from leanet.experiment.detect import resolved
from leanet.experiment.feature_task import ComputeFeatures
from leanet.experiment.open_run import Run, find
from leanet.model.card import UNFAMILIAR
from leanet.networks.pooled_head import FEATURES
from leanet.networks.registry import find_adn
from leanet.training.familiarity import Distance, farthest_of_classes, fit_familiarity

ADN = "EfficientNet-Lite0"
OTHERS, OWN = 200, 60
"""Pictures of another data set, and test images that are changed."""

FEWEST = 5
"""Images of a kind that is left out."""

Item = TypeVar("Item")
Pixels = NDArray[np.uint8]
Describe = Callable[[Sequence[Pixels]], NDArray[np.float32]]


def main() -> None:
    options = parser(__doc__, "unfamiliar")
    options.add_argument("runs", nargs="+", type=Path, help="run folders that `heads` made")
    options.add_argument("--others", nargs="*", type=Path, default=[], help="further data sets")
    given = options.parse_args()
    lines = []
    for folder in given.runs:
        run = find(folder)
        found = told(run, [*given.runs, *given.others])
        print(name_of(run), *(f"{name} {share:.3f}" for name, share in found.items()), sep=" | ", flush=True)
        lines.append({"trained on": name_of(run), **found})
    names = dict.fromkeys(name for line in lines for name in line)
    write_csv(given.csv or Path("unfamiliar.csv"), [{n: line.get(n, "") for n in names} for line in lines], facts())


def told(run: Run, others: Sequence[Path]) -> dict[str, float]:
    """Shares called unfamiliar, by what the pictures are."""
    config = DetectConfig(run.folder.path, detector=DetectorConfig(ADN, caan="none", tune="head"))
    task = ComputeFeatures(resolved(config, run), ())
    features, describe = task.read(run, 0)[FEATURES], _describer(task, run.side)
    folds = range(len(run.folds))
    sides = [(run.rows(run.folds[n].train), run.rows(run.folds[n].test)) for n in folds]
    fitted = [_fit(run, features, train) for train, _ in sides]
    of_tests = [_share(f, features[test]) for f, (_, test) in zip(fitted, sides, strict=True)]
    found = {"test images": float(np.mean(of_tests))}
    first = fitted[0]
    for other in others:
        if (pictures := _pictures(other, run)) is not None:
            found[_named(other)] = _share(first, describe(pictures))
    found["frames"] = _share(first, describe(list(_frames(run.side))))
    own = [np.array(run.pixels[row]) for row in _some(list(sides[0][1]), OWN)]
    for name, change in CHANGES.items():
        found[name] = _share(first, describe([change(picture) for picture in own]))
    kinds = np.array([image.kind for image in run.images])
    for kind in sorted(set(kinds[run.labels == 1])):
        of_kind = (kinds == kind) & (run.labels == 1)
        if FEWEST <= of_kind.sum() < run.labels.sum():
            left = np.flatnonzero(~of_kind)
            found[f"unseen {kind}"] = _share(_fit(run, features, left), features[of_kind])
    return found


def _fit(run: Run, features: NDArray[np.float32], rows: NDArray[np.int64]) -> tuple[Distance, float]:
    """A distance from these rows' images, and its limit."""
    fitted = fit_familiarity(features[rows], block_channels(run.side), run.labels[rows], run.groups_of(rows), 0)
    assert fitted is not None, "enough images"
    return fitted[0], float(farthest_of_classes(fitted[1], run.labels[rows], UNFAMILIAR))


def _share(fitted: tuple[Distance, float], features: NDArray[np.float32]) -> float:
    return float((fitted[0].of(features) > fitted[1]).mean())


def block_channels(side: int) -> list[int]:
    """The channels of each of the network's blocks."""
    with torch.device("meta"):
        blocks = find_adn(ADN)(side).eval().blocks(torch.empty(1, 3, side, side))
    return [block.shape[1] for block in blocks]


def _describer(task: ComputeFeatures, side: int) -> Describe:
    describe = task.describer(side)

    def described(pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        tensors = (torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 for picture in pictures)
        return np.concatenate([describe(tensor)[FEATURES].numpy() for tensor in tensors])

    return described


def _some(items: Sequence[Item], most: int) -> Sequence[Item]:
    """At most so many, at even steps."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)]


def _named(place: Path) -> str:
    return name_of(find(place)) if (place / "images.csv").exists() else place.name


def name_of(run: Run) -> str:
    return Path(run.folder.read_config()["dataset"]).name


def _pictures(other: Path, run: Run) -> list[Pixels] | None:
    """Pictures of another data set, a folder or a run of it, at this run's size; None of the same one."""
    if (other / "images.csv").exists():
        there = find(other)
        if there.folder.path == run.folder.path:
            return None
        other = Path(there.folder.read_config()["dataset"])
    samples = _some(list_images(other, DataConfig(), 0).samples, OTHERS)
    return [resize(decode_bytes(sample.read(), Path(sample.file)).pixels, run.side) for sample in samples]


def _frames(side: int) -> Iterator[Pixels]:
    """Black, gray and white frames, noise of a covered camera, and noise."""
    generator = np.random.default_rng(0)
    for value in (0, 128, 255):
        yield np.full((side, side, 3), value, np.uint8)
    for most in (8, 30, 256):
        yield generator.integers(0, most, (side, side, 3), dtype=np.uint8)


def _blurred(share: float) -> Callable[[Pixels], Pixels]:
    """A Gaussian blur whose standard deviation is this share of the side."""
    return lambda picture: np.array(
        Image.fromarray(picture).filter(ImageFilter.GaussianBlur(share * picture.shape[0]))
    )


def _cast(delta_e: float) -> Callable[[Pixels], Pixels]:
    """A cast of so many ΔE00, of one picture warm, of the next cool, green and magenta."""
    all_gains = cycle([cast_gains(cast, delta_e) for cast in DIRECTIONS])
    return lambda picture: _in_light(picture, gains=next(all_gains))


def _exposed(stops: float) -> Callable[[Pixels], Pixels]:
    return lambda picture: _in_light(picture, stops=stops)


def _in_light(picture: Pixels, gains: Gains = (1.0, 1.0, 1.0), stops: float = 0.0) -> Pixels:
    moved = relit(torch.from_numpy(picture).permute(2, 0, 1) / 255, gains, stops)
    return (moved.permute(1, 2, 0) * 255).round().byte().numpy()


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "blur 1/32": _blurred(1 / 32),
    "blur 1/16": _blurred(1 / 16),
    "cast 6 ΔE": _cast(6),
    "cast 12 ΔE": _cast(12),
    "cast 20 ΔE": _cast(20),
    "exposure -1": _exposed(-1),
    "exposure +1": _exposed(1),
}


if __name__ == "__main__":
    main()
