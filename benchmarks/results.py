r"""LEA-Net against its baseline: choose the point on inner validation sets, then train on all folds and seeds.

    python -m benchmarks.results plantvillage_pepper --groups plantvillage_pepper/groups.csv --out pepper \
        --max-per-class 400
    python -m benchmarks.results hurricane --out hurricane-results --max-per-class 400
    python -m benchmarks.results hurricane --out hurricane-results --max-per-class 400 --p-rate 1 \
        --attention-point 4
    python -m benchmarks.results hurricane --out hurricane-results --max-per-class 400 --attention affine

The third uses the point that the second chose. The last shares colorizers and baseline with the second, and is also
compared with it.

First, a `leanet study` of the attention points 1 to 5, one seed, with a share of each fold's training images held
out (--validation), finds the point with the highest mean AUROC on these, the first in a tie. It is one point for
all folds: test images of one fold are held out or trained on in the others, and so influence the choice. Then
`leanet detect` trains with that point, and the plain ADN, on the same folds and maps, with --seeds seeds; with few
labeled anomalies, these trainings hold nothing out. ResNet18 with the ResNet CAAN, 128 px. Printed as Markdown:
every row with its interval; LEA-Net's ADN, which decides, and its mean with the CAAN, which is exploratory, minus
each row; and each configuration that was scored on these test folds. To resume, repeat the command.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import call, data_options, experiment_parser, facts, write_csv
from leanet.experiment.experiment import Experiment
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.run_folder import RunFolder, read_config
from leanet.experiment.study import HELD_OUT
from leanet.experiment.table import MEAN_OF_BOTH, detector_rows, outcomes_of, table
from leanet.files import read_csv
from leanet.results.baselines import mean_of_logits
from leanet.results.intervals import shown, verdict
from leanet.results.metrics import METRICS, PRINTED, Scored
from leanet.results.rows import Row, cell, difference, make_row

POINTS = ("1", "2", "3", "4", "5")
NETWORKS = ("--adn", "ResNet18", "--caan", "ResNet")


def held_out(out: Path, p_rate: float, attention: str) -> dict[str, dict[str, str]]:
    """Attention point -> the study's row with the AUROC on held-out training images."""
    wanted = {"metric": HELD_OUT, "p_rate": f"{p_rate:g}", "attention": attention}
    lines = [
        line for line in read_csv(out / "report" / "study.csv") if wanted.items() <= line.items() and line["mean"]
    ]
    return {line["attention_point"]: line for line in lines}


def scored(out: Path) -> list[str]:
    """Every detector below the folder with predictions of test images, as 'folder: detector'."""
    homes = [*RunFolder(out).cells(), *map(RunFolder, out.glob("final-*"))]
    found = (
        f"{home.path.name}: {d.path.name}" for home in homes for d in home.detectors() if d.predictions.exists()
    )
    return sorted({*found})


def results_of(final: Path, name: str | None = None) -> tuple[Row, ...]:
    """The rows of a finished detector (None: the last), and behind them the ADNs of the others of its folder."""
    home = RunFolder(final)
    there, _ = finished(recorded_detector(home, name))
    shown = {each.detector.name for each in there.beside_baseline()}
    others = []
    first_seeds = (d for d in home.detectors() if not read_config(d.config)["recorded"]["seed"])
    for beside in sorted({d.path.name for d in first_seeds} - shown):
        other, _ = finished(recorded_detector(home, beside))
        if other.folds == there.folds:
            others.append(detector_rows(other).rows[0])
    return (*table(there).rows, *two_seeds(there), *others)


def two_seeds(experiment: Experiment) -> tuple[Row, ...]:
    """The mean of the ADN's logits and another seed's: what a mean of two networks gains without a CAAN."""
    detector = experiment.detector
    if detector.seeds < 2 or detector.has_frozen_adn:  # a head's seeds have other labeled images
        return ()
    found = {key: one.test for key, one in outcomes_of(experiment).items()}
    means = {
        (n, s): Scored(p.labels, mean_of_logits(p.adn, found[n, (s + 1) % detector.seeds].adn))
        for (n, s), p in found.items()
    }
    return (make_row(f"{detector.name}: mean of two seeds' ADNs", means, experiment.test_to_train),)


