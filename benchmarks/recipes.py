"""The same score in fewer steps? The default recipe against `--recipe authors`, fold by fold on the same splits.

    python -m benchmarks.recipes plantvillage_potato --out potato-recipes

Issue 4 asks for it on Potato: 128 px, p_rate 0.05, five folds. Each recipe is a `leanet run` into a folder of its
own below --out, with whatever further options of `leanet run` stand behind. Killed, both go on where they were.
Differences are the default recipe's metric less the authors', of the ADN on a fold's test images.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
from pathlib import Path

from benchmarks.common import LEANET, adn_metrics, facts, parser, verdict, write_csv

RECIPES = ("leanet", "authors")
METRICS = ("f1", "auroc")


def folds_of(run: Path) -> list[object]:
    """The folds of a run, to compare with another's."""
    folds: list[object] = json.loads((run / "splits.json").read_text(encoding="utf-8"))["folds"]
    return folds


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean, and its standard error (nan for one value)."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def main() -> None:
    """Run both recipes, then print the paired differences as a table in Markdown."""
    arguments = parser(__doc__, "recipes")
    arguments.add_argument("dataset", type=Path, metavar="DATASET")
    arguments.add_argument("--out", type=Path, required=True, help="folder for the two runs")
    arguments.add_argument("--image-size", type=int, default=128, help="side of the images in pixels (%(default)s)")
    arguments.add_argument("--p-rate", type=float, default=0.05, help="share of training anomalies (%(default)s)")
    given, further = arguments.parse_known_args()
    machine = facts()
    options = ["--image-size", str(given.image_size), "--p-rate", str(given.p_rate), "--no-compare", *further]
    runs = {recipe: given.out / recipe for recipe in RECIPES}
    for recipe, out in runs.items():
        command = [LEANET, "run", str(given.dataset), "--out", str(out), "--recipe", recipe, *options]
        print(" ".join(command), flush=True)
        subprocess.run(command, check=True)
    ours, authors = runs.values()
    if folds_of(ours) != folds_of(authors):
        raise SystemExit(f"{ours} and {authors} have different splits: nothing to compare fold by fold.")

    metrics = {recipe: adn_metrics(out) for recipe, out in runs.items()}
    names = [name for name in metrics["leanet"] if name.startswith("fold ")]
    rows: list[dict[str, object]] = []
    differences: dict[str, list[float]] = {metric: [] for metric in METRICS}
    header = [f"{metric} {what}" for metric in ("F1", "AUROC") for what in (*RECIPES, "difference")]
    print(f"\n| fold | {' | '.join(header)} |\n|---|{'---|' * len(header)}")
    for name in names:
        row: dict[str, object] = {"fold": name.removeprefix("fold ")}
        for metric in METRICS:
            pair = [float(metrics[recipe][name][metric]) for recipe in RECIPES]
            differences[metric].append(pair[0] - pair[1])
            row |= {f"{metric}_{recipe}": value for recipe, value in zip(RECIPES, pair, strict=True)}
            row[f"{metric}_difference"] = pair[0] - pair[1]
        rows.append(row)
    for row in rows:
        cells = [f"{v:+.4f}" if k.endswith("difference") else f"{v:.4f}" for k, v in row.items() if k != "fold"]
        print(f"| {row['fold']} | {' | '.join(cells)} |")
    write_csv(given.csv, rows, machine)
    print()
    for metric, values in differences.items():
        mean, error = mean_and_error(values)
        print(
            f"{metric}: mean difference {mean:+.4f}, standard error {error:.4f}, over {len(values)} folds "
            f"({verdict(mean >= 0)}: not below 0)"
        )


if __name__ == "__main__":
    main()
