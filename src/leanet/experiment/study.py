"""`leanet study`: a grid of detectors on one run's folds, colorizers and maps."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from leanet.config import ColorizeConfig, DetectConfig, DetectorConfig, StudyConfig, parse_folds
from leanet.experiment.colorize import colorize
from leanet.experiment.detect import refuse_unfit, refuse_unfit_weights, train_each
from leanet.experiment.detector_task import TrainDetector
from leanet.experiment.estimate import estimate, unfinished
from leanet.experiment.executors.registry import executor
from leanet.experiment.experiment import Experiment
from leanet.experiment.open_run import Run, begin
from leanet.experiment.run_folder import RunFolder, plain
from leanet.experiment.simple_rows import simple_rows
from leanet.experiment.table import detector_rows, held_out_row, unchosen_note
from leanet.experiment.tasks import Worker
from leanet.experiment.training_set import refuse_too_few_labelled
from leanet.files import write_csv
from leanet.lock import alone_in
from leanet.ranks import is_first
from leanet.results.intervals import Interval, verdict
from leanet.results.metrics import METRICS
from leanet.results.rows import Row, difference
from leanet.training.compute import find_device
from leanet.training.processes import first_before_others

_log = logging.getLogger(__name__)

HELD_OUT = "auroc_held_out"
"""Name in study.csv of the AUROC on the held-out images."""


@dataclass(frozen=True)
class Cell:
    """One detector of the grid, its results, and those of the same ADN without attention.

    Attributes:
        rows: the ADN's results first, then what `detector_rows` has beside it.
        held_out: the ADN's results on the held-out images, by which to choose a cell; None without these.
        baseline: None if the study has none, and for the baseline itself.
    """

    detector: DetectorConfig
    rows: tuple[Row, ...]
    held_out: Row | None
    baseline: Row | None

    @property
    def row(self) -> Row:
        """The ADN's results."""
        return self.rows[0]

    def gain(self, metric: str, row: Row | None = None) -> Interval | None:
        """The paired difference of the ADN, or of another of the rows, to the baseline, with its interval."""
        return None if self.baseline is None else difference(row or self.row, self.baseline, metric)


@dataclass(frozen=True)
class Study:
    """Results of a study.

    Attributes:
        cells: the grid's detectors with their results, in the grid's order.
        beside: p_rate -> the rows without a network, which follow that p_rate's cells.
        notes: facts beyond the table.
    """

    cells: tuple[Cell, ...]
    beside: Mapping[float, Sequence[Row]]
    notes: tuple[str, ...]


def study(config: StudyConfig, draw: Callable[[Sequence[Cell]], None] | None = None) -> Study:
    """Train the missing cells of the grid and write its table.

    A stopped study leaves the table of its finished cells, and resumes. Detectors of an earlier grid in the same
    folder stay; they are in the table only if this grid includes them.

    Args:
        draw: called with the finished cells, after each training and at the end.
    Raises:
        UserError: bad data, options that do not fit the folder's, or a folder that another process works in.
    """
    for detector in config.cells():
        refuse_unfit(detector, config.data.image_size)
    for adn in {detector.adn: detector.baseline() for detector in config.cells()}.values():
        refuse_unfit_weights(adn, config.data.image_size)
    executor(config.compute)
    with alone_in(config.out):
        return _study(config, draw)


