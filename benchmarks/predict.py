"""From image files to probabilities and anomaly maps: milliseconds per image, against the plain baseline.

    python -m benchmarks.predict --images plantvillage_potato

The bar: 4 times as fast (goal 6) at 256 px in batches of 32. The networks are Unet and ResNet18 with the ResNet
CAAN at point 2, untrained, with the same weights on both sides. Timed: decode, resize, colorizer, ΔE00, LEA-Net.

Our side does what `leanet predict` does for thousands of files: `results_of` with a model, compiled color
functions, in float32 or the given --precision.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.baseline import predict_files
from benchmarks.common import BASELINE, OURS, alternate, apart, facts, report, seconds_an_image
from benchmarks.ours import batches_of, open_images, timing_parser
from leanet.config import ComputeConfig
from leanet.data.decode import decode
from leanet.maps.registry import build_map_source
from leanet.model.card import Card
from leanet.model.model import Model
from leanet.model.predict_files import results_of
from leanet.networks.registry import build_colorizer, build_leanet
from leanet.training.compute import keep_freed_memory, resolve_for_prediction

BAR = 4.0
UNIT = 10.0  # ΔE00 to divide maps by, of a realistic size


def plain_work(networks: tuple[nn.Module, nn.Module], batches: list[list[str]], side: int) -> Callable[[], None]:
    """The baseline's predictions of all batches of files."""

    def work() -> None:
        for files in batches:
            predict_files(*networks, files, side, UNIT)

    return work


def main() -> None:
    """Time both alternately, and compare their predictions."""
    timing = timing_parser(__doc__, "predict", batch=32)
    timing.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    arguments = timing.parse_args()
    machine, side = facts(), arguments.side
    with open_images(arguments) as images:
        compute = resolve_for_prediction(ComputeConfig(precision=arguments.precision, compile="on"))
        print(f"leanet computes on {compute}")
        rows = images.choose(np.arange(len(images.run.images)), arguments)
        batches = [images.of(batch) for batch in batches_of(rows, arguments.batch)]
        plain = build_colorizer("Unet", side), build_leanet("ResNet18", "ResNet", (2,), side)
        card = Card("ResNet18", "ResNet", (2,), side, "true", "normals", UNIT, 0.5, "benchmark", colorizer="Unet")
        maps = build_map_source("color", side, card.maps)
        maps.stored.load_state_dict(plain[0].state_dict())
        model = Model(card, plain[1].eval(), maps.eval(), compute)
        files = [Path(file) for batch in batches for file in batch]

        keep_freed_memory()

        def ours() -> None:  # like the command, it keeps no results
            for _ in results_of(model, files):
                pass

        with apart(plain_work, plain, batches, side) as baseline:
            times = alternate(
                lambda: {BASELINE: baseline() / len(rows)},
                lambda: {OURS: seconds_an_image(ours, len(rows))},
                arguments.rounds,
            )
        expected = predict_files(*plain, batches[0], side, UNIT)
        found = model.predict_pixels([decode(file) for file in files[: len(batches[0])]])
    in_probability = max(abs(r.probability - p) for r, p in zip(found, expected[0], strict=True) if r.probability)
    in_map = max(
        float(np.abs(r.anomaly_map - m).max())
        for r, m in zip(found, expected[1], strict=True)
        if r.anomaly_map is not None
    )
    print(f"largest difference of a probability {in_probability:.1e}, of a map {in_map:.1e} ΔE00")
    settings = {"side": side, "batch": arguments.batch, "compute": compute}
    differences = {"probability_difference": in_probability, "map_difference": in_map}
    report(times, BAR, arguments.csv, machine, **settings, **differences)


if __name__ == "__main__":
    main()
