r"""Effects of cross-fitting and the maps' scale: the gap between seen and unseen normals, and the ADN's metrics.

    python -m benchmarks.maps plantvillage_potato --out potato-maps --max-per-class 400 --image-size 64 --no-max
    python -m benchmarks.maps plantvillage_pepper --groups plantvillage_pepper/groups.csv --out pepper-maps \
        --max-per-class 400

Two sets of maps on the same folds: one colorizer per fold ("in-sample": it has seen the training normals that it
recolors), and `--cross-fit`; the test images' maps are equal, from the same colorizers. Detectors train on both
with `--map-scale normals`, and in-sample with `--map-scale max`, on the same images, recipe and seeds. 128 px,
p_rate 0.05, ResNet18 with ResNet CAAN. --seed 100 (the default here) draws other folds than those that
`benchmarks.results` reports on, and with --max-per-class other images, although some are in both draws. To resume,
repeat the command.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.common import call, data_options, experiment_parser, facts, less, write_csv
from benchmarks.results import results_of
from leanet.experiment.open_run import find
from leanet.experiment.run_folder import RunFolder
from leanet.files import beside
from leanet.results.intervals import Interval, interval, shown, verdict
from leanet.results.rows import Row, cell, difference

METRICS = ("f1", "auroc")
IN_SAMPLE, BY_MAXIMUM, CROSS_FIT = ARMS = (("in-sample", "normals"), ("in-sample", "max"), ("cross-fit", "normals"))


def gap(out: Path) -> list[float | None]:
    """Mean ΔE of the test normals minus that of the training normals, by fold; None without either."""
    run = find(out)
    attributes = [run.maps(number).attributes for number in range(len(run.folds))]
    return [less(a["test_normals"], a["train_normals"]) for a in attributes]


def share_colorizers(source: Path, target: Path) -> None:
    """Copy the colorizers of a run with the same folds, to avoid training them twice."""
    for weights in RunFolder(source).path.glob("[0-9]*/colorizer/weights.safetensors"):
        copy = target / weights.relative_to(source)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(weights.with_name("history.csv"), copy.with_name("history.csv"))
            with beside(copy) as partial:
                shutil.copy(weights, partial)


def main() -> None:
    """Make both sets of maps, train the detectors, and print the gap and the paired differences."""
    arguments = experiment_parser(__doc__, "maps")
    arguments.set_defaults(seed="100")
    arguments.add_argument("--cross-fit", default="4", help="parts of the cross-fitting (%(default)s)")
    arguments.add_argument("--attention-point", default="1", help="attention point (%(default)s)")
    arguments.add_argument("--seeds", default="1", help="trainings of each detector on each fold (%(default)s)")
    arguments.add_argument("--no-max", action="store_true", help="without the detectors on maps scaled by maximum")
    given = arguments.parse_args()
    machine = facts()
    trained = ["--attention-point", given.attention_point, "--p-rate", given.p_rate, "--seeds", given.seeds]
    rows: dict[tuple[str, str], Row] = {}
    beside: tuple[Row, ...] = ()
    for kind, scale in ARMS:
        if given.no_max and (kind, scale) == BY_MAXIMUM:
            continue
        maps, folder = given.out / kind, given.out / f"{kind}-{scale}"
        parts = given.cross_fit if kind == CROSS_FIT[0] else "0"
        if kind != IN_SAMPLE[0]:
            share_colorizers(given.out / IN_SAMPLE[0], maps)
        call("colorize", str(given.dataset), "--out", str(maps), "--cross-fit", parts, *data_options(given))
        options = ["--adn", "ResNet18", "--map-scale", scale, *trained, "--seed", given.seed, "--no-compare"]
        call("detect", str(maps), "--out", str(folder), *options)
        rows[kind, scale], *others = results_of(folder)
        beside = beside or tuple(others)

    ratio = rows[IN_SAMPLE].test_to_train
    gaps = {kind: gap(given.out / kind) for kind, _ in (IN_SAMPLE, CROSS_FIT)}
    lines: list[dict[str, object]] = []

    def tell(what: str, metric: str, found: Interval | None, by_fold: list[float | None]) -> None:
        print(f"{what}: {metric} {shown(found, '+')}: {verdict(found)}")
        line: dict[str, object] = {"dataset": given.dataset.name, "difference": what, "metric": metric}
        lines.append(line | {"by_fold": json.dumps(by_fold)})

    print("\nmean ΔE of test normals less training normals, mean [95 % interval] over folds")
    for kind, values in gaps.items():
        tell(kind, "gap", interval(values, ratio), values)
    change = [less(after, before) for before, after in zip(gaps[IN_SAMPLE[0]], gaps[CROSS_FIT[0]], strict=True)]
    tell(f"{CROSS_FIT[0]} less {IN_SAMPLE[0]}", "gap", interval(change, ratio), change)
    print(f"\n{rows[IN_SAMPLE].pooled.prevalence:.0%} of the test images are anomalous; mean [95 % interval]")
    print(f"\n| row | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
    named = [(", ".join(arm), row) for arm, row in rows.items()]
    for name, row in [*named, *((f"{row.name} ({', '.join(IN_SAMPLE)})", row) for row in beside)]:
        print(f"| {name} | {' | '.join(cell(row, metric) for metric in METRICS)} |")
    print()
    pairs = [(CROSS_FIT, IN_SAMPLE), *([] if given.no_max else [(IN_SAMPLE, BY_MAXIMUM)])]
    for one, other in pairs:
        for metric in METRICS:
            found = difference(rows[one], rows[other], metric)
            both = zip(*(rows[arm].by_fold(metric).values() for arm in (one, other)), strict=True)
            by_fold = [less(a, b) for a, b in both]
            tell(f"{', '.join(one)} less {', '.join(other)}", metric, found, by_fold)
    write_csv(given.csv or given.out / "maps.csv", lines, machine)


if __name__ == "__main__":
    main()
