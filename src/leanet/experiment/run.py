"""Both stages in one go, and the results table."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from rich.table import Table
from sklearn.metrics import classification_report, confusion_matrix, f1_score

from leanet.experiment.colorize import colorize
from leanet.experiment.detect import detect, read_predictions, training_rows
from leanet.experiment.display import note, stdout
from leanet.experiment.estimate import estimate_run
from leanet.experiment.evaluate import METRICS, Row
from leanet.experiment.open_run import begin, find
from leanet.experiment.run_folder import RunFolder, write_csv
from leanet.settings import DetectConfig, RunConfig, parse_folds
from leanet.training.compute import find_device
from leanet.training.processes import first_before_others, is_first


def run(config: RunConfig) -> None:
    """Both stages; prints how long it will take before, and the results table after."""
    first, second = config.stages()
    started = time.monotonic()
    with first_before_others(find_device(config.compute.device)):
        begun = begin(first)  # whatever is wrong with the data is said before anything is timed
    for number in parse_folds(config.compute.folds, len(begun.folds)):
        training_rows(second, begun, number)
    estimate_run(config)
    colorize(first, begun)
    detect_and_print(second)
    note(f"done in {duration(time.monotonic() - started)}: {config.out}")


def detect_and_print(config: DetectConfig) -> None:
    """Stage 2 and its results table, printed and written to report/metrics.csv."""
    rows = detect(config)
    if not is_first():
        return
    print_table(rows)
    home = RunFolder(config.out or config.run)
    write_table(home, rows)


def print_fold_reports(config: DetectConfig) -> None:
    """Print, as the published program does, confusion matrix, classification report and F1 of each fold."""
    home = RunFolder(config.out or config.run)
    folds = parse_folds(config.compute.folds, len(find(config.run).folds))
    for number in folds:
        p = read_predictions(home.fold(number).detector(config.detector.name).predictions)
        for name, probabilities in (("ADN", p.adn), ("CAAN", p.caan)):
            if probabilities is None:
                continue
            decided = (probabilities >= 0.5).astype(int)
            note(f"\nfold {number}, {name}: confusion matrix (rows: true normal, anomalous)")
            note(str(confusion_matrix(p.labels, decided, labels=[0, 1])))
            names = ["normal", "anomalous"]
            note(classification_report(p.labels, decided, labels=[0, 1], target_names=names, zero_division=0))
            note(f"F1 of {name}: {f1_score(p.labels, decided, zero_division=0):.4f}")


def print_table(rows: Sequence[Row]) -> None:
    """Print two tables: mean and standard deviation over folds, and all folds' test images pooled."""
    pooled = rows[0].pooled
    over = Table(title=f"mean ± standard deviation over {len(rows[0].folds)} fold(s)")
    together = Table(title=f"{pooled.images} test images pooled, {pooled.anomalous / pooled.images:.0%} anomalous")
    for table in (over, together):
        table.add_column("")
        for header in ("F1", "AUROC", "average precision"):
            table.add_column(header, justify="right")
    together.add_column("TN FP FN TP", justify="right")
    for row in rows:
        over.add_row(row.name, *(_pair(row.over_folds(metric)) for metric in METRICS))
        p = row.pooled
        cells = (p.true_negatives, p.false_positives, p.false_negatives, p.true_positives)
        confusion = "" if cells[0] is None else " ".join(map(str, cells))
        together.add_row(row.name, *(_number(getattr(p, metric)) for metric in METRICS), confusion)
    stdout.print(over, together, markup=False)


def write_table(home: RunFolder, rows: Sequence[Row]) -> None:
    """Write every number of the table, fold by fold, to report/metrics.csv."""
    records = [record for row in rows for record in row.records()]
    header = max(records, key=len).keys()
    lines = [[_plain(record.get(key)) for key in header] for record in records]
    write_csv(home.report / "metrics.csv", list(header), lines)


def duration(seconds: float) -> str:
    """A duration for people: '8 s', '3 min 20 s', '1 h 5 min'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes} min {s} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _pair(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return ""
    mean, deviation = pair
    return f"{mean:.3f}" if math.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _plain(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
