r"""Does a model localize anomalies? Count boxes that touch the mask, miss the leaf, or are on healthy leaves.

    python -m benchmarks.where --out where --sets plantvillage_pepper magnetic_tile \
        --samples hazelnut_sample leather_sample

`leanet fit` fits a part of each data set, and the model predicts the rest: synthetic leaves (with a LEA-Net and a
colorizer) and the sets (with what `fit` does by default) with 60 normal and 60 anomalous training pictures, no
group on both sides; the samples with their good pictures alone. Three rules draw boxes: the earlier rule, in every
picture, around pixels of the anomaly map above the 99th percentile of the training normals' pixels; today's, in
pictures called anomalous, above the peaks of held-out normals in the heat map; and today's regardless of the
decision. The leaf is everything greener than gray, or saturated and yellower than blue, with holes filled. To
resume, repeat the command.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, binary_fill_holes, find_objects
from scipy.ndimage import label as connected_regions

import leanet
from benchmarks.common import call, facts, link, parser, write_csv
from leanet.data.dataset import Sample, by_group, with_groups
from leanet.data.decode import decode, resize
from leanet.data.sources.folder import scan
from leanet.data.synthetic import make_leaves
from leanet.files import write_csv as write_table
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.where import Box, strongest_region

EACH = 60
"""Pictures per class to fit, and as many to predict."""

BATCH = 32

SYNTHETIC = ("--image-size", "64", "--epochs", "25", "--colorizer-epochs", "40")

Mark = NDArray[np.bool_]


@dataclass(frozen=True)
class Asked:
    """A picture to predict.

    Attributes:
        file: the picture.
        anomalous: its label.
        mask: where it is anomalous; None if unknown.
    """

    file: Path
    anomalous: bool
    mask: Path | None = None


def earlier_box(anomaly_map: NDArray[np.float32], unit: float) -> Box | None:
    """The earlier rule's box, in map pixels: the region with the largest sum above unit and half maximum."""
    regions, count = connected_regions(anomaly_map > max(unit, 0.5 * float(anomaly_map.max())), np.ones((3, 3)))
    if not count:
        return None
    rows, columns = find_objects(regions)[int(np.bincount(regions.ravel(), anomaly_map.ravel())[1:].argmax())]
    return columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start


