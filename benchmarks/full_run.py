"""A whole run, all folds at 256 px: time, peak of anonymous memory, disk of the folds, F1 and AUROC of the ADN.

    python -m benchmarks.full_run plantvillage_potato --out potato-256

The bars for the five folds of Potato: 75 minutes, 2.5 GB of memory (including children), 2.5 GB of disk, mean F1
0.99. The run is `leanet run DATASET --out OUT --image-size 256 --adn ResNet18 --no-compare` with any further
options of `leanet run` at the end. To resume, repeat the command; the times of all parts are summed from
OUT-parts.csv beside OUT.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.common import LEANET, Watched, adn_metrics, facts, parser, verdict, watch, write_csv
from leanet.files import read_csv

MINUTES, MEMORY_GB, DISK_GB, F1 = 75.0, 2.5, 2.5, 0.99

DETECTOR = ("--adn", "ResNet18", "--no-compare")
"""A LEA-Net without its baseline."""


def disk(folder: Path) -> int:
    """Bytes on disk of a folder and its content, including directories, as `du` counts them."""
    return sum(path.lstat().st_blocks * 512 for path in (folder, *folder.rglob("*")))


def run_in_parts(command: list[str], out: Path, parts_file: Path) -> list[Watched]:
    """Run to the end; return this part and the earlier ones.

    Raises:
        SystemExit: the run was begun without this script, or with another command.
    """
    of = {"command": " ".join(command)}
    parts: list[Watched] = []
    if out.exists() and not parts_file.exists():
        raise SystemExit(f"{out}: begun without this script, so its time is not known. Choose another --out.")
    if out.exists():
        before = read_csv(parts_file)
        if any(row.get("command") != of["command"] for row in before):
            raise SystemExit(f"{out}: begun with another command than {of['command']}. Choose another --out.")
        parts = [Watched(float(row["seconds"]), int(row["peak"])) for row in before]

    def keep(part: Watched) -> None:
        write_csv(parts_file, [vars(p) for p in (*parts, part)], of)

    return [*parts, watch(command, interval=0.5, tell=keep)]


def main() -> None:
    """Run, then print every number with its bar."""
    arguments = parser(__doc__, "full_run")
    arguments.add_argument("dataset", type=Path, metavar="DATASET")
    arguments.add_argument("--out", type=Path, required=True, help="run folder to make or resume")
    arguments.add_argument("--image-size", type=int, default=256, help="side of the images in pixels (%(default)s)")
    given, further = arguments.parse_known_args()
    machine, out = facts(), given.out
    options = ["--out", str(out), "--image-size", str(given.image_size), *DETECTOR, *further]
    command = [LEANET, "run", str(given.dataset), *options]
    parts = run_in_parts(command, out, out.with_name(f"{out.name}-parts.csv"))

    metrics = adn_metrics(out)
    mean, pooled = metrics["mean over folds"], metrics["pooled test images"]
    minutes = sum(part.seconds for part in parts) / 60
    memory = max(part.peak for part in parts) / 1e9
    folds = sum(disk(path) for path in out.iterdir() if path.name.isdigit()) / 1e9
    f1, auroc, anomalous = float(mean["f1"]), float(mean["auroc"]), float(pooled["prevalence"])
    print(f"\n{' '.join(command)}, in {len(parts)} part(s)")
    print(f"disk of the whole run folder  {disk(out) / 1e9:.2f} GB")
    print(f"mean AUROC of the ADN         {auroc:.4f}")
    print(f"mean F1 of the ADN            {f1:.4f}  ({verdict(f1 >= F1)}: {F1}; {anomalous:.0%} anomalous)")
    print(f"disk of the folds             {folds:.2f} GB  ({verdict(folds <= DISK_GB)}: {DISK_GB})")
    print(f"peak anonymous memory         {memory:.2f} GB  ({verdict(memory <= MEMORY_GB)}: {MEMORY_GB})")
    print(f"time                          {minutes:.1f} minutes  ({verdict(minutes <= MINUTES)}: {MINUTES:g})")
    row = {
        "command": " ".join(command),
        "parts": len(parts),
        "minutes": minutes,
        "peak_anonymous_gb": memory,
        "folds_disk_gb": folds,
        "run_disk_gb": disk(out) / 1e9,
        "mean_f1": f1,
        "mean_auroc": auroc,
    }
    write_csv(given.csv, [row], machine)
    print(f"ratio {MINUTES / minutes:.2f} (the bar's time / this one)")


if __name__ == "__main__":
    main()
