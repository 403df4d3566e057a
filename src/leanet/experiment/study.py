"""`leanet study`: a grid of detectors on one run's folds, colorizers and maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table as Printed

from leanet.experiment.colorize import colorize
from leanet.experiment.detect import train_detectors
from leanet.experiment.display import note, stdout
from leanet.experiment.evaluate import METRICS, Interval, Row, difference, shown, verdict
from leanet.experiment.results import detector_rows, ratio_of_sides
from leanet.experiment.run_folder import RunFolder, write_csv
from leanet.ranks import is_first
from leanet.settings import ColorizeConfig, DetectConfig, DetectorConfig, StudyConfig

_PRINTED = ("f1", "f1_chosen", "auroc", "average_precision")


@dataclass(frozen=True)
class Cell:
    """One detector of the grid, its ADN's results, and those of the same ADN without attention."""

    p_rate: float
    detector: DetectorConfig
    row: Row
    baseline: Row

    def gain(self, metric: str) -> Interval | None:
        """The paired difference to the baseline, with its interval; None for the baseline itself."""
        return None if self.row is self.baseline else difference(self.row, self.baseline, metric)


def study(config: StudyConfig, draw: Callable[[Sequence[Cell]], None] | None = None) -> list[Cell]:
    """Train what is missing of the grid, print and write its table; returns its cells.

    The maps lie in OUT; the detectors of each p_rate in OUT/p-rate-<p_rate>, a folder like a run's. Stopped, it
    leaves the table of what is done.

    Args:
        draw: called with the cells that are done, after each.
    """
    run = colorize(ColorizeConfig(config.dataset, config.out, config.data, config.colorizer, config.compute))
    grid = config.cells()
    cells: list[Cell] = []
    for number, (p_rate, detector) in enumerate(grid):
        note(f"cell {number + 1} of {len(grid)}: {detector.name}, p_rate {p_rate:g}")
        wanted = DetectConfig(config.out, folder_of(config.out, p_rate), detector, config.compute, compare=False)
        run, home, resolved, folds = train_detectors(wanted)
        if not is_first():
            continue
        row = detector_rows(run, home, resolved.detector, folds, ratio_of_sides(run, resolved, folds)).rows[0]
        if detector.caan == "none":
            baseline = row
        cells.append(Cell(p_rate, detector, row, baseline))
        write_cells(run.folder, cells)
        if draw:
            draw(cells)
    if is_first():
        print_cells(cells)
        note(f"table and figures: {run.folder.report}")
    return cells


def folder_of(out: Path, p_rate: float) -> Path:
    """Where the detectors of a p_rate lie."""
    return out / f"p-rate-{p_rate:g}"


def write_cells(home: RunFolder, cells: list[Cell]) -> None:
    """Write report/study.csv: every metric of every cell with its interval, and the gain over the baseline."""
    header = [
        "p_rate",
        "adn",
        "caan",
        "attention_point",
        "attention",
        "caan_weight",
        "trainings",
        "prevalence",
        "metric",
        "mean",
        "low",
        "high",
    ]
    header += ["gain", "gain_low", "gain_high", "verdict"]
    lines = []
    for cell in cells:
        d = cell.detector
        prevalence = f"{cell.row.pooled.prevalence:.6g}"
        own_options = ["", "", ""] if d.caan == "none" else [d.attention_point[0], d.attention, d.caan_weight]
        for metric in METRICS:
            own, gain = cell.row.interval(metric), cell.gain(metric)
            if own is None:
                continue
            ends = [own.mean, own.low, own.high] + ([gain.mean, gain.low, gain.high] if gain else [None] * 3)
            said = verdict(gain) if gain else ""
            numbers = ["" if v is None or v != v else f"{v:.6g}" for v in ends]
            lines.append(
                [
                    f"{cell.p_rate:g}",
                    d.adn,
                    d.caan,
                    *own_options,
                    len(cell.row.runs),
                    prevalence,
                    metric,
                    *numbers,
                    said,
                ]
            )
    write_csv(home.report / "study.csv", header, lines)


def print_cells(cells: list[Cell]) -> None:
    """Print one line a cell: means with intervals, and what the attention gained in AUROC."""
    anomalous = f"{cells[0].row.pooled.prevalence:.0%} anomalous"
    gained = "gain: AUROC less that without attention"
    printed = Printed(title=f"means [95 % intervals] over folds; {anomalous}; {gained}")
    for header in ("p_rate", "detector", "F1 at 0.5", "F1, threshold chosen", "AUROC", "average precision", "gain"):
        printed.add_column(header, justify="left" if header == "detector" else "right")
    for cell in cells:
        gain = cell.gain("auroc")
        said = f"{shown(gain, '+')} {verdict(gain)}" if gain else ""
        values = [shown(cell.row.interval(metric)) for metric in _PRINTED]
        printed.add_row(f"{cell.p_rate:g}", cell.detector.name, *values, said)
    stdout.print(printed, markup=False)
