"""Compare two values of an option in whole runs, fold by fold on the same splits.

    python -m benchmarks.compare plantvillage_potato --option recipe leanet authors --out potato-recipes
    python -m benchmarks.compare hurricane --option precision bfloat16 float32 --out hurricane-precision

128 px, p_rate 0.05, ResNet18, without comparison rows; further options of `leanet run` at the end apply to both.
Each run has its own folder below --out. To resume, repeat the command. A difference is the ADN's metric on a fold's
test images with the first value minus that with the second. The first value is "as good" if the whole 95 % interval
is above a small loss, fixed in advance: 0.01 of F1, 0.005 of AUROC.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.common import adn_metrics, call, data_options, experiment_parser, facts, less, write_csv
from leanet.config import DetectConfig
from leanet.experiment.experiment import Experiment
from leanet.experiment.open_run import find
from leanet.results.intervals import Interval, interval
from leanet.results.intervals import verdict as in_words

METRICS = {"f1": 0.01, "auroc": 0.005}
"""Metric -> acceptable loss."""

Metrics = dict[str, dict[str, str]]
"""fold -> metric -> value"""


def run(dataset: Path, out: Path, options: list[str]) -> Metrics:
    """Make or finish a run; return the metrics of each fold."""
    call("run", str(dataset), "--out", str(out), *options)
    return {name: row for name, row in adn_metrics(out).items() if name.startswith("fold ")}


def folds_of(out: Path) -> object:
    """A run's folds, for comparison with another's."""
    return json.loads((out / "splits.json").read_text(encoding="utf-8"))["folds"]


def compare(runs: dict[str, Metrics]) -> tuple[list[dict[str, object]], dict[str, list[float | None]]]:
    """A row for each fold, and the differences of each metric."""
    first, second = runs
    rows: list[dict[str, object]] = []
    differences: dict[str, list[float | None]] = {metric: [] for metric in METRICS}
    for fold in runs[first]:
        row: dict[str, object] = {"fold": fold.removeprefix("fold ")}
        for metric in METRICS:
            told = [runs[name][fold][metric] for name in (first, second)]
            one, other = (float(value) if value else None for value in told)
            differences[metric].append(less(one, other))
            row |= {f"{metric}_{first}": one, f"{metric}_{second}": other, f"{metric}_difference": less(one, other)}
        rows.append(row)
    return rows, differences


def as_good(known: Interval, loss: float) -> str:
    """Whether the first value is as good as the second, up to an acceptable loss."""
    if known.low > -loss:
        return f"as good, up to {loss:g}"
    return "worse" if known.high < 0 else f"a loss of {loss:g} is not ruled out"


def main() -> None:
    """Run both, then print the paired differences as a table in Markdown."""
    arguments = experiment_parser(__doc__, "compare")
    arguments.add_argument("--option", nargs=3, required=True, metavar=("OPTION", "FIRST", "SECOND"), help="of run")
    given, further = arguments.parse_known_args()
    machine, (option, *values) = facts(), given.option
    if any(each.split("=")[0] == "--seeds" for each in (f"--{option}", *further)):
        raise SystemExit("--seeds: one training on each fold is compared. Leave the option out, or give --seed.")
    detector = ["--adn", "ResNet18", "--p-rate", given.p_rate, "--no-compare"]
    common = [*data_options(given), *detector, *further]  # of two, the last counts
    runs = {value: run(given.dataset, given.out / value, [*common, f"--{option}", value]) for value in values}
    if folds_of(given.out / values[0]) != folds_of(given.out / values[1]):
        raise SystemExit(f"{given.out}: the two runs have different splits: nothing to compare fold by fold.")

    rows, differences = compare(runs)
    same = find(given.out / values[0])
    header = [f"{metric} {what}" for metric in ("F1", "AUROC") for what in (*values, "difference")]
    print(f"\n{same.labels.mean():.0%} of the images are anomalous")
    print(f"\n| fold | {' | '.join(header)} |\n|---|{'---|' * len(header)}")
    for row in rows:
        cells = [
            "undefined" if v is None else f"{v:+.4f}" if k.endswith("difference") else f"{v:.4f}"
            for k, v in row.items()
            if k != "fold"
        ]
        print(f"| {row['fold']} | {' | '.join(cells)} |")
    print()
    ratio = Experiment(same, DetectConfig(same.folder.path), tuple(range(len(same.folds)))).test_to_train
    for metric, found in differences.items():
        known = interval(found, ratio)
        if known is None:
            print(f"{metric}: undefined")
            continue
        print(
            f"{metric}: mean difference {known.mean:+.4f}, 95 % interval {known.low:+.4f} to {known.high:+.4f} "
            f"over {len(found) - found.count(None)} folds: {in_words(known)}; {as_good(known, METRICS[metric])}"
        )
        rows += [
            {"fold": end, f"{metric}_difference": getattr(known, end), "verdict": as_good(known, METRICS[metric])}
            for end in ("mean", "low", "high")
        ]
    told = {"dataset": given.dataset.name, "option": option, "side": given.image_size, "p_rate": given.p_rate}
    write_csv(given.csv or given.out / "compare.csv", [told | row for row in rows], machine)


if __name__ == "__main__":
    main()
