"""Results as text on the terminal: the verdict, the tables, and each fold's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table as Printed
from sklearn.metrics import classification_report, confusion_matrix

from leanet.console import heading, note, paragraph, stdout
from leanet.experiment.experiment import Experiment
from leanet.experiment.open_run import Run
from leanet.experiment.predictions import read_predictions
from leanet.experiment.run import Results
from leanet.experiment.study import Cell, Study
from leanet.experiment.table import Table
from leanet.experiment.verdict import MOST_NAMED, Verdict, headline, probability_text
from leanet.results.intervals import shown, verdict
from leanet.results.metrics import PLAIN_THRESHOLD, PRINTED, Scored, metric_text, score
from leanet.results.rows import Row, cell, compared
from leanet.results.words import GLOSSARY, words_of

CELLS = "TN FP FN TP at 0.5: normal and called so, false alarms, missed, anomalous and found"


def print_results(results: Results) -> None:
    """Print a run's verdict and its table."""
    print_verdict(results.experiment.run, results.verdict, results.mistakes)
    print_table(results.table)


def print_study(found: Study) -> None:
    """Print a study's table and notes."""
    print_cells(found.cells, found.beside)
    for text in found.notes:
        note(text)


def print_words(rows: Sequence[Row]) -> None:
    """Print the terms of these rows' table as footnotes."""
    for term, explained in words_of(rows).items():
        paragraph(f"{term}: {explained}")


def print_fold_reports(experiment: Experiment) -> None:
    """Print, as the authors' program does, confusion matrix, classification report and F1 of each fold."""
    for number in experiment.folds:
        p = read_predictions(experiment.folder(number).predictions)
        for name, probabilities in (("ADN", p.adn), ("CAAN", p.caan)):
            if probabilities is None:
                continue
            decided = (probabilities >= PLAIN_THRESHOLD).astype(int)
            stdout.print(f"\nfold {number}, {name}: confusion matrix (rows: true normal, anomalous)")
            stdout.print(str(confusion_matrix(p.labels, decided, labels=[0, 1])))
            if len(set(p.labels)) == 2:  # with one class, the report would show undefined metrics as 0
                names = ["normal", "anomalous"]
                said = classification_report(p.labels, decided, labels=[0, 1], target_names=names, zero_division=0)
                stdout.print(said)
            found = score(Scored(p.labels, probabilities))
            note(f"F1 of {name}: {metric_text(found.f1)} ({found.prevalence:.0%} anomalous)")


def print_verdict(run: Run, found: Verdict, path: Path) -> None:
    """Print the verdict, then the missed pictures and the false alarms, by name.

    Args:
        path: file that lists all mistakes.
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
    """Print means with intervals, the first row's paired differences, and pooled results.

    Footnotes below the first table explain its terms.
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


def _print_best(p_rate: float, cells: Sequence[Cell]) -> None:
    """Print the result of the cell with the highest AUROC, on held-out images if there are any."""
    by_held_out = all(cell.held_out for cell in cells)

    def auroc(cell: Cell) -> float:
        found = (cell.held_out if cell.held_out and by_held_out else cell.row).interval("auroc")
        return found.mean if found else 0.0

    best = max(cells, key=auroc)
    heading(f"p_rate {p_rate:g} (share of the training anomalies kept), {best.detector.name}: {headline(best.row)}")
    chosen = "pictures held out of the training" if by_held_out else "test pictures, which is partly luck"
    paragraph(f"It has the highest AUROC of {len(cells)} on the {chosen}. AUROC: {GLOSSARY['AUROC']}.", hanging=0)


def print_cells(cells: Sequence[Cell], beside: Mapping[float, Sequence[Row]]) -> None:
    """Print each p_rate's best cell; then one line per cell, and the rows without a network.

    Lines have means with intervals and the attention's gain.
    """
    for p_rate in beside:
        _print_best(p_rate, [own for own in cells if own.detector.p_rate == p_rate])
    anomalous = f"{cells[0].row.pooled.prevalence:.0%} anomalous"
    gained = "gain: AUROC less that without attention"
    printed = Printed(title=f"means [95 % intervals] over folds; {anomalous}; {gained}")
    metrics = ("f1", "auroc")
    for header in ("p_rate", "row", *(PRINTED[m] for m in metrics), "gain", "AUROC, held out"):
        printed.add_column(header, justify="left" if header == "row" else "right", overflow="fold")
    for p_rate, rows in beside.items():
        for own in (own for own in cells if own.detector.p_rate == p_rate):
            gain = own.gain("auroc")
            said = f"{shown(gain, '+')} {verdict(gain)}" if gain else ""
            unseen = shown(own.held_out.interval("auroc")) if own.held_out else ""
            printed.add_row(f"{p_rate:g}", own.detector.name, *(cell(own.row, m) for m in metrics), said, unseen)
        for row in rows:
            printed.add_row(f"{p_rate:g}", row.name, *(cell(row, m) for m in metrics))
    stdout.print()
    stdout.print(printed)
    print_words([row for own in cells for row in own.rows])


def duration(seconds: float) -> str:
    """A duration for people: '8 s', '3 min 20 s', '1 h 5 min'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes} min {s} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
