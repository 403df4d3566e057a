"""A development set, not for reported results: the images and groups that a run did not draw.

    python -m benchmarks.rest pepper plantvillage_pepper --groups plantvillage_pepper/groups.csv --out pepper-rest

RUN is a run with --max-per-class on DATASET. The images are links; `groups.csv` beside them has their groups.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.common import link
from leanet.data.dataset import CLASS_NAMES, with_groups
from leanet.data.sources.folder import scan
from leanet.experiment.open_run import find
from leanet.files import write_csv


def main() -> None:
    """Link and count the remaining images."""
    raw = argparse.RawDescriptionHelpFormatter
    arguments = argparse.ArgumentParser("python -m benchmarks.rest", description=__doc__, formatter_class=raw)
    arguments.add_argument("run", type=Path, metavar="RUN")
    arguments.add_argument("dataset", type=Path, metavar="DATASET")
    arguments.add_argument("--groups", type=Path, metavar="FILE", help="groups file of the run")
    arguments.add_argument("--out", type=Path, required=True, help="folder to make")
    given = arguments.parse_args()
    if given.out.exists():
        raise SystemExit(f"--out {given.out}: exists, and may hold images of another run. Name a new folder.")
    run = find(given.run)
    if run.folder.read_config().get("groups") and not given.groups:
        raise SystemExit(f"{given.run}: was made with --groups. Give them here, too.")
    drawn = run.images
    files, groups = {image.file for image in drawn}, {image.group for image in drawn}
    dataset = scan(given.dataset)
    if given.groups:
        dataset = with_groups(dataset, given.groups)
    left = [s for s in dataset.samples if s.file not in files and s.group not in groups]
    for sample in left:
        link(given.dataset / sample.file, given.out / sample.file)
    write_csv(given.out / "groups.csv", ("file", "group"), [(s.file, s.group) for s in left])
    counts = [f"{sum(s.label == label for s in left)} {name}" for label, name in enumerate(CLASS_NAMES)]
    print(f"{', '.join(counts)} images in {len({s.group for s in left})} groups: {given.out}")


if __name__ == "__main__":
    main()
