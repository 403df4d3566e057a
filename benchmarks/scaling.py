"""Time and peak memory of a run against the number of images and against their side, on synthetic leaves.

    python -m benchmarks.scaling --plot scaling.png

The targets: time grows no faster than the number of images, and memory not at all (within 10 %). Each point is one
`leanet run` of one fold, one epoch per stage, without compilation, in its own process. Startup and the time
estimate cost the same at every point; growth is therefore measured in seconds per additional image.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.common import LEANET, Watched, facts, parser, watch, write_csv
from leanet.data.synthetic import make_leaves

FACTORS = (1, 4, 16)
TOLERANCE = 1.1


@dataclass(frozen=True)
class Point:
    """One run: its images, their side, and its time and memory."""

    images: int
    side: int
    taken: Watched


def measure(images: int, side: int, further: Sequence[str]) -> Point:
    """Run on this many images, half of them anomalous."""
    with tempfile.TemporaryDirectory(prefix="leanet-benchmark-") as scratch:
        leaves, out = Path(scratch) / "leaves", Path(scratch) / "run"
        make_leaves(leaves, n_normal=images // 2, n_anomalous=images // 2, image_size=side)
        data = ["--image-size", str(side), "--n-splits", "2", "--folds", "0"]
        recipe = ["--colorizer-epochs", "1", "--epochs", "1", "--compile", "off", "--no-compare"]
        command = [LEANET, "run", str(leaves), "--out", str(out), *data, *recipe, *further]
        point = Point(images, side, watch(command, interval=0.1, quiet=True))
    print(
        f"{images:6} images of {side} px: {point.taken.seconds:8.1f} s, {point.taken.peak / 1e6:7.0f} MB",
        flush=True,
    )
    return point


def draw(path: Path, by_images: Sequence[Point], by_side: Sequence[Point]) -> None:
    """Draw time (top) and memory (bottom) against the number of images (left) and their side (right)."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col")
    columns = (
        ([p.images for p in by_images], by_images, f"images ({by_images[0].side} px)", 1),
        ([p.side for p in by_side], by_side, f"side in pixels ({by_side[0].images} images)", 2),
    )
    for column, (x, points, label, power) in enumerate(columns):
        time_axes, memory_axes = axes[0, column], axes[1, column]
        seconds = [p.taken.seconds for p in points]
        proportional = [seconds[-1] * (value / x[-1]) ** power for value in x]
        _line(time_axes, x, seconds, "seconds")
        time_axes.plot(x, proportional, "--", color="0.6", label="in proportion to all pixels")
        time_axes.set_yscale("log", base=2)
        time_axes.yaxis.set_major_formatter("{x:g}")
        time_axes.legend()
        gigabytes = [p.taken.peak / 1e9 for p in points]
        _line(memory_axes, x, gigabytes, "peak RssAnon, GB")
        memory_axes.set_ylim(0, 1.2 * max(gigabytes))
        memory_axes.set_xlabel(label)
    figure.savefig(path, dpi=120)


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], label: str) -> None:
    axes.plot(x, y, "o-")
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.set_ylabel(label)


def main() -> None:
    """Measure, draw, and print how both grow."""
    arguments = parser(__doc__, "scaling")
    arguments.add_argument("--images", type=int, default=128, help="images at x1, both classes (%(default)s)")
    arguments.add_argument("--side", type=int, default=128, help="their side for x1, x4, x16 (%(default)s)")
    arguments.add_argument(
        "--sides", type=int, nargs="+", default=(128, 256, 512), help="sides at x1 (%(default)s)"
    )
    arguments.add_argument("--plot", type=Path, default=Path("scaling.png"), help="picture (%(default)s)")
    given, further = arguments.parse_known_args()
    machine = facts()
    by_images = [measure(given.images * factor, given.side, further) for factor in FACTORS]
    by_side = [by_images[0] if side == given.side else measure(given.images, side, further) for side in given.sides]
    draw(given.plot, by_images, by_side)
    rows = [
        {
            "against": name,
            "images": p.images,
            "side": p.side,
            "seconds": p.taken.seconds,
            "peak_bytes": p.taken.peak,
        }
        for name, points in (("images", by_images), ("side", by_side))
        for p in points
    ]
    write_csv(given.csv, rows, machine)
    slopes = [
        (later.taken.seconds - earlier.taken.seconds) / (later.images - earlier.images)
        for earlier, later in itertools.pairwise(by_images)
    ]
    peaks = [p.taken.peak for p in by_images]
    in_time, in_memory = slopes[1] / slopes[0], max(peaks) / peaks[0]
    ms = [round(slope * 1000) for slope in slopes]
    print(f"a further image takes {ms[0]} ms between x1 and x4, {ms[1]} ms between x4 and x16")
    print(f"memory grows {'not at all' if in_memory <= TOLERANCE else 'with the images'}: ratio {in_memory:.2f}")
    if min(slopes) <= 0:
        raise SystemExit("more images took less time: too few or too noisy to say how time grows. Pass --images.")
    print(f"time grows {'no faster' if in_time <= TOLERANCE else 'faster'} than the images: ratio {in_time:.2f}")


if __name__ == "__main__":
    main()
