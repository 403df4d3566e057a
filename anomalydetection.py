"""The published program's second command: LEA-Nets on the folds that colorization.py left.

    python anomalydetection.py --dataset PlantVillage/Potato --SAVE_PATH PlantVillage/Potato

Its flags and defaults are the published ones; `leanet detect` does the same with more choice.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TypeVar

from leanet.cli import guarded
from leanet.config import ComputeConfig, DetectConfig, DetectorConfig

T = TypeVar("T", int, float)


def read_arguments() -> argparse.Namespace:
    """The published flags, --AND as the published document spells --ADN, and --recipe; None: as that has it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="run folder with the folds of colorization.py")
    parser.add_argument("--SAVE_PATH", type=Path, required=True, help="folder to write to; may be the same")
    parser.add_argument(
        "--p_rate", type=float, default=1.0, help="share of the training positives kept (default 1.0)"
    )
    parser.add_argument(
        "--ADN", "--AND", choices=("VGG16", "ResNet18", "CNN"), default="VGG16", help="default VGG16"
    )
    parser.add_argument(
        "--CAAN", choices=("MobileNet", "ResNet", "Direct"), default="MobileNet", help="default MobileNet"
    )
    parser.add_argument("--attPoint", type=int, choices=range(1, 6), default=1, help="attention point (default 1)")
    parser.add_argument("--batchSize", type=int, help="images a step (default 32)")
    parser.add_argument("--nEpochs", type=int, help="epochs (default 100)")
    parser.add_argument("--lr", type=float, help="learning rate (default 0.0001)")
    parser.add_argument(
        "--recipe",
        choices=("authors", "leanet"),
        default="authors",
        help="training (default authors; leanet has other defaults of batch, epochs and rate)",
    )
    return parser.parse_args()


def read_config() -> DetectConfig:
    """The options of `leanet` that the published flags stand for."""
    arguments = read_arguments()

    def own(given: T | None, published: T) -> T | None:
        """None, which is the recipe's own number, where the published one is given: they are one and the same."""
        return None if arguments.recipe == "authors" and given == published else given

    return DetectConfig(
        run=arguments.dataset,
        out=arguments.SAVE_PATH,
        detector=DetectorConfig(
            adn=arguments.ADN,
            caan=arguments.CAAN,
            attention_point=(arguments.attPoint,),
            p_rate=arguments.p_rate,
            epochs=own(arguments.nEpochs, 100),
            batch_size=own(arguments.batchSize, 32),
            lr=own(arguments.lr, 0.0001),
        ),
        compute=ComputeConfig(recipe=arguments.recipe),
        compare=False,
    )


def main() -> int:
    """Run stage 2 as the published program would, and print its per-fold reports."""
    config = read_config()
    from leanet.console import show_log
    from leanet.experiment.run import results_of
    from leanet.report.pictures import draw_detectors
    from leanet.report.text import print_fold_reports, print_results

    show_log()
    if results := results_of(config):
        print_results(results)
        print_fold_reports(results.experiment)
        draw_detectors(results.experiment)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
