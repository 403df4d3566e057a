"""`leanet report`: one self-contained page with a run's results and their limits."""

from __future__ import annotations

import base64
import contextlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import yaml
from markupsafe import Markup, escape
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from leanet.config import DataConfig, ReportConfig
from leanet.data.pictures import joined
from leanet.data.remote import address
from leanet.errors import UserError
from leanet.experiment.experiment import Experiment
from leanet.experiment.finished import finished, recorded_detector, what_is_missing
from leanet.experiment.heat import heat_maps
from leanet.experiment.open_run import Run
from leanet.experiment.robustness import robustness
from leanet.experiment.run import write_table
from leanet.experiment.run_folder import RunFolder, plain, read_config
from leanet.experiment.table import Table, scores_of, table
from leanet.experiment.unseen_kinds import unseen_kinds
from leanet.experiment.verdict import MOST_NAMED, Verdict, probability_text, verdict_of, write_mistakes
from leanet.files import refuse_other, write_csv, write_text
from leanet.lock import alone_in
from leanet.progress import progress_bar
from leanet.report import figures
from leanet.report.charts import Chart, draw_all
from leanet.report.pictures import full_size_attention, save
from leanet.results.intervals import interval, shown, verdict
from leanet.results.localise import aupro, peaks_on_masks, pixel_auroc, read_mask
from leanet.results.metrics import PLAIN_THRESHOLD, PRINTED, Scored, metric_text
from leanet.results.rows import Key, Row, cell, compared, difference
from leanet.results.words import heading, words_of

_log = logging.getLogger(__name__)

GENERATOR = b'<meta name="generator" content="leanet report">'
"""The tag that identifies a report's page."""

