"""Pictures of a run: images, maps and attention, and the training losses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.nn import functional as F

from leanet.color.lab import decode_lab, encode_lab, lab_to_rgb, rgb_to_lab
from leanet.config import COLOR_MAP, DetectorConfig, parse_folds
from leanet.data.tensors import images_to_tensor
from leanet.experiment.detector_task import build_detector
from leanet.experiment.experiment import Experiment
from leanet.experiment.map_reader import map_reader, map_scale
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import read_history
from leanet.experiment.verdict import probability_text
from leanet.files import beside
from leanet.lock import alone_in
from leanet.maps.registry import find_map_source
from leanet.maps.store import Maps
from leanet.networks.external_attention import external_attention
from leanet.networks.leanet import LEANet, LEANetFeatures
from leanet.networks.registry import CAANS
from leanet.report.figures import CRISP, MAP_COLOURS, training_curves
from leanet.report.labels import label, style
from leanet.training.checkpoint import load_weights

_log = logging.getLogger(__name__)

DOTS_PER_INCH = 192
"""Resolution of PNGs: two dots per CSS pixel, sharp on a phone."""

MOST_KINDS = 8  # subfolders of Positive may be patients or days, and memory holds all examples at once


_IF_RECOLORED = {True: ("recoloured",), False: ()}
"""The extra column's title if the map source recolors images."""


def draw_colorizers(run: Run, folds: str, report: Path) -> None:
    """Draw the colorizers' losses into a report folder that the caller has locked; an imported run has none."""
    histories = {
        n: run.folder.fold(n).map_source(run.map_source).history() for n in parse_folds(folds, len(run.folds))
    }
    losses = {f"fold {n}": losses_of(path) for n, path in histories.items() if path.exists()}
    if curves := {fold: found for fold, found in losses.items() if found}:
        with alone_in(report, wait=True):
            save(training_curves(curves, name_of_maps(run)), report / "colorizer_loss.png")


def draw_detectors(experiment: Experiment) -> None:
    """Draw the losses, and a sheet of examples of the first fold, into the report folder; say where.

    Wait for any other process that is writing the report.
    """
    report = experiment.home.report
    with alone_in(report, wait=True):
        draw_colorizers(experiment.run, experiment.config.compute.folds, report)
        for each in experiment.beside_baseline():
            losses = {f"fold {n}": losses_of(each.folder(n).history) for n in each.folds}
            if curves := {fold: found for fold, found in losses.items() if found}:  # a head has no epochs
                save(training_curves(curves, each.detector.name), report / f"{each.detector.name}_loss.png")
        if experiment.detector.has_attention:
            sheet = report / f"{experiment.detector.name}_examples.png"
            example_sheet(experiment, experiment.folds[0], sheet)
            _log.info(f"pictures: {sheet}")


def example_sheet(experiment: Experiment, fold: int, path: Path, each: int = 3) -> None:
    """Draw test images of a fold: input, recolored, anomaly map and attention map in a row.

    Args:
        experiment: whose attention to show; with several attention points, the finest.
        fold: which fold's test images.
        path: the PNG to write.
        each: how many normal images, and of each of the first kinds of anomaly.
    """
    run = experiment.run
    rows = examples(run, fold, each)
    maps = run.maps(fold, unpack=False)
    attention = _attention(_trained(experiment, fold), experiment, maps, rows)
    names = ["input", *_IF_RECOLORED[maps.has_chroma], _map_title(run), f"attention ({experiment.detector.name})"]
    figure, axes = _sheet(run, rows, names)
    limit = map_limit(run, fold)
    for i, row in enumerate(rows):
        if maps.has_chroma:
            axes[i, 1].imshow(recoloured(run, maps, row))
        _show_map(axes[i, -2], maps.delta_e(rows[i : i + 1])[0], 0, limit)
        _show_map(axes[i, -1], attention[i], least_attention(experiment.detector), 1)
    save(figure, path)


def least_attention(detector: DetectorConfig) -> float:
    """Where a color scale of attention maps begins: the published form's are 0.5 or more after a ReLU."""
    return 0.5 if detector.attention == "published" and CAANS[detector.caan].ends_in_relu else 0.0


