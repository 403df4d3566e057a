"""What cross-fitting and the maps' scale change: the gap between seen and unseen normals, and the ADN's metrics.

    python -m benchmarks.maps plantvillage_potato --out potato-maps --max-per-class 400
    python -m benchmarks.maps plantvillage_pepper --out pepper-maps --max-per-class 400 --groups groups.csv

Two sets of maps on the same folds: one colorizer a fold ("in-sample": it has seen the training normals that it
recolours), and `--cross-fit`. On each, detectors with `--map-scale normals` and `--map-scale max`: the same images,
recipe and seed. 128 px, p_rate 0.05, ResNet18 with ResNet CAAN. Options that it does not know go to `leanet
colorize`. Killed, it goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path

from benchmarks.common import adn_metrics, call, experiment_parser, facts, write_csv
from benchmarks.compare import ratio_of_sides
from leanet.experiment.evaluate import interval, shown, verdict
from leanet.experiment.open_run import find

KINDS, SCALES, METRICS = ("in-sample", "cross-fit"), ("normals", "max"), ("f1", "auroc")


def mean_delta_e(out: Path) -> dict[str, float]:
    """Mean ΔE of a run's training normals, test normals and test anomalies, over its folds."""
    run = find(out)
    attributes = [run.maps(number).attributes for number in range(len(run.folds))]
    names = ("train_normals", "test_normals", "test_anomalies")
    return {name: statistics.fmean(a[name] for a in attributes) for name in names}


def by_fold(out: Path, metric: str) -> list[float]:
    """The ADN's metric on each fold's test images."""
    return [float(row[metric]) for name, row in adn_metrics(out).items() if name.startswith("fold ")]


def main() -> None:
    """Make both sets of maps, train the four detectors, print the gap and the paired differences."""
    arguments = experiment_parser(__doc__, "maps")
    arguments.add_argument("--cross-fit", default="4", help="parts of the cross-fitting (%(default)s)")
    arguments.add_argument("--attention-point", default="1", help="attention point (%(default)s)")
    given, further = arguments.parse_known_args()
    machine = facts()
    for kind, parts in zip(KINDS, ("0", given.cross_fit), strict=True):
        made = ["--out", str(given.out / kind), "--cross-fit", parts, "--image-size", given.image_size, *further]
        call("colorize", str(given.dataset), *made)
    folders = {(kind, scale): given.out / f"{kind}-{scale}" for kind, scale in itertools.product(KINDS, SCALES)}
    for (kind, scale), folder in folders.items():
        trained = ["--map-scale", scale, "--attention-point", given.attention_point, "--p-rate", given.p_rate]
        call("detect", str(given.out / kind), "--out", str(folder), "--no-compare", *trained)

    gaps = {kind: mean_delta_e(given.out / kind) for kind in KINDS}
    print("\n| maps | training normals | test normals | test anomalies |\n|---|---|---|---|")
    for kind, gap in gaps.items():
        print(f"| {kind} | {' | '.join(f'{value:.2f}' for value in gap.values())} |")
    print(f"\n| maps, scale | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
    for (kind, scale), folder in folders.items():
        values = [statistics.fmean(by_fold(folder, metric)) for metric in METRICS]
        print(f"| {kind}, {scale} | {' | '.join(f'{value:.4f}' for value in values)} |")
    ratio = ratio_of_sides(folders["in-sample", "normals"])
    pairs = [((KINDS[1], s), (KINDS[0], s)) for s in SCALES] + [((k, SCALES[0]), (k, SCALES[1])) for k in KINDS]
    rows: list[dict[str, object]] = []
    print()
    for (one, other), metric in itertools.product(pairs, METRICS):
        values = [a - b for a, b in zip(*(by_fold(folders[x], metric) for x in (one, other)), strict=True)]
        found = interval(values, ratio)
        what = f"{', '.join(one)} less {', '.join(other)}"
        print(f"{what}: {metric} {shown(found, '+')}: {verdict(found)}")
        rows.append(
            {"dataset": given.dataset.name, "difference": what, "metric": metric, "by_fold": json.dumps(values)}
        )
    rows += [{"dataset": given.dataset.name, "maps": kind, **gap} for kind, gap in gaps.items()]
    write_csv(given.csv, rows, machine)


if __name__ == "__main__":
    main()
