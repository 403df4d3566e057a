"""Both stages in one go, and the results table."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from leanet.config import DetectConfig, RunConfig
from leanet.experiment.colorize import colorize
from leanet.experiment.detect import refuse_unfit, refuse_unfit_weights, train_detectors
from leanet.experiment.estimate import estimate, unfinished
from leanet.experiment.executors.registry import executor
from leanet.experiment.experiment import Experiment
from leanet.experiment.open_run import begin
from leanet.experiment.run_folder import plain
from leanet.experiment.table import Table, scores_of, table
from leanet.experiment.training_set import refuse_too_few_labelled
from leanet.experiment.verdict import Verdict, verdict_of, write_mistakes
from leanet.files import write_csv
from leanet.lock import alone_in
from leanet.ranks import is_first
from leanet.results.intervals import verdict
from leanet.results.metrics import METRICS
from leanet.results.rows import difference
from leanet.training.compute import find_device
from leanet.training.processes import first_before_others

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """Results of a run.

    Attributes:
        experiment: what was trained.
        table: metrics of the detector, its baseline and simpler scorers.
        verdict: the same in words, with the missed images and the false alarms.
        mistakes: the CSV file that lists these.
        seconds: duration.
    """

    experiment: Experiment
    table: Table
    verdict: Verdict
    mistakes: Path
    seconds: float


def run(config: RunConfig) -> Results | None:
    """Do both stages: colorizers and anomaly maps, then detectors; skip what is finished.

    Returns:
        The results, which are also written to the report folder; None except in the first of several processes.
    Raises:
        UserError: bad data or options, or a folder that belongs to another run or is in use.
    """
    started = time.monotonic()
    first, second = config.stages()
    refuse_unfit(config.detector, config.data.image_size)
    refuse_unfit_weights(config.detector, config.data.image_size)
    executor(config.compute)
    with alone_in(config.out):
        with first_before_others(find_device(config.compute.device)):
            begun = begin(first)  # report problems of the data before timing any step
        refuse_too_few_labelled(second, begun)
        detectors = config.detector.beside_baseline(config.compare)
        estimate(unfinished(first, [replace(second, detector=d) for d in detectors], begun), begun)
        colorize(first, begun)
        return results_of(second, started)


def results_of(config: DetectConfig, started: float | None = None) -> Results | None:
    """Do stage 2 and return the results as `run` does.

    Args:
        config: the stage's options.
        started: start time by the monotonic clock, if `seconds` includes more than this stage.
    """
    began = time.monotonic() if started is None else started
    experiment = train_detectors(config)
    if not is_first():
        return None
    run, folder = experiment.run, experiment.home.report
    results, scored = table(experiment), scores_of(experiment)
    with alone_in(folder, wait=True):  # for a `leanet report` in progress
        write_table(folder, results)
        mistakes = write_mistakes(folder, run, scored)
    return Results(experiment, results, verdict_of(run, results, scored), mistakes, time.monotonic() - began)


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
