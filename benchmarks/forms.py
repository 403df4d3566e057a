r"""Forms of external attention, and other uses of the anomaly map and other attention, in the same trained ADN.

    leanet colorize plantvillage_pepper --out pepper --image-size 64 --max-per-class 200
    python -m benchmarks.forms pepper --adn ResNet18 --point 2 --p-rate 0.1 --out pepper-forms

RUN is a folder with folds and anomaly maps. All rows share folds, labeled images, recipe and seeds, and the ADN's
initial weights:

    plain      the ADN without attention
    published, affine, gated, pooled
               the forms of external attention, by the CAAN at the attention point
    shuffled   the published form with another image's anomaly map: a fixed one, of the same side (training, inner
               validation or test)
    channel    no attention: the map is the fourth channel of the ADN's first convolution, with weights 0 at first
    SE, CBAM   no map: timm's layer after the stage of the point
    ABN        no map: an attention branch at the point, with a loss of its own

OUT/forms.csv has a line for each row, fold and seed. Printed as Markdown: mean and 95 % interval, and each row less
the plain ADN, paired by fold. To resume, repeat the command; it trains what is not finished, and prints all. With
--rows, it prints these alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import facts, parser, write_csv
from benchmarks.rivals import CBAM, SQUEEZE_EXCITATION, AttentionBranch, FourthChannel, with_layer
from leanet.config import NO_CAAN, ComputeConfig, DetectConfig, DetectorConfig
from leanet.errors import UserError
from leanet.experiment.detect import resolved, train_detectors
from leanet.experiment.detector_task import TrainDetector
from leanet.experiment.executors.registry import executor
from leanet.experiment.experiment import Experiment
from leanet.experiment.map_reader import ReadMaps
from leanet.experiment.open_run import Run, find
from leanet.experiment.table import scores_of
from leanet.lock import alone_in
from leanet.networks.external_attention import FORMS
from leanet.networks.registry import CAANS, Join, find_adn, register_adn, register_caan
from leanet.results.intervals import shown, verdict
from leanet.results.rows import Row, cell, difference, make_row

PLAIN, SHUFFLED = "plain", "shuffled"
RIVALS = ("channel", "SE", "CBAM", "ABN")
ROWS = (PLAIN, *FORMS, SHUFFLED, *RIVALS)
PRINTED = {"f1": "F1 at 0.5", "f1_chosen": "F1, threshold chosen", "auroc": "AUROC"}
COMPARED = ("f1", "auroc")


@dataclass(frozen=True)
class TrainShuffled(TrainDetector):
    """Train and test a detector with each image's anomaly map replaced by another image's."""

    def read_maps(self, run: Run) -> ReadMaps:
        """The reader of the other images' maps."""
        images = self.images(run)
        sides = (images.train, images.validation, run.rows(run.folds[self.fold].test))
        other = shuffled(len(run.images), sides, (self.config.compute.seed, self.fold, self.seed))
        read = super().read_maps(run)
        return lambda rows: read(other[rows])


def shuffled(n: int, sides: Sequence[NDArray[np.int64]], seed: Sequence[int]) -> NDArray[np.int64]:
    """For each of n rows, another row of its side; the same row for those of no side.

    Args:
        sides: rows of each side, two or more or none; no row has two sides.
        seed: of the order.
    """
    other, random = np.arange(n), np.random.default_rng(seed)
    for side in sides:
        order = random.permutation(side)
        other[order] = np.roll(order, 1)
    return other


def detector_of(row: str, given: argparse.Namespace) -> DetectorConfig:
    """A row's detector; registers the networks that leanet does not have."""
    common: dict[str, Any] = {"p_rate": given.p_rate, "seeds": given.seeds, "epochs": given.epochs, "tune": "all"}
    if row in RIVALS:
        joins: Mapping[str, Join] = {
            "channel": FourthChannel,
            "SE": partial(with_layer, SQUEEZE_EXCITATION, point=given.point),
            "CBAM": partial(with_layer, CBAM, point=given.point),
            "ABN": partial(AttentionBranch, point=given.point),
        }
        at_point = "" if row == "channel" else f"-p{given.point}"
        name = f"{given.adn}-{row}{at_point}".replace("/", "-")
        register_adn(name, joins[row])(find_adn(given.adn))
        return DetectorConfig(name, NO_CAAN, **common)
    if row == PLAIN:
        return DetectorConfig(given.adn, NO_CAAN, **common)
    caan = given.caan
    if row == SHUFFLED:  # another name is another folder
        caan = f"{given.caan}-{SHUFFLED}"
        register_caan(caan)(CAANS[given.caan])
    common["attention"] = "published" if row == SHUFFLED else row
    return DetectorConfig(given.adn, caan, (given.point,), **common)