def recoloured(run: Run, maps: Maps, row: int) -> NDArray[np.float32]:
    """The recolored image, float (H, W, 3) in [0, 1]: its own lightness with the colorizer's chrominance."""
    rows = np.array([row])
    lightness = encode_lab(rgb_to_lab(images_to_tensor(run.pixels, rows)))[:, :1]
    lab = decode_lab(torch.cat([lightness, torch.from_numpy(maps.coded_ab(rows))], 1))
    rgb: NDArray[np.float32] = lab_to_rgb(lab)[0].permute(1, 2, 0).numpy()
    return rgb


def examples(run: Run, fold: int, each: int) -> NDArray[np.int64]:
    """Rows of the first test images of each kind, in file order; at most MOST_KINDS kinds."""
    chosen: list[int] = []
    test = run.rows(run.folds[fold].test)
    kinds = sorted({(run.images[r].label, run.images[r].kind) for r in test})
    for kind in kinds[: 1 + MOST_KINDS]:
        chosen += [int(r) for r in test if (run.images[r].label, run.images[r].kind) == kind][:each]
    return np.array(chosen, dtype=np.int64)


def map_limit(run: Run, fold: int) -> float:
    """The high end of the anomaly maps' color scale, in ΔE: nearly the maximum over the fold's examples."""
    return float(np.percentile(run.maps(fold, unpack=False).delta_e(examples(run, fold, 3)), 99.5))


def recolouring_sheet(run: Run, fold: int, rows: NDArray[np.int64]) -> Figure:
    """Images in steps: input, lightness, recolored, anomaly map."""
    maps, limit = run.maps(fold, unpack=False), map_limit(run, fold)
    steps = ("lightness", *_IF_RECOLORED[True]) if maps.has_chroma else ()
    figure, axes = _sheet(run, rows, ("input", *steps, _map_title(run)))
    for i, row in enumerate(rows):
        if maps.has_chroma:
            lightness = rgb_to_lab(images_to_tensor(run.pixels, rows[i : i + 1]))[0, 0].numpy()
            axes[i, 1].imshow(lightness, cmap="gray", vmin=0, vmax=100)
            axes[i, 2].imshow(recoloured(run, maps, int(row)))
        _show_map(axes[i, -1], maps.delta_e(rows[i : i + 1])[0], 0, limit)
    return figure


def _sheet(run: Run, rows: NDArray[np.int64], titles: Sequence[str]) -> tuple[Figure, NDArray[Any]]:
    """A row of axes for each image, with the image in the first; the titles are above the columns."""
    figure = Figure(figsize=(8.4, 2.1 * len(rows)), layout="constrained")
    axes: NDArray[Any] = figure.subplots(len(rows), len(titles), squeeze=False)
    for i, row in enumerate(rows):
        image = run.images[row]
        axes[i, 0].imshow(run.pixels[row])
        kind = label(image.kind or ("anomalous" if image.label else "normal"), 20)
        axes[i, 0].set_ylabel(kind, **style(kind))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    return figure, axes


def _show_map(axis: Axes, values: NDArray[np.float32], least: float, most: float) -> None:
    """Show a map with its color bar."""
    shown = axis.imshow(values, cmap=MAP_COLOURS, vmin=least, vmax=most, interpolation=CRISP)
    axis.figure.colorbar(shown, ax=axis, shrink=0.8)


def _map_title(run: Run) -> str:
    return f"anomaly map ({_unit(run)})"