PIXELS_PER_INCH = 96
"""CSS pixels per inch, on any screen."""


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its PNG as a data URI, its width in pixels of the page, and its caption."""

    uri: str
    width: int
    caption: str


def report(config: ReportConfig) -> Path:
    """Write RUN/report/index.html, and its figures and tables as files; return the page's path.

    The page of a named detector is in RUN/report/<detector>/.

    Raises:
        UserError: no run, no finished fold in it (the message names what is missing), or another process is
            writing the report.
    """
    with alone_in(config.run / "report") if config.run.is_dir() else contextlib.nullcontext():
        return _report(config)


def _report(config: ReportConfig) -> Path:
    home = RunFolder(config.run)
    folder = home.report / (config.detector or "")
    asked = recorded_detector(home, config.detector)
    experiment, missing = finished(asked)
    run, detector, folds = experiment.run, experiment.detector, experiment.folds
    if not folds:
        raise UserError(
            f"{config.run}: no fold is finished. {what_is_missing(missing)} Resume with the same command."
        )
    path = folder / "index.html"
    refuse_other(path, str(path), _is_report, remedy="Move it.")
    without_baseline = []
    if asked.compare and detector.has_attention and not experiment.config.compare:
        without_baseline = [
            "The baseline is not shown, because it has not finished all of these folds with the same options."
        ]
    results = table(experiment)
    write_table(folder, results)
    scored = scores_of(experiment)
    write_mistakes(folder, run, scored)
    _write_numbers(folder, scored)
    found = verdict_of(run, results, scored)
    pictures = _draw(draw_all(experiment, scored, found), folder / "figures")
    page = _template().render(
        title=" / ".join(dict.fromkeys(path.resolve().name for path in (run.folder.path, home.path))),
        detector=detector.name,
        images=len(run.images),
        anomalous=int(run.labels.sum()),
        folds=len(folds),
        all_folds=len(run.folds),
        trainings=len(results.rows[0].runs),
        verdict=found,
        mistakes=_lists(run, found),
        words=words_of(results.rows),
        headers=[(PRINTED[metric], heading(metric)) for metric in PRINTED],
        rows=[(row.name, [cell(row, metric) for metric in PRINTED]) for row in results.rows],
        differences=_differences(results),
        shows=[
            _trained_on(experiment),
            *in_words(run, results, missing, detector.target_recall),
            *without_baseline,
        ],
        notes=results.notes,
        pictures=pictures,
        kinds=kinds_of(run, folder, scored),
        unseen=unseen_of(experiment, folder),
        robustness=_robustness(experiment, scored, folder),
        localisation=_localisation(experiment, folder),
        settings=_settings(experiment),
        fingerprint=run.fingerprint(folds[0]),
    )
    write_text(path, page)
    _log.info(f"report: {path}")
    return path


def _is_report(page: Path) -> bool:
    beginning = page.read_bytes()[:4096]
    return GENERATOR in beginning or b": leanet report</title>" in beginning  # of earlier versions


def _draw(charts: Sequence[Chart], folder: Path) -> dict[str, Picture]:
    """Write the figures as PNG and SVG; return them by name, for the page."""
    pictures = {}
    with progress_bar("figures", len(charts)) as set_done:
        for done, chart in enumerate(charts):
            set_done(done, chart.name)
            for suffix in ("png", "svg"):
                save(chart.figure, folder / f"{chart.name}.{suffix}")
            width = round(chart.figure.get_figwidth() * PIXELS_PER_INCH)
            pictures[chart.name] = Picture(_uri(folder / f"{chart.name}.png"), width, chart.caption)
    return pictures


def _lists(run: Run, found: Verdict) -> list[tuple[str, int, list[tuple[str, str]], int]]:
    """Both kinds of mistakes: title, count, the first by probability and name, and the number of others."""
    lists = []
    for title, mistakes in (
        (f"Missed, of {found.anomalous} anomalous pictures", found.missed),
        (f"False alarms, of {found.normal} normal pictures", found.false_alarms),
    ):
        named = [(probability_text(m.probability), run.images[m.row].file) for m in mistakes[:MOST_NAMED]]
        lists.append((title, len(mistakes), named, len(mistakes) - len(named)))
    return lists


def _write_numbers(folder: Path, scored: Mapping[Key, Scored]) -> None:
    """Write the figures' numbers that no other table has: curves, and the first seed's reliability."""
    points = [(fold, seed, *point) for (fold, seed), s in scored.items() for point in figures.curve_points(s)]
    write_csv(folder / "curves.csv", ("fold", "seed", "curve", "x", "y"), points)
    first = [s for (_, seed), s in scored.items() if seed == 0]
    bins = [(f"{p:.6g}", f"{share:.6g}", count) for p, share, count in figures.reliability_bins(first)]
    header = ("mean_probability", "share_anomalous", "images")
    write_csv(folder / "reliability.csv", header, bins)


def in_words(
    run: Run, results: Table, missing: Mapping[int, Sequence[str]], target_recall: float | None = None
) -> list[str]:
    """Sentences on what the table does and does not show."""
    first, *others = results.rows
    prevalence = first.pooled.prevalence
    guess = 2 * prevalence / (1 + prevalence)
    words = [
        f"{prevalence:.0%} of the test images are anomalous: calling every image anomalous gives "
        f"an F1 of {guess:.3f}."
    ]
    if target_recall and 0 < prevalence < 1 and all(s.threshold_chosen is not None for s in first.runs.values()):
        words.append(_recall_reached(first, target_recall))
    baseline_first = sorted(others, key=lambda row: "without attention" not in row.name)
    words += [text for row in baseline_first if (text := _compared(first, row))]
    border = next((row for row in others if "border" in row.name), None)
    found = border.interval("auroc") if border else None
    if found and found.mean > 0.6:
        words.append(
            f"The colors of the image's border alone reach an AUROC of {found.mean:.3f}: the background may "
            "give the class away, to a network too."
        )
    if not run.folder.read_config().get("groups"):
        words.append(
            "The folds are random. If several images show one object, the results are too optimistic: use --groups."
        )
    if len(first.by_fold("f1")) < 2:
        words.append("One fold has no interval: the variation between folds is unknown.")
    if missing:
        words.append(f"The run is not finished: {what_is_missing(missing)}")
    return words


def _trained_on(experiment: Experiment) -> str:
    """How many images the detectors were trained on, in a sentence."""
    found = [experiment.folder(n).read_metrics()["train"] for n in experiment.folds]
    images, anomalous = (round(float(np.mean([f[key] for f in found]))) for key in ("images", "anomalous"))
    return (
        f"A detector was trained on about {images} labeled images, {anomalous} of them anomalous: the share "
        f"{experiment.detector.p_rate:g} (p_rate) of a fold's training anomalies."
    )


def _recall_reached(row: Row, target: float) -> str:
    """A sentence on the recall on the test images and the target recall."""
    s = row.pooled
    found = (s.true_positives_chosen or 0) / s.anomalous
    false_alarms = (s.false_positives_chosen or 0) / (s.images - s.anomalous)
    return (
        f"The chosen thresholds find at least {target:.0%} of the held-out anomalous images. On the test "
        f"images, they find {found:.0%} of the anomalous ones, and call {false_alarms:.0%} of the normal ones "
        "anomalous."
    )


def _compared(row: Row, other: Row) -> str:
    found = difference(row, other, "auroc")
    said = verdict(found)
    if found is None or said == "not known":
        return ""
    numbers = f"{found.mean:+.3f}, 95 % interval {found.low:+.3f} to {found.high:+.3f}"
    if said == "no difference shown":
        return f"No difference in AUROC was shown between {row.name} and {other.name} ({numbers})."
    return f"{row.name} has a {said} AUROC than {other.name} ({numbers})."


def _differences(results: Table) -> list[tuple[str, list[str]]]:
    first, *others = results.rows
    return [(row.name, compared(first, row)) for row in others]


def kinds_of(run: Run, folder: Path, scored: Mapping[Key, Scored]) -> list[tuple[str, ...]]:
    """Kind, images, share found at 0.5, AUROC against the fold's normal images; also written as CSV.

    Empty if there is one kind. The AUROC is the mean over folds: probabilities of different folds are not ranked
    against each other.
    """
    kinds = sorted({image.kind for image in run.images if image.label})
    if len(kinds) < 2:
        return []
    lines: list[tuple[str, ...]] = []
    numbers: list[tuple[object, ...]] = []
    for kind in kinds:
        found, aurocs = [], []
        for (fold, _), s in scored.items():
            rows = run.rows(run.folds[fold].test)
            one = np.array([run.images[row].label == 1 and run.images[row].kind == kind for row in rows])
            either = one | (s.labels == 0)
            found.append(s.scores[one] >= PLAIN_THRESHOLD)
            if 0 < one.sum() < either.sum():
                aurocs.append(roc_auc_score(one[either], s.scores[either]))
        every = np.concatenate(found)
        if len(every):
            auroc = float(np.mean(aurocs)) if aurocs else None
            named = kind or "without a kind", str(len(every) // len({seed for _, seed in scored}))
            lines.append((*named, f"{every.mean():.3f}", metric_text(auroc)))
            numbers.append((*named, plain(float(every.mean())), plain(auroc)))
    write_csv(folder / "kinds.csv", ("kind", "images", "found_at_0.5", "auroc"), numbers)
    return lines


def unseen_of(experiment: Experiment, folder: Path) -> list[tuple[str, ...]]:
    """A line for each held-out kind and part of the answer; also written as CSV. Empty if no kind was held out."""
    path = folder / "unseen_kinds.csv"
    found = unseen_kinds(experiment)
    if not found:
        path.unlink(missing_ok=True)
        return []
    named = [(k.kind or "without a kind", str(k.images), k.part) for k in found]
    values = [(k.auroc, k.f1, k.found, k.false_alarms) for k in found]
    header = ("kind", "images", "by", "auroc", "f1", "found", "false_alarms")
    write_csv(path, header, [(*n, *map(plain, v)) for n, v in zip(named, values, strict=True)])
    return [(*n, *map(metric_text, v)) for n, v in zip(named, values, strict=True)]


def _robustness(
    experiment: Experiment, scored: Mapping[Key, Scored], folder: Path
) -> tuple[int, list[tuple[str, ...]]]:
    """The number of test images that were changed, and a line for each change; also written as CSV."""
    try:
        found = robustness(experiment, scored, folder / "robustness.json")
    except UserError as error:  # the maps of an imported run have no source
        _log.info(f"note: no results in other light: {error}")
        (folder / "robustness.csv").unlink(missing_ok=True)
        return 0, []
    header = ("change", "auroc", "f1", "found", "false_alarms")
    values = [(c.auroc, c.f1, c.found, c.false_alarms) for c in found.conditions]
    names = [c.name for c in found.conditions]
    write_csv(folder / "robustness.csv", header, [(n, *map(plain, v)) for n, v in zip(names, values, strict=True)])
    return found.images, [(n, *map(metric_text, v)) for n, v in zip(names, values, strict=True)]


def _localisation(experiment: Experiment, folder: Path) -> list[tuple[str, ...]]:
    """Pixel AUROC, AUPRO and peaks on the mask of each map, by fold and their mean.

    Also written as CSV; empty without masks.
    """
    run = experiment.run
    dataset = run.images_in
    path = folder / "localisation.csv"
    path.unlink(missing_ok=True)
    measured: dict[str, dict[int, tuple[float | None, ...]]] = {}
    for fold in experiment.folds:
        rows = run.rows(run.folds[fold].test)
        rows = np.array([r for r in rows if run.images[r].label == 0 or run.images[r].mask])
        if not any(run.images[r].mask for r in rows):
            continue
        try:
            masks = np.stack([_mask(dataset, run, int(row)) for row in rows])
        except OSError as error:
            _log.info(f"note: no localization results: the masks in {dataset} are missing or unusable ({error})")
            return []
        told = {"anomaly map": run.maps(fold, unpack=False).delta_e(rows)}
        if experiment.detector.has_frozen_adn:
            heat = heat_maps(experiment, fold, rows)
            told |= {"evidence": heat["evidence"], "evidence and anomaly map": heat["both"]}
        elif experiment.detector.has_attention:
            told["attention"] = full_size_attention(experiment, fold, rows)
        for name, maps in told.items():
            scores = pixel_auroc(maps, masks), aupro(maps, masks), peaks_on_masks(maps, masks)
            measured.setdefault(name, {})[fold] = scores
    lines: list[tuple[str, ...]] = []
    numbers: list[tuple[object, ...]] = []
    for name, by_fold in measured.items():
        lines += [(f"fold {fold}", name, *map(metric_text, values)) for fold, values in by_fold.items()]
        numbers += [(f"fold {fold}", name, *map(plain, values)) for fold, values in by_fold.items()]
        found = [interval(values, experiment.test_to_train) for values in zip(*by_fold.values(), strict=True)]
        means = [mean and mean.within(0, 1) for mean in found]
        lines.append(("mean [95 % interval]", name, *(shown(mean) or "undefined" for mean in means)))
        for title, end in (
            ("mean", "mean"),
            ("95 % interval, low end", "low"),
            ("95 % interval, high end", "high"),
        ):
            numbers.append((title, name, *(plain(getattr(mean, end) if mean else None) for mean in means)))
    if numbers:
        write_csv(path, ("over", "map", "pixel_auroc", "aupro", "peak_on_mask"), numbers)
    return lines


def _mask(dataset: Path, run: Run, row: int) -> NDArray[np.bool_]:
    image = run.images[row]
    if not image.mask:
        return np.zeros((run.side, run.side), dtype=bool)
    aspect = run.folder.read_config().get("aspect", DataConfig.aspect)
    return read_mask(joined(address(dataset), image.mask), run.side, aspect, (image.width, image.height))


def _settings(experiment: Experiment) -> str:
    """The recorded options of both stages, the detector's with the facts of its first training."""
    detector = read_config(experiment.folder(experiment.folds[0]).config)
    parts = {"run": experiment.run.folder.read_config(), "detector": detector}
    return yaml.safe_dump(parts, sort_keys=False, allow_unicode=True)


def _uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _template() -> jinja2.Template:
    source = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _with_code
    return environment.from_string(source)


def _with_code(text: str) -> Markup:
    """A sentence as HTML, with text in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