def trained(row: str, config: DetectConfig, run: Run) -> Experiment:
    """Train a row's detector on the folds that are not finished."""
    if row == SHUFFLED:
        own = Experiment(run, resolved(config, run), tuple(range(len(run.folds))))
        tasks = [TrainShuffled(own.config, fold, seed) for fold, seed in own.trainings]
        executor(config.compute).execute(tasks, [run], row)
    return train_detectors(config)  # of a row that is finished, it refuses other options


def row_of(name: str, experiment: Experiment) -> Row:
    """A row of the table."""
    return make_row(name, scores_of(experiment), experiment.test_to_train)


def lines_of(row: Row) -> list[dict[str, object]]:
    """A line of the CSV file for each fold and seed."""
    return [
        {"row": row.name, "fold": fold, "seed": seed, "images": scores.images, "anomalous": scores.anomalous}
        | {name: getattr(scores, name) for name in (*PRINTED, "threshold_chosen")}
        for (fold, seed), scores in row.runs.items()
    ]


def tell(rows: Sequence[Row]) -> None:
    """Print every row and, where the plain ADN is among them, its differences from that."""
    less = [f"{PRINTED[metric]} less {PLAIN}" for metric in COMPARED]
    plain = next((row for row in rows if row.name == PLAIN), None)
    print(f"\n{rows[0].pooled.prevalence:.0%} of the test images are anomalous; mean [95 % interval]")
    print(f"\n| row | {' | '.join((*PRINTED.values(), *less))} |\n|---|{'---|' * (len(PRINTED) + len(less))}")
    for row in rows:
        cells = [cell(row, metric) for metric in PRINTED]
        for metric in COMPARED:
            found = difference(row, plain, metric) if plain and row is not plain else None
            cells.append(f"{shown(found, '+')} {verdict(found)}" if found else "")
        print(f"| {row.name} | {' | '.join(cells)} |")


def main() -> None:
    """Train every row, and print the table."""
    arguments = parser(__doc__, "forms")
    arguments.set_defaults(csv=None)
    arguments.add_argument("run", type=Path, metavar="RUN")
    arguments.add_argument("--out", type=Path, required=True, help="folder for the detectors")
    arguments.add_argument("--adn", default="ResNet18", help="any ADN (%(default)s)")
    arguments.add_argument("--caan", default="ResNet", choices=list(CAANS), help="of the forms (%(default)s)")
    arguments.add_argument(
        "--point", "--attention-point", type=int, default=2, help="of every row that has one (%(default)s)"
    )
    arguments.add_argument("--p-rate", type=float, default=1, help="share of the training anomalies (%(default)s)")
    arguments.add_argument("--seeds", type=int, default=1, help="trainings on each fold (%(default)s)")
    arguments.add_argument("--seed", type=int, default=0, help="of the labeled images and trainings (%(default)s)")
    arguments.add_argument("--epochs", type=int, help="(default: the recipe's)")
    arguments.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help="(default: all)")
    given = arguments.parse_args()
    machine = facts()
    try:
        rows = all_rows(given, machine)
    except UserError as error:
        raise SystemExit(error.on_command_line) from None
    tell(rows)


def all_rows(given: argparse.Namespace, machine: Mapping[str, object]) -> list[Row]:
    """Train every row; write the CSV file after each.

    Raises:
        UserError: no run, no maps, an unknown ADN or point, or detectors of other options in OUT.
    """
    run, rows, lines = find(given.run), [], []
    configs = {
        name: DetectConfig(
            given.run, given.out, detector_of(name, given), ComputeConfig(seed=given.seed), compare=False
        )
        for name in given.rows
    }
    for config in configs.values():
        resolved(config, run)  # what it refuses, it refuses before any training
    with alone_in(given.out):
        for name, config in configs.items():
            rows.append(row_of(name, trained(name, config, run)))
            print(f"{name}: AUROC {cell(rows[-1], 'auroc')}", flush=True)
            told = {"dataset": run.images_in.name, "side": run.side, "adn": given.adn, "point": given.point}
            told |= {"p_rate": given.p_rate}
            lines += [told | line for line in lines_of(rows[-1])]
            write_csv(given.csv or given.out / "forms.csv", lines, machine)
    return rows


if __name__ == "__main__":
    main()
