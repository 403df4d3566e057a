"""From image files to probabilities and anomaly maps: milliseconds an image, against the plain baseline.

    python -m benchmarks.predict --images plantvillage_potato

The bar: 4 times as fast (goal 6) at 256 px in batches of 32. Networks are Unet and ResNet18 with the ResNet
CAAN at point 2, untrained, the same weights on both sides. Timed: decode, resize, colorizer, ΔE00, LEA-Net.

The package has no single function for this way yet. Until it has, `predict_batch` strings together those that a
run uses: decode and resize in threads, `recolour`, `scale_map`, `experiment.detect.predict`. These compute eagerly
and in float32; where they learn to do better, this number follows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.baseline import decode as plain_decode
from benchmarks.baseline import predict_files, to_batch
from benchmarks.common import BASELINE, OURS, alternate, apart, facts, report, seconds_an_image
from benchmarks.ours import batches_of, best_compute, open_images, timing_parser
from leanet.color.anomaly_map import scale_map
from leanet.data.pixels import decode, in_threads, resize
from leanet.experiment.colorize import recolour
from leanet.experiment.detect import predict
from leanet.networks.registry import build_colorizer, build_leanet
from leanet.training.colorization import images_to_tensor
from leanet.training.prediction import predictor

BAR = 4.0
UNIT = 10.0  # ΔE00 that maps are divided by: of the size that trainings find


def predict_batch(
    colorizer: Callable[..., Any], detector: Callable[..., Any], files: list[str], side: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Probabilities (N,) of an anomaly and maps (N, H, W) in ΔE00, as a run computes them."""
    pixels = np.stack(in_threads(lambda file: resize(decode(Path(file)), side), files))
    rows = np.arange(len(files))
    maps, _ = recolour(colorizer, images_to_tensor(pixels, rows), compiled=True)
    scaled = scale_map(maps, "normals", UNIT)
    probabilities, _ = predict(detector, pixels, lambda some: scaled[torch.from_numpy(some)], rows)
    return probabilities, maps[:, 0].cpu().numpy()


def settle(model: nn.Module, *inputs: Tensor) -> None:
    """Take BatchNorm's statistics from one batch: untrained networks are sure of all else."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(*inputs)


def plain_work(networks: tuple[nn.Module, nn.Module], batches: list[list[str]], side: int) -> Callable[[], None]:
    """The baseline's predictions of all batches of files."""

    def work() -> None:
        for files in batches:
            predict_files(*networks, files, side, UNIT)

    return work


def main() -> None:
    """Time both in turn, and see that both say the same."""
    arguments = timing_parser(__doc__, "predict", batch=32).parse_args()
    machine, side = facts(), arguments.side
    with open_images(arguments) as images:
        compute = best_compute(compiled=True)
        rows = images.choose(np.arange(len(images.run.images)), arguments)
        batches = [images.of(batch) for batch in batches_of(rows, arguments.batch)]
        plain = build_colorizer("Unet", side), build_leanet("ResNet18", "ResNet", (2,), side)
        some = to_batch([plain_decode(file, side) for file in batches[0]])
        settle(plain[0], some[:, :1])
        settle(plain[1], some, torch.rand_like(some[:, :1]))
        colorizer, detector = (predictor(model, compute) for model in plain)

        def ours() -> None:
            for files in batches:
                predict_batch(colorizer, detector, files, side)

        with apart(plain_work, plain, batches, side) as baseline:
            times = alternate(
                lambda: {BASELINE: baseline() / len(rows)},
                lambda: {OURS: seconds_an_image(ours, len(rows))},
                arguments.rounds,
            )
        expected = predict_files(*plain, batches[0], side, UNIT)
        found = predict_batch(colorizer, detector, batches[0], side)
    in_probability, in_map = (
        float(np.abs(found[0] - expected[0]).max()),
        float(np.abs(found[1] - expected[1]).max()),
    )
    print(f"largest difference of a probability {in_probability:.1e}, of a map {in_map:.1e} ΔE00")
    settings = {"side": side, "batch": arguments.batch, "compute": compute}
    differences = {"probability_difference": in_probability, "map_difference": in_map}
    report(times, BAR, arguments.csv, machine, **settings, **differences)


if __name__ == "__main__":
    main()
