"""Training ResNet18 with the ResNet CAAN at point 2: milliseconds an image, against the plain baseline.

    python -m benchmarks.train_detector --images plantvillage_potato

The bar: 4 times as fast (goal 5) at 256 px in batches of 16. The baseline decodes files and holds the
anomaly maps in memory; leanet reads its pixel cache and the maps that a colorizer of the run left. Both train to
the update.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baseline import detector_step
from benchmarks.ours import best_compute, compare_training, open_images, training_parser
from leanet.experiment.colorize import write_maps
from leanet.experiment.detect import map_reader
from leanet.networks.leanet import LEANet
from leanet.networks.registry import build_colorizer, build_leanet
from leanet.training.detection import RECIPES, DetectionData, loss
from leanet.training.loop import Engine

BAR = 4.0


def main() -> None:
    """Make anomaly maps, then time both in turn."""
    arguments = training_parser(__doc__, "train_detector").parse_args()
    side = arguments.side

    def build() -> LEANet:
        return build_leanet("ResNet18", "ResNet", (2,), side)

    with open_images(arguments) as images:
        run, compute = images.run, best_compute()
        write_maps(build_colorizer("Unet", side), compute, run, 0)
        maps = run.maps(0)
        shuffled = np.random.default_rng(0).permutation(len(run.images))  # both classes in every batch
        rows = images.choose(shuffled, arguments)
        data = DetectionData(run.pixels, map_reader(maps, "normals"), run.labels, rows, augment=True)

        model = build()
        adam = torch.optim.Adam(model.parameters(), 1e-4)
        in_memory = maps.delta_e(np.arange(len(run.images)))

        def step(batch: NDArray[np.int64]) -> None:
            labels = torch.from_numpy(run.labels[batch])
            detector_step(model, adam, images.of(batch), side, in_memory[batch], labels)

        compare_training(arguments, BAR, step, Engine(build, loss, compute), data, RECIPES["leanet"], rows)


if __name__ == "__main__":
    main()
