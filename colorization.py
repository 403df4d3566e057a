"""The published program's first command: colorizers and anomaly maps, fold by fold.

    python colorization.py --dataset PlantVillage/Potato --SAVE_PATH PlantVillage/Potato

Its flags and defaults are the published ones; `leanet colorize` does the same with more choice.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TypeVar

from leanet.cli import guarded
from leanet.config import ColorizeConfig, ColorizerConfig, ComputeConfig, DataConfig
from leanet.ranks import is_first

T = TypeVar("T", int, float)


def read_arguments() -> argparse.Namespace:
    """The published flags, and --recipe to leave the published training behind; None: as the recipe has it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="folder with Positive/ and Negative/")
    parser.add_argument("--SAVE_PATH", type=Path, required=True, help="run folder; may be the dataset's own folder")
    parser.add_argument("--n_split", type=int, default=5, help="number of folds (default 5)")
    parser.add_argument("--img_size", type=int, default=256, help="side of the images (default 256)")
    parser.add_argument(
        "--model", choices=("AE", "SegNet", "Unet"), default="Unet", help="colorizer (default Unet)"
    )
    parser.add_argument("--batchSize", type=int, help="images a step (default 16)")
    parser.add_argument("--nEpochs", type=int, help="epochs at the most (default 500)")
    parser.add_argument(
        "--recipe",
        choices=("authors", "leanet"),
        default="authors",
        help="training (default authors; leanet has other defaults of batch and epochs)",
    )
    return parser.parse_args()


def read_config() -> ColorizeConfig:
    """The options of `leanet` that the published flags stand for."""
    arguments = read_arguments()

    def own(given: T | None, published: T) -> T | None:
        """None, which is the recipe's own number, where the published one is given: they are one and the same."""
        return None if arguments.recipe == "authors" and given == published else given

    return ColorizeConfig(
        dataset=arguments.dataset,
        out=arguments.SAVE_PATH,
        data=DataConfig(image_size=arguments.img_size, n_splits=arguments.n_split),
        colorizer=ColorizerConfig(
            colorizer=arguments.model,
            colorizer_epochs=own(arguments.nEpochs, 500),
            colorizer_batch_size=own(arguments.batchSize, 16),
        ),
        compute=ComputeConfig(recipe=arguments.recipe),
    )


def main() -> int:
    """Run stage 1 as the published program would."""
    config = read_config()
    from leanet.console import show_log
    from leanet.experiment.colorize import colorize
    from leanet.report.pictures import draw_colorizers

    show_log()
    run = colorize(config)
    if is_first():
        draw_colorizers(run, config.compute.folds, run.folder.report)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
