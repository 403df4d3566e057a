"""`leanet check`: what is in a dataset folder, printed for a person."""

from __future__ import annotations

from leanet.data.check import CheckReport, check_dataset
from leanet.data.folder import limit_per_class, scan
from leanet.data.splits import too_large_groups
from leanet.experiment.display import note, progress_bar
from leanet.experiment.estimate import estimate
from leanet.experiment.open_run import refuse_missing_opencv
from leanet.settings import CheckConfig


def check_and_print(config: CheckConfig) -> int:
    """Print the check of a data set, and how long a run would take; returns 2 where problems were found."""
    refuse_missing_opencv(config.colorizer)
    data = config.data
    dataset = scan(config.dataset, normal_dir=data.normal_dir, abnormal_dir=data.abnormal_dir, groups=data.groups)
    if data.max_per_class is not None:
        dataset = limit_per_class(dataset, data.max_per_class, config.compute.seed)
    with progress_bar("checking images", len(dataset.samples)) as set_done:
        report = check_dataset(
            dataset,
            data.n_splits,
            config.compute.seed,
            skip_unreadable=data.skip_unreadable,
            on_progress=lambda done: set_done(done, ""),
        )
    for line in _lines(report):
        note(line)
    for text in too_large_groups(dataset, data.n_splits):
        note(f"note: {text}")
    for problem in report.problems:
        note(f"problem: {problem}")
    if report.problems:
        return 2
    if config.estimate:
        estimate(config, [(detector, None) for detector in config.detector.beside_baseline(compare=True)])
    note("no problems found")
    return 0


def _lines(report: CheckReport) -> list[str]:
    lines = [f"images: {report.counts['normal']} normal, {report.counts['anomalous']} anomalous"]
    if any(report.kinds):
        lines.append("kinds of anomaly: " + _listed(report.kinds))
    if report.masks:
        lines.append(f"masks: {report.masks}")
    if report.smallest and report.median and report.largest:
        sizes = [f"{w} x {h}" for w, h in (report.smallest, report.median, report.largest)]
        lines.append(
            f"sizes: smallest {sizes[0]}, median {sizes[1]}, largest {sizes[2]}; {report.distinct_sizes} different"
        )
    lines.append("formats: " + _listed(report.formats))
    if report.converted:
        lines.append("converted on reading: " + _listed(report.converted))
    name, size = report.largest_group
    if size > 1:
        lines.append(f"groups: {report.groups}, the largest is {name} with {size} images")
    lines += [f"unreadable: {file} ({reason})" for file, reason in report.unreadable]
    lines += [f"exact duplicates (no split parts them): {', '.join(files)}" for files in report.duplicates.within]
    return lines + [f"note: {text}" for text in report.notes]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
