"""What a random split claims, and what a split that parts no group says, on the same images.

    python -m benchmarks.groups plantvillage_pepper --groups groups.csv --out pepper-split --max-per-class 400

Two runs of `leanet run`, 128 px, p_rate 0.05, LEA-Net and its baseline: one with the groups, one on the very same
files, linked into a folder of its own, without. The folds differ, so that nothing is paired: means and intervals
stand beside each other. Killed, it goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.common import call, data_options, experiment_parser, facts, write_csv
from benchmarks.results import SHOWN, results_of
from leanet.experiment.evaluate import Row, cell
from leanet.experiment.open_run import find


def link_images(dataset: Path, run: Path, folder: Path) -> None:
    """Make a data set of the very images that a run has."""
    for image in find(run).images:
        link = folder / image.file
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to((dataset / image.file).resolve())


def main() -> None:
    """Run both, print their rows beside each other."""
    arguments = experiment_parser(__doc__, "groups")
    arguments.add_argument("--attention-point", default="1", help="attention point (%(default)s)")
    given = arguments.parse_args()
    if not given.groups:
        raise SystemExit("--groups FILE is needed: without it, both splits would be random.")
    machine, grouped, random = facts(), given.out / "grouped", given.out / "random"
    options = ["--p-rate", given.p_rate, "--attention-point", given.attention_point]
    call("run", str(given.dataset), "--out", str(grouped), *options, *data_options(given))
    linked = given.out / "images"
    link_images(given.dataset, grouped, linked)
    given.groups = given.max_per_class = None
    call("run", str(linked), "--out", str(random), *options, *data_options(given))

    rows: dict[str, tuple[Row, ...]] = {path.name: results_of(path, path) for path in (random, grouped)}
    lines: list[dict[str, object]] = []
    print(f"\n| row, split | {' | '.join(SHOWN.values())} |\n|---|{'---|' * len(SHOWN)}")
    for pair in zip(*rows.values(), strict=False):
        for split, row in zip(rows, pair, strict=True):
            print(f"| {row.name}, {split} | {' | '.join(cell(row, metric) for metric in SHOWN)} |")
            lines += [{"row": row.name, "split": split, "metric": m, "shown": cell(row, m)} for m in SHOWN]
    write_csv(given.csv or given.out / "groups.csv", lines, machine)


if __name__ == "__main__":
    main()
