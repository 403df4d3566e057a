"""LEA-Net against its baseline on a data set: the attention point chosen on inner validation, then folds and seeds.

    python -m benchmarks.results plantvillage_pepper --groups pepper.csv --out pepper --max-per-class 400

First a `leanet study` of the attention points 1 to 5, one seed, with a share of each fold's training images held
out (--validation): the point with the highest mean AUROC on these is taken. It is one point for all folds; what is
tested in one fold is held out or trained on in the others, and so had a part in the choice. Then `leanet detect`
with that point, and the plain ADN, on the same folds and maps, with all labelled training images and --seeds seeds.
ResNet18 with the ResNet CAAN, 128 px. Printed as Markdown: every row, LEA-Net less its baseline, and each
configuration that was scored on test folds. Killed, it goes on where it was. Options that it does not know go to
`leanet study` (`--cross-fit 4`).
"""

from __future__ import annotations

import statistics

from sklearn.metrics import roc_auc_score

from benchmarks.common import call, experiment_parser, facts, read_csv, write_csv
from leanet.experiment.open_run import Run, find
from leanet.experiment.predictions import read_predictions
from leanet.experiment.run_folder import RunFolder

POINTS = (1, 2, 3, 4, 5)
SHOWN = ("f1", "f1_chosen", "auroc", "average_precision")
NETWORKS = ("--adn", "ResNet18", "--caan", "ResNet")


def validation_auroc(run: Run, home: RunFolder, point: int) -> float:
    """Mean over the folds of the AUROC on what was held out of the training images."""
    aurocs = []
    for number in range(len(run.folds)):
        held = read_predictions(home.fold(number).detector(f"ResNet18-ResNet-p{point}").validation)
        aurocs.append(float(roc_auc_score(held.labels, held.adn)))
    return statistics.fmean(aurocs)


def configurations(*homes: RunFolder) -> list[str]:
    """Every detector with predictions of test images, folder by folder."""
    return sorted(
        {
            f"{home.path.name}: {path.parent.name}"
            for home in homes
            for path in home.path.glob("[0-9]*/*/predictions.csv")
        }
    )


def main() -> None:
    """Choose the point, train, and print what came of it."""
    arguments = experiment_parser(__doc__, "results")
    arguments.add_argument("--seeds", default="3", help="trainings of each detector on each fold (%(default)s)")
    arguments.add_argument("--validation", default="0.3", help="share held out to choose the point (%(default)s)")
    given, further = arguments.parse_known_args()
    machine = facts()
    common = ["--image-size", given.image_size, *further]
    point_options = ["--attention-point", *map(str, POINTS), "--validation", given.validation]
    study = ["study", str(given.dataset), "--out", str(given.out), "--p-rate", given.p_rate]
    call(*study, *NETWORKS, *point_options, *common)
    run, chosen_in = find(given.out), RunFolder(given.out / f"p-rate-{float(given.p_rate):g}")
    ranked = {point: validation_auroc(run, chosen_in, point) for point in POINTS}
    point = max(ranked, key=lambda p: ranked[p])
    final = RunFolder(given.out / "final")
    options = ["--attention-point", str(point), "--p-rate", given.p_rate, "--seeds", given.seeds]
    call("detect", str(given.out), "--out", str(final.path), *NETWORKS, *options)

    print("\nMean AUROC on what was held out, by point: ", end="")
    print(", ".join(f"{p}: {auroc:.4f}" for p, auroc in ranked.items()))
    lines = [line for line in read_csv(final.report / "metrics.csv") if line["over"].startswith("mean")]
    print(f"\n| row | {' | '.join(SHOWN)} |\n|---|{'---|' * len(SHOWN)}")
    for line in lines:
        print(f"| {line['row']} | {' | '.join(line[metric][:6] for metric in SHOWN)} |")
    own = f"ResNet18-ResNet-p{point}: ADN"
    print()
    for line in read_csv(final.report / "differences.csv"):
        if line["row"] == own and "without attention" in line["less"] and line["metric"] in SHOWN:
            ends = f"{float(line['mean']):+.4f} [{float(line['low']):+.4f}, {float(line['high']):+.4f}]"
            print(f"LEA-Net less its baseline, {line['metric']}: {ends}: {line['verdict']}")
    print("\nScored on test folds: " + ", ".join(configurations(chosen_in, final)))
    write_csv(given.csv, [{"dataset": given.dataset.name, "point": point, **line} for line in lines], machine)


if __name__ == "__main__":
    main()
