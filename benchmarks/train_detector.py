"""Training ResNet18 with the ResNet CAAN at point 2: milliseconds per image, against the plain baseline.

    python -m benchmarks.train_detector --images plantvillage_potato

The bar: 4 times as fast (goal 5) at 256 px in batches of 16. The baseline decodes files and has the anomaly maps in
memory; leanet reads its pixel cache and stored maps. Both update the weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baseline import as_published, detector_step
from benchmarks.common import apart
from benchmarks.ours import batches_of, best_compute, compare_training, open_images, training_parser
from leanet.config import ColorizerConfig
from leanet.experiment.map_reader import map_reader
from leanet.experiment.map_tasks import made_of, map_summary, map_writer, write_maps
from leanet.maps.registry import build_map_source
from leanet.networks.leanet import LEANet
from leanet.networks.registry import build_leanet
from leanet.training.detection import RECIPES, DetectionData, loss
from leanet.training.loop import Engine

BAR = 4.0


def build(side: int) -> LEANet:
    """The untrained detector."""
    return build_leanet("ResNet18", "ResNet", (2,), side)


def plain_epoch(
    side: int, batches: list[list[str]], maps: list[NDArray[np.float32]], labels: list[NDArray[np.int64]]
) -> Callable[[], None]:
    """An epoch of the baseline, from each batch's files, maps (n, H, W) and labels."""
    model = as_published(build(side))
    adam = torch.optim.Adam(model.parameters(), 1e-4)

    def epoch() -> None:
        for batch in zip(batches, maps, labels, strict=True):
            detector_step(model, adam, batch[0], side, batch[1], torch.from_numpy(batch[2]))

    return epoch


def main() -> None:
    """Make anomaly maps, then time both alternately."""
    arguments = training_parser(__doc__, "train_detector").parse_args()
    side = arguments.side
    with open_images(arguments) as images:
        run, compute = images.run, best_compute(compiled=False)
        source = build_map_source(run.map_source, side, ColorizerConfig())
        writer, summary = map_writer(run, 0, source), map_summary(run, 0)
        write_maps(source, compute, run, np.arange(len(run.images)), writer, summary)
        writer.close({**made_of(run, 0), **summary.attributes()})
        maps = run.maps(0)
        shuffled = np.random.default_rng(0).permutation(len(run.images))  # both classes in every batch
        rows = images.choose(shuffled, arguments)
        data = DetectionData(run.pixels, map_reader(maps, "normals"), run.labels, rows, RECIPES["leanet"])
        engine = Engine(lambda: build(side), loss, compute)
        parts = batches_of(rows, arguments.batch)
        of_parts = [images.of(p) for p in parts], [maps.delta_e(p) for p in parts], [run.labels[p] for p in parts]
        with apart(plain_epoch, side, *of_parts) as baseline:
            compare_training(arguments, BAR, baseline, engine, data, RECIPES["leanet"], rows)


if __name__ == "__main__":
    main()
