"""Compare the scores of a random split and a grouped split on the same images.

    python -m benchmarks.groups pepper/final-p-rate-0.05 --out pepper-random

DETECTED is a finished run with --groups, or a folder of its detectors. Its images are linked into a new folder, on
which `leanet run` runs without groups and with all other options unchanged. The folds differ, so nothing is paired;
the script prints means and intervals side by side. To resume, repeat the command.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from benchmarks.common import call, facts, link, parser, write_csv
from benchmarks.results import results_of
from leanet.config.options import to_options
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.run_folder import RunFolder
from leanet.results.metrics import PRINTED
from leanet.results.rows import cell


def main() -> None:
    """Make the random run, and print the rows of both side by side."""
    arguments = parser(__doc__, "groups")
    arguments.add_argument("detected", type=Path, metavar="DETECTED")
    arguments.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    arguments.add_argument("--detector", help="name of one of its detectors (default: the last trained)")
    arguments.add_argument("--seeds", type=int, help="trainings on each fold (default: as many as DETECTED has)")
    arguments.set_defaults(csv=None)
    given = arguments.parse_args()
    machine, home = facts(), RunFolder(given.detected)
    there, _ = finished(recorded_detector(home, given.detector))
    grouped = there.run
    options = grouped.folder.read_config() | to_options(there.config)
    if not options["groups"]:
        raise SystemExit(f"{grouped.folder.path}: was made without --groups: both splits would be random.")
    images, random = given.out / "images", given.out / "run"
    for image in grouped.images:
        link(grouped.images_in / image.file, images / image.file)
    for name in ("dataset", "run", "out", "groups", "max_per_class", "recorded"):
        options.pop(name, None)
    options["seeds"] = given.seeds or options["seeds"]
    same = given.out / "options.yaml"
    same.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    call("run", str(images), "--out", str(random), "--config", str(same))

    rows = {
        "random": results_of(random),
        "grouped": results_of(given.detected, given.detector),
    }
    lines: list[dict[str, object]] = []
    print(f"\n{rows['random'][0].pooled.prevalence:.0%} of the test images are anomalous; mean [95 % interval]")
    print(f"\n| row, split | {' | '.join(PRINTED.values())} |\n|---|{'---|' * len(PRINTED)}")
    for row in rows["random"]:
        beside = next((r for r in rows["grouped"] if r.name == row.name), None)
        for split, one in (("random", row), ("grouped", beside)):
            if one:
                print(f"| {one.name}, {split} | {' | '.join(cell(one, metric) for metric in PRINTED)} |")
                lines += [{"row": one.name, "split": split, "metric": m, "shown": cell(one, m)} for m in PRINTED]
    write_csv(given.csv or given.out / "groups.csv", lines, machine)


if __name__ == "__main__":
    main()