def leaf_of(pixels: NDArray[np.uint8]) -> Mark:
    """The leaf on a gray background, bool (H, W)."""
    red, green, blue = (pixels[..., i].astype(np.float64) for i in range(3))
    saturation = 1 - pixels.min(-1) / np.maximum(pixels.max(-1), 1)
    regions, _ = connected_regions((2 * green - red - blue > 20) | ((saturation > 0.3) & (green > blue + 15)))
    largest = regions == 1 + np.bincount(regions.ravel())[1:].argmax()
    found: Mark = binary_dilation(binary_fill_holes(largest), iterations=max(1, len(pixels) // 64))
    return found


def part(dataset: Path, out: Path, groups: Path | None) -> list[Asked]:
    """Link the pictures to fit into OUT/fit, with their groups beside it; return as many from other groups.

    Without groups, the first pictures of every kind are fitted and the last predicted; with groups, they are
    shuffled.
    """
    asked: list[Asked] = []
    lines: list[tuple[str, str]] = []
    members = by_group(with_groups(scan(dataset), groups) if groups else scan(dataset))
    names = sorted(members)
    samples = [sample for name in names for sample in members[name]]
    kinds = sorted({(sample.label, sample.kind) for sample in samples})
    for label, kind in kinds:
        of_kind = [name for name in names if (members[name][0].label, members[name][0].kind) == (label, kind)]
        if groups:
            random.Random(0).shuffle(of_kind)
        each = EACH // sum(other == label for other, _ in kinds)
        samples = [sample for name in of_kind for sample in members[name]]
        for sample in samples[:each]:
            name = Path(("Negative", "Positive")[label], kind if label else "", Path(sample.file).name)
            link(dataset / sample.file, out / "fit" / name)
            lines.append((name.as_posix(), sample.group))
        asked += [asked_about(dataset, sample) for sample in samples[-each:]]
    if groups:
        write_table(out / "groups.csv", ("file", "group"), sorted(lines))
    return asked


def normals_of(dataset: Path, out: Path) -> list[Asked]:
    """Link the good pictures into OUT/fit; return the anomalous ones with a mask."""
    samples = scan(dataset).samples
    for sample in samples:
        if not sample.label:
            link(dataset / sample.file, out / "fit" / "Negative" / sample.file.replace("/", "-"))
    return [asked_about(dataset, sample) for sample in samples if sample.mask]


def asked_about(dataset: Path, sample: Sample) -> Asked:
    """A data set's picture to predict."""
    return Asked(dataset / sample.file, bool(sample.label), None if sample.mask is None else dataset / sample.mask)


def model_of(out: Path, options: Sequence[str]) -> AnomalyModel:
    """The model of OUT/fit, fitted if missing."""
    groups = ("--groups", str(out / "groups.csv")) if (out / "groups.csv").exists() else ()
    if not (out / "model").exists():
        call("fit", str(out / "fit"), "--out", str(out / "model"), *options, *groups)
    return leanet.load(out / "model")


def is_right(asked: Asked, box: Box, side: int) -> bool:
    """Whether a box in a picture (side, side) touches the mask or, without a mask, is mostly on the leaf."""
    left, top, width, height = box
    inside = (slice(top, top + height), slice(left, left + width))
    if asked.mask is None:
        return bool(leaf_of(resize(decode(asked.file), side))[inside].mean() >= 0.5)
    with Image.open(asked.mask) as image:
        mask = np.asarray(image.convert("L").resize((side, side), Image.Resampling.BOX))
    return bool(mask[inside].any())


def measured(name: str, model: AnomalyModel, asked: Sequence[Asked]) -> list[dict[str, object]]:
    """One row per rule: the number of pictures with a box, and of right boxes."""
    side, unit, peaks = model.card.image_size, model.card.normals_unit, model.card.normals_peaks
    assert unit is not None
    assert peaks is not None
    pixels = [resize(decode(one.file), side) for one in asked]
    results = [r for i in range(0, len(pixels), BATCH) for r in model.predict_pixels(pixels[i : i + BATCH])]
    maps = [r.anomaly_map for r in results if r.anomaly_map is not None]
    heat = [r.shown for r in results if r.shown is not None]
    boxes = {
        "earlier rule": [earlier_box(one, unit) for one in maps],
        "today's": [r.box for r in results],
        "today's, whatever the decision": [strongest_region(one, peaks, side, side) for one in heat],
    }
    right = "touch the mask" if all(one.mask for one in asked if one.anomalous) else "lie mostly on the leaf"
    lines: list[dict[str, object]] = []
    for rule, found in boxes.items():
        sick = [is_right(one, box, side) for one, box in zip(asked, found, strict=True) if one.anomalous and box]
        healthy = [box is not None for one, box in zip(asked, found, strict=True) if not one.anomalous]
        lines.append(
            {
                "set": name,
                "heat": model.card.heat,
                "rule": rule,
                "anomalous": len(asked) - len(healthy),
                "called_anomalous": sum(
                    r.anomalous for one, r in zip(asked, results, strict=True) if one.anomalous
                ),
                "boxes": len(sick),
                "right": sum(sick),
                "normal": len(healthy),
                "normal_with_box": sum(healthy),
            }
        )
        print(
            f"{name}, {rule}: of {lines[-1]['anomalous']} anomalous pictures ({lines[-1]['called_anomalous']} "
            f"called so) {len(sick)} have a box, {sum(sick)} of these {right}; "
            f"of {len(healthy)} normal ones {sum(healthy)} have one",
            flush=True,
        )
    return lines


def main() -> None:
    """Fit missing models, predict, and count."""
    arguments = parser(__doc__, "where")
    arguments.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    arguments.add_argument("--sets", type=Path, nargs="*", default=[], help="sets, with groups.csv if they have it")
    arguments.add_argument("--samples", type=Path, nargs="*", default=[], help="folders in the MVTec AD layout")
    given = arguments.parse_args()
    machine = facts()
    lines: list[dict[str, object]] = []
    leaves = given.out / "leaves"
    if not leaves.exists():
        make_leaves(leaves, n_normal=2 * EACH, n_anomalous=2 * EACH, image_size=64, seed=7)
    home = given.out / "synthetic"
    asked = part(leaves, home, None)
    lines += measured("synthetic leaves", model_of(home, SYNTHETIC), asked)
    for one in given.sets:
        home, groups = given.out / one.name, one / "groups.csv"
        asked = part(one, home, groups if groups.exists() else None)
        lines += measured(one.name, model_of(home, ()), asked)
    for sample in given.samples:
        home = given.out / sample.name
        asked = normals_of(sample, home)
        lines += measured(sample.name, model_of(home, ()), asked)
    write_csv(given.csv, lines, machine)


if __name__ == "__main__":
    main()
