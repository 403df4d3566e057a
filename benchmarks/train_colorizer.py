"""Training the Unet colorizer, including FancyPCA and Lab: milliseconds per image, against the plain baseline.

    python -m benchmarks.train_colorizer --images plantvillage_potato

The bar: 4 times as fast at 256 px. The baseline decodes files, leanet reads its pixel cache; both augment, convert
to Lab, and update the weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.baseline import as_published, colorizer_step
from benchmarks.common import apart
from benchmarks.ours import batches_of, best_compute, compare_training, open_images, training_parser
from leanet.networks.registry import build_colorizer
from leanet.training.colorization import RECIPES, ColorizationData, loss
from leanet.training.loop import Engine

BAR = 4.0


def plain_epoch(side: int, batches: list[list[str]]) -> Callable[[], None]:
    """An epoch of the baseline, from each batch's files."""
    model = as_published(build_colorizer("Unet", side))
    adam = torch.optim.Adam(model.parameters(), 1e-3)

    def epoch() -> None:
        for files in batches:
            colorizer_step(model, adam, files, side)

    return epoch


def main() -> None:
    """Time both alternately."""
    arguments = training_parser(__doc__, "train_colorizer").parse_args()
    side = arguments.side
    with open_images(arguments) as images:
        rows = images.choose(np.flatnonzero(images.run.labels == 0), arguments)
        compute = best_compute(compiled=True)
        data = ColorizationData(images.run.pixels, rows, RECIPES["leanet"], compute.compiled)
        engine = Engine(lambda: build_colorizer("Unet", side), loss, compute)
        batches = [images.of(batch) for batch in batches_of(rows, arguments.batch)]
        with apart(plain_epoch, side, batches) as baseline:
            compare_training(arguments, BAR, baseline, engine, data, RECIPES["leanet"], rows)


if __name__ == "__main__":
    main()