def _study(config: StudyConfig, draw: Callable[[Sequence[Cell]], None] | None) -> Study:
    first = ColorizeConfig(config.dataset, config.out, config.data, config.colorizer, config.compute)
    home = RunFolder(config.out)
    grid = [DetectConfig(home.path, home.cell(d.p_rate).path, d, config.compute, False) for d in config.cells()]
    with first_before_others(find_device(config.compute.device)):
        begun = begin(first)  # report problems of the data before timing any step
    for wanted in grid:
        refuse_too_few_labelled(wanted, begun)
    estimate(unfinished(first, grid, begun), begun)
    run = colorize(first, begun)
    cells: list[Cell] = []
    beside: dict[float, list[Row]] = {}
    baseline: Row | None = None

    def announce(number: int) -> None:
        detector = grid[number].detector
        _log.info(f"cell {number + 1} of {len(grid)}: {detector.name}, p_rate {detector.p_rate:g}")

    for number, trained in enumerate(train_each(grid, announce)):
        detector = grid[number].detector
        if not is_first():
            continue
        rows, held_out = detector_rows(trained).rows, held_out_row(trained)
        if not detector.has_attention:
            baseline = rows[0]
        cells.append(Cell(detector, rows, held_out, None if rows[0] is baseline else baseline))
        if detector.p_rate not in beside:
            beside[detector.p_rate] = simple_rows(trained)
        if number + 1 < len(grid) and _is_trained(grid[number + 1], run):
            continue  # do not replace an earlier call's table by a shorter one
        write_cells(run.folder, cells, beside)
        if draw:
            draw(cells)
    notes: list[str] = []
    if is_first():
        if unchosen := unchosen_note([s.threshold_chosen for c in cells for s in c.row.runs.values()]):
            notes.append(unchosen)
        notes.append(f"table and figures: {run.folder.report}")
        if others := _others(run.folder, cells):
            notes.append(f"not in them, because this grid does not include them: {', '.join(others)}")
    return Study(tuple(cells), beside, tuple(notes))


def _is_trained(wanted: DetectConfig, run: Run) -> bool:
    experiment = Experiment(run, wanted, parse_folds(wanted.compute.folds, len(run.folds)))
    return all(TrainDetector(wanted, n, s).done(Worker({wanted.run: run})) for n, s in experiment.trainings)


def _others(home: RunFolder, cells: Sequence[Cell]) -> list[str]:
    """Detectors of earlier grids, as p-rate-0.05/ResNet18-ResNet-p2."""
    own = {
        f"{home.cell(d.p_rate).path.name}/{d.name_with(seed)}"
        for d in (c.detector for c in cells)
        for seed in range(d.seeds)
    }
    there = {
        f"{cell.path.name}/{folder.path.name}"
        for cell in home.cells()
        for folder in cell.detectors()
        if folder.metrics.exists()
    }
    return sorted(there - own)


def write_cells(home: RunFolder, cells: Sequence[Cell], beside: Mapping[float, Sequence[Row]]) -> None:
    """Write report/study.csv: every metric of every cell with its interval, and the gain over the baseline.

    Args:
        beside: p_rate -> the rows without a network, which follow that p_rate's cells.
    """
    header = ["p_rate", "row", "adn", "caan", "attention_point", "attention", "caan_weight", "trainings"]
    header += ["prevalence", "metric", "mean", "low", "high", "gain", "gain_low", "gain_high", "verdict"]
    lines = []
    for p_rate, rows in beside.items():
        for own in (own for own in cells if own.detector.p_rate == p_rate):
            d = own.detector
            asked_for = (
                ["".join(map(str, d.attention_point)), d.attention, d.caan_weight] if d.has_attention else [""] * 3
            )
            named = [d.adn, d.caan, *asked_for]
            for row in own.rows:
                lines += _lines([f"{p_rate:g}", row.name, *named], row, partial(own.gain, row=row))
            if own.held_out:
                named = [f"{p_rate:g}", own.row.name, *named]
                lines += _lines(named, own.held_out, lambda _: None, {HELD_OUT: "auroc"})
        for row in rows:
            lines += _lines([f"{p_rate:g}", row.name, *[""] * 5], row, lambda _: None)
    write_csv(home.report / "study.csv", header, lines)


def _lines(
    named: list[object],
    row: Row,
    gain_of: Callable[[str], Interval | None],
    metrics: Mapping[str, str] | None = None,
) -> list[list[object]]:
    """A row's line for each metric, after the cells that name it; undefined metrics are empty.

    Args:
        metrics: name in the table -> the row's metric; None: all, by their own names.
    """
    lines = []
    for name, metric in (metrics or dict(zip(METRICS, METRICS, strict=True))).items():
        own, gain = row.interval(metric), gain_of(metric)
        ends = [v for found in (own, gain) for v in (dataclasses.astuple(found) if found else [None] * 3)]
        numbers = [len(row.runs), plain(row.pooled.prevalence), name, *map(plain, ends)]
        lines.append([*named, *numbers, verdict(gain) if gain else ""])
    return lines