def layers_figure(experiment: Experiment, fold: int, row: int) -> Figure:
    """The paper's figure of one image: at each of the ADN's points, the ADN's features before attention, the
    attention map, and the features after, as means over channels; at points without attention, what the CAAN has
    there.
    """
    run = experiment.run
    maps = run.maps(fold, unpack=False)
    found = _features(_trained(experiment, fold), experiment, maps, np.array([row]))
    columns = 1 + len(found.before)
    figure = Figure(figsize=(11 * columns / 6, 6.4), layout="constrained")
    axes = figure.subplots(3, columns)
    axes[0, 0].imshow(run.pixels[row])
    delta_e = maps.delta_e(np.array([row]))[0]
    _show_map(axes[1, 0], delta_e, 0, map_limit(run, fold))
    axes[0, 0].set_title("input", fontsize=10)
    axes[1, 0].set_title(_unit(run), fontsize=10)
    axes[2, 0].set_axis_off()
    for column, point in zip(axes.T[1:], found.before, strict=True):
        before, after = (f[point][0].float().mean(0).numpy() for f in (found.before, found.after))
        column[0].set_title(f"point {point}: before", fontsize=10)
        for axis, values in ((column[0], before), (column[2], after)):
            least, most = min(0, before.min()), max(before.max(), after.max())
            shown = axis.imshow(values, cmap="viridis", vmin=least, vmax=most, interpolation=CRISP)
            figure.colorbar(shown, ax=axis, shrink=0.8)
        attention = found.attention.get(point)
        column[1].set_title("not applied" if attention is None else "attention", fontsize=10)
        if attention is None and point in found.guides:
            _, attention = external_attention(found.before[point], found.guides[point])
        column[2].set_title("after", fontsize=10)
        if attention is not None:
            _show_map(column[1], attention[0, 0].float().numpy(), least_attention(experiment.detector), 1)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def mistakes_sheet(run: Run, mistakes: Sequence[tuple[int, int, float]], limit: float) -> Figure:
    """Misclassified images, each (row, fold, probability), with their anomaly maps on a scale up to `limit`."""
    columns = min(4, len(mistakes))
    lines = -(-len(mistakes) // columns)
    figure = Figure(figsize=(2.6 * columns, 4.4 * lines), layout="constrained")
    axes = figure.subplots(2 * lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (row, fold, probability) in enumerate(mistakes):
        image, line, column = run.images[row], 2 * (i // columns), i % columns
        axes[line, column].imshow(run.pixels[row])
        truth = label(image.kind or ("anomalous" if image.label else "normal"), 16)
        name = label(Path(image.file).name, 28)
        axes[line, column].set_title(
            f"{truth}, given {probability_text(probability)}\n{name}", fontsize=8, **style(truth + name)
        )
        delta_e = run.maps(fold, unpack=False).delta_e(np.array([row]))[0]
        shown = axes[line + 1, column].imshow(delta_e, cmap=MAP_COLOURS, vmin=0, vmax=limit, interpolation=CRISP)
    figure.colorbar(shown, ax=axes, label=_unit(run), shrink=0.5)
    return figure


def _trained(experiment: Experiment, fold: int) -> LEANet:
    """The fold's detector, of the first seed."""
    model = build_detector(experiment.detector, experiment.run.side).eval()
    load_weights(model, experiment.folder(fold).weights)
    return model


@torch.inference_mode()
def _features(model: LEANet, experiment: Experiment, maps: Maps, rows: NDArray[np.int64]) -> LEANetFeatures:
    """What the detector has at its points for these rows' images."""
    scaled = map_reader(maps, map_scale(experiment.config))(rows)
    return model.features(images_to_tensor(experiment.run.pixels, rows), scaled)


def _attention(model: LEANet, experiment: Experiment, maps: Maps, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Attention maps (n, h, w) at the finest of the detector's points, in [0, 1]."""
    scaled = map_reader(maps, map_scale(experiment.config))(rows)
    with torch.inference_mode():
        attention = model(images_to_tensor(experiment.run.pixels, rows), scaled).attention
    found: NDArray[np.float32] = attention[min(attention)][:, 0].numpy()
    return found


def full_size_attention(experiment: Experiment, fold: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Attention maps at the finest of the detector's points, enlarged to the images' size: (n, S, S) in [0, 1]."""
    run = experiment.run
    parts, maps, model = [], run.maps(fold, unpack=False), _trained(experiment, fold)
    for start in range(0, len(rows), 32):
        attention = torch.from_numpy(_attention(model, experiment, maps, rows[start : start + 32]))[:, None]
        parts.append(F.interpolate(attention, (run.side, run.side), mode="bilinear")[:, 0].numpy())
    return np.concatenate(parts)


def _unit(run: Run) -> str:
    return "the authors' ΔE" if run.map_coding == "authors" else find_map_source(run.map_source).unit


def name_of_maps(run: Run) -> str:
    """What the source of the maps is called in a title."""
    return "colorizer" if run.map_source == COLOR_MAP else f"{run.map_source} map"


def losses_of(path: Path) -> dict[str, list[float]]:
    """The losses in a history.csv: name -> one value per epoch; empty, with a note, if it is damaged."""
    rows = read_history(path)
    if not rows:
        _log.info(f"note: {path}: damaged; its curve is not drawn")
    names = [n for n in rows[0] if n.endswith("loss")] if rows else []
    return {n: [row[n] for row in rows] for n in names}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the suffix, completely or not at all."""
    with beside(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], dpi=DOTS_PER_INCH)