def tell(rows: Sequence[Row], answers: Sequence[Row]) -> None:
    """Print every row, and each answer's differences from them, as Markdown."""
    print(f"\n{rows[0].pooled.prevalence:.0%} of the test images are anomalous; mean [95 % interval]")
    print(f"\n| row | {' | '.join(PRINTED.values())} |\n|---|{'---|' * len(PRINTED)}")
    for row in rows:
        print(f"| {row.name} | {' | '.join(cell(row, metric) for metric in PRINTED)} |")
    for answer in answers:
        print(f"\n| {answer.name} less | F1 at 0.5 | AUROC |\n|---|---|---|")
        for row in (row for row in rows if row is not answer):
            found = [difference(answer, row, metric) for metric in ("f1", "auroc")]
            cells = [f"{shown(d, '+')} {verdict(d)}" if d else "" for d in found]
            print(f"| {row.name} | {' | '.join(cells)} |")


def lines_of(rows: Sequence[Row], answers: Sequence[Row]) -> list[dict[str, object]]:
    """The same with every metric, for a CSV file; `less` is empty in rows that are not differences."""
    lines: list[dict[str, object]] = []
    for row, metric in itertools.product(rows, METRICS):
        if found := row.interval(metric):
            line = {"row": row.name, "less": "", "metric": metric, **dataclasses.asdict(found), "verdict": ""}
            lines.append(line | {"prevalence": row.pooled.prevalence})
    for answer, row, metric in itertools.product(answers, rows, METRICS):
        if answer is not row and (found := difference(answer, row, metric)):
            line = {"row": answer.name, "less": row.name, "metric": metric, **dataclasses.asdict(found)}
            lines.append(line | {"verdict": verdict(found)})
    return lines


def choose_point(given: argparse.Namespace) -> str:
    """The point that ranks held-out training images best; print each point's AUROC."""
    points = ["--attention-point", *POINTS, "--validation", given.validation, "--no-compare"]
    study = ["study", str(given.dataset), "--out", str(given.out), "--p-rate", given.p_rate]
    form = ["--attention", given.attention, "--cross-fit", given.cross_fit]
    call(*study, *NETWORKS, *points, *form, *data_options(given))
    ranked = held_out(given.out, float(given.p_rate), given.attention)
    if not ranked:
        raise SystemExit(f"--validation {given.validation}: nothing could be held out. Raise it, or name a point.")
    print("\nAUROC on what was held out, by point: ", end="")
    print(", ".join(f"{p}: {float(x['mean']):.3f} [{x['low']}, {x['high']}]" for p, x in ranked.items()))
    return max(ranked, key=lambda p: float(ranked[p]["mean"]))


def known_point(given: argparse.Namespace) -> str:
    """The given point; make the maps that a study would have made, or refuse other options."""
    cross_fit = ["--cross-fit", given.cross_fit]
    call("colorize", str(given.dataset), "--out", str(given.out), *cross_fit, *data_options(given))
    return str(given.attention_point)


def main() -> None:
    """Choose the point, train, and print the results."""
    arguments = experiment_parser(__doc__, "results")
    arguments.add_argument("--seeds", default="3", help="trainings of each detector on each fold (%(default)s)")
    arguments.add_argument("--validation", default="0.3", help="share held out to choose the point (%(default)s)")
    arguments.add_argument("--cross-fit", default="0", help="parts of the cross-fitting (%(default)s)")
    arguments.add_argument(
        "--attention", choices=["published", "affine"], default="published", help="its form (%(default)s)"
    )
    arguments.add_argument("--attention-point", help="one that was chosen before (default: choose it)")
    given = arguments.parse_args()
    machine, p_rate, started = facts(), float(given.p_rate), time.monotonic()
    point = choose_point(given) if given.attention_point is None else known_point(given)
    final = given.out / f"final-p-rate-{p_rate:g}"
    options = ["--attention", given.attention, "--attention-point", point, "--p-rate", given.p_rate]
    options += ["--seeds", given.seeds, "--seed", given.seed]
    call("detect", str(given.out), "--out", str(final), *NETWORKS, *options)

    rows = results_of(final)
    answers = [row for row in rows if row is rows[0] or row.name.endswith(MEAN_OF_BOTH)]
    tell(rows, answers)
    print("\nScored on test folds: " + ", ".join(scored(given.out)))
    minutes = round((time.monotonic() - started) / 60, 1)
    print(f"\n{minutes} minutes, without what was done before")
    told = {"dataset": given.dataset.name, "p_rate": p_rate, "minutes_of_this_call": minutes}
    lines = [told | line for line in lines_of(rows, answers)]
    write_csv(given.csv or final / f"results-{given.attention}.csv", lines, machine)


if __name__ == "__main__":
    main()
