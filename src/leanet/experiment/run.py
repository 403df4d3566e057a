"""Both stages in one go, and the results table."""

from __future__ import annotations

import time
from pathlib import Path

from rich.table import Table as Printed
from sklearn.metrics import classification_report, confusion_matrix

from leanet.config import DetectConfig, RunConfig, parse_folds
from leanet.console import heading, note, paragraph, stdout
from leanet.experiment.colorize import colorize
from leanet.experiment.detect import refuse_unfit, train_detectors
from leanet.experiment.estimate import estimate
from leanet.experiment.open_run import Run, begin, find
from leanet.experiment.predictions import read_predictions
from leanet.experiment.run_folder import RunFolder, plain
from leanet.experiment.table import Table, scores_of, table
from leanet.experiment.training_set import refuse_too_few_labelled
from leanet.experiment.verdict import Verdict, probability_text, verdict_of, write_mistakes
from leanet.files import write_csv
from leanet.lock import alone_in
from leanet.ranks import is_first
from leanet.results.metrics import (
    METRICS,
    PLAIN_THRESHOLD,
    PRINTED,
    Scored,
    cell,
    compared,
    difference,
    metric_text,
    score,
    verdict,
)
from leanet.results.words import print_words
from leanet.training.compute import find_device
from leanet.training.processes import first_before_others

MOST_NAMED = 10
"""Of the missed pictures, and of the false alarms, so many are printed by name."""


CELLS = "TN FP FN TP at 0.5: normal and called so, false alarms, missed, anomalous and found"


def run(config: RunConfig) -> None:
    """Both stages; prints how long it will take before, and the results table after."""
    first, second = config.stages()
    started = time.monotonic()
    refuse_unfit(config.detector)
    with alone_in(config.out):
        with first_before_others(find_device(config.compute.device)):
            begun = begin(first)  # whatever is wrong with the data is said before anything is timed
        refuse_too_few_labelled(second, begun)
        detectors = config.detector.beside_baseline(config.compare)
        estimate(config, [(detector, RunFolder(config.out)) for detector in detectors])
        colorize(first, begun)
        detect_and_print(second)
    note(f"done in {duration(time.monotonic() - started)}: {config.out}")


def detect_and_print(config: DetectConfig) -> None:
    """Stage 2, its verdict and its results table, printed and written to the report's folder."""
    run, home, resolved, folds = train_detectors(config)
    if not is_first():
        return
    results, scored = table(run, home, resolved, folds), scores_of(run, home, resolved, folds)
    with alone_in(home.report, wait=True):  # for a `leanet report` under way
        write_table(home.report, results)
        mistakes = write_mistakes(home.report, run, scored)
    print_verdict(run, verdict_of(run, results, scored), mistakes)
    print_table(results)


def print_fold_reports(config: DetectConfig) -> None:
    """Print, as the published program does, confusion matrix, classification report and F1 of each fold."""
    home = RunFolder(config.out or config.run)
    folds = parse_folds(config.compute.folds, len(find(config.run).folds))
    for number in folds:
        p = read_predictions(home.fold(number).detector(config.detector.name).predictions)
        for name, probabilities in (("ADN", p.adn), ("CAAN", p.caan)):
            if probabilities is None:
                continue
            decided = (probabilities >= PLAIN_THRESHOLD).astype(int)
            stdout.print(f"\nfold {number}, {name}: confusion matrix (rows: true normal, anomalous)")
            stdout.print(str(confusion_matrix(p.labels, decided, labels=[0, 1])))
            if len(set(p.labels)) == 2:  # with one class, half of the report would be undefined, and shown as 0
                names = ["normal", "anomalous"]
                said = classification_report(p.labels, decided, labels=[0, 1], target_names=names, zero_division=0)
                stdout.print(said)
            found = score(Scored(p.labels, probabilities))
            note(f"F1 of {name}: {metric_text(found.f1)} ({found.prevalence:.0%} anomalous)")


def print_verdict(run: Run, found: Verdict, path: Path) -> None:
    """Print what was found, then the pictures that were missed and the false alarms, by name.

    Args:
        path: the file that names all of them.
    """
    heading(found.headline)
    for text in found.details:
        paragraph(text, hanging=0)
    for title, mistakes, of in (
        ("missed", found.missed, f"{found.anomalous} anomalous pictures"),
        ("false alarms", found.false_alarms, f"{found.normal} normal pictures"),
    ):
        if not mistakes:
            continue
        heading(f"{title}: {len(mistakes)} of {of} (probability, name; surest first)")
        for mistake in mistakes[:MOST_NAMED]:
            note(f"  {probability_text(mistake.probability):<5}  {run.images[mistake.row].file}")
        if len(mistakes) > MOST_NAMED:
            note(f"  and {len(mistakes) - MOST_NAMED} more: {path}")
    stdout.print()


def print_table(results: Table) -> None:
    """Print means with intervals, the paired differences to the first row, and all folds' test images pooled.

    The words are explained below the first table.
    """
    first, *others = results.rows
    prevalence = f"{first.pooled.anomalous / first.pooled.images:.0%} anomalous"
    trained = f"{len(first.by_fold('f1'))} fold(s), {len(first.runs)} training(s)"
    over = Printed(title=f"mean [95 % interval] over {trained}; {prevalence}")
    against = Printed(title=f"{first.name} less each other row, fold by fold")
    first_seed = "; first seed" if len({seed for _, seed in first.runs}) > 1 else ""
    together = Printed(title=f"{first.pooled.images} test images pooled, {prevalence}" + first_seed, caption=CELLS)
    for printed, headers in (
        (over, PRINTED.values()),
        (against, ("F1 at 0.5", "AUROC")),
        (together, [PRINTED[m] for m in ("f1", "auroc", "average_precision")]),
    ):
        printed.add_column("", overflow="fold")
        for header in headers:
            printed.add_column(header, justify="right", overflow="fold")
    together.add_column("TN FP FN TP", justify="right")
    for row in results.rows:
        over.add_row(row.name, *(cell(row, metric) for metric in PRINTED))
        p = row.pooled
        cells = (p.true_negatives, p.false_positives, p.false_negatives, p.true_positives)
        confusion = "" if cells[0] is None else " ".join(map(str, cells))
        f1 = "" if cells[0] is None else _number(p.f1)
        together.add_row(row.name, f1, _number(p.auroc), _number(p.average_precision), confusion)
    for row in others:
        against.add_row(row.name, *compared(first, row))
    stdout.print(over)
    print_words(results.rows)
    stdout.print()
    if others and len(first.by_fold("f1")) > 1:
        stdout.print(against)
    stdout.print(together)
    for text in results.notes:
        note(f"note: {text}")


def write_table(folder: Path, results: Table) -> None:
    """Write every number, fold by fold, to metrics.csv, and all paired differences to differences.csv."""
    records = [record for row in results.rows for record in row.records()]
    header = max(records, key=len).keys()
    lines = [[plain(record.get(key)) for key in header] for record in records]
    write_csv(folder / "metrics.csv", list(header), lines)
    pairs = []
    for i, row in enumerate(results.rows):
        for other in results.rows[i + 1 :]:
            for metric in METRICS:
                if found := difference(row, other, metric):
                    ends = (plain(found.mean), plain(found.low), plain(found.high))
                    pairs.append((row.name, other.name, metric, *ends, verdict(found)))
    write_csv(folder / "differences.csv", ("row", "less", "metric", "mean", "low", "high", "verdict"), pairs)


def duration(seconds: float) -> str:
    """A duration for people: '8 s', '3 min 20 s', '1 h 5 min'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes} min {s} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
