"""Training the Unet colorizer, FancyPCA and Lab included: milliseconds an image, against the plain baseline.

    python -m benchmarks.train_colorizer --images plantvillage_potato

The bar: 4 times as fast at 256 px. The baseline decodes files, leanet reads its pixel cache; both augment,
convert to Lab, and train to the update.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baseline import colorizer_step
from benchmarks.ours import best_compute, compare_training, open_images, training_parser
from leanet.networks.contract import Colorizer
from leanet.networks.registry import build_colorizer
from leanet.training.colorization import RECIPES, ColorizationData, loss
from leanet.training.loop import Engine

BAR = 4.0


def main() -> None:
    """Time both in turn."""
    arguments = training_parser(__doc__, "train_colorizer").parse_args()

    def build() -> Colorizer:
        return build_colorizer("Unet", arguments.side)

    with open_images(arguments) as images:
        rows = images.choose(np.flatnonzero(images.run.labels == 0), arguments)
        data = ColorizationData(images.run.pixels, rows, "leanet")
        engine = Engine(build, loss, best_compute())

        model = build()
        adam = torch.optim.Adam(model.parameters(), 1e-3)

        def step(batch: NDArray[np.int64]) -> None:
            colorizer_step(model, adam, images.of(batch), arguments.side)

        compare_training(arguments, BAR, step, engine, data, RECIPES["leanet"], rows)


if __name__ == "__main__":
    main()
