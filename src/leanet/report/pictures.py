"""Pictures of a run: what the program saw, and how the trainings went."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from leanet.color.lab import decode_lab, encode_lab, lab_to_rgb, rgb_to_lab
from leanet.experiment.detect import map_reader, map_scale
from leanet.experiment.display import note
from leanet.experiment.open_run import Run, find
from leanet.experiment.run_folder import Maps, RunFolder
from leanet.networks.registry import build_leanet
from leanet.settings import DetectConfig, parse_folds
from leanet.training.checkpoint import load_weights
from leanet.training.colorization import images_to_tensor

MAP_COLOURS = mpl.colormaps["inferno"]  # perceptually uniform, and readable with any colour vision


def draw_colorizers(run: Run, folds: str) -> None:
    """Draw the colorizers' losses into RUN/report; an imported run has none."""
    histories = {n: run.folder.fold(n).colorizer_history for n in parse_folds(folds, len(run.folds))}
    curves = {f"fold {n}": _losses(path) for n, path in histories.items() if path.exists()}
    if curves:
        _draw_curves(curves, "colorizer", run.folder.report / "colorizer_loss.png")


def draw_detectors(config: DetectConfig) -> None:
    """Draw the losses, and a sheet of examples of the first fold asked for, into the report folder; say where."""
    run = find(config.run)
    home = RunFolder(config.out or config.run)
    folds = parse_folds(config.compute.folds, len(run.folds))
    draw_colorizers(run, config.compute.folds)
    compared = config.compare and config.detector.caan != "none"
    for detector in [config.detector, config.detector.baseline()] if compared else [config.detector]:
        curves = {f"fold {n}": _losses(home.fold(n).detector(detector.name).history) for n in folds}
        _draw_curves(curves, detector.name, home.report / f"{detector.name}_loss.png")
    if config.detector.caan != "none":
        sheet = home.report / f"{config.detector.name}_examples.png"
        example_sheet(run, home, folds[0], config, sheet)
        note(f"pictures: {sheet}")


def example_sheet(run: Run, home: RunFolder, fold: int, config: DetectConfig, path: Path, each: int = 3) -> None:
    """Draw test images of a fold: input, recoloured, anomaly map and attention map in a row.

    Args:
        run, home: the run, and the folder that its detectors lie in.
        fold: which fold's test images.
        config: whose attention to show; with several attention points, the finest.
        path: the PNG to write.
        each: how many normal images, and of every kind of anomaly.
    """
    rows = _examples(run, fold, each)
    maps = run.maps(fold)
    delta_e = maps.delta_e(rows)
    attention = _attention(run, home, fold, config, maps, rows)
    figure = Figure(figsize=(8.4, 2.1 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    limit = float(np.percentile(delta_e, 99.5))
    for i, row in enumerate(rows):
        image = run.images[row]
        axes[i, 0].imshow(run.pixels[row])
        axes[i, 1].imshow(recoloured(run, maps, row))
        shown = axes[i, 2].imshow(delta_e[i], cmap=MAP_COLOURS, vmin=0, vmax=limit)
        figure.colorbar(shown, ax=axes[i, 2], shrink=0.9)
        shown = axes[i, 3].imshow(attention[i], cmap=MAP_COLOURS, vmin=0.5, vmax=1)
        figure.colorbar(shown, ax=axes[i, 3], shrink=0.9)
        axes[i, 0].set_ylabel(image.kind or ("anomalous" if image.label else "normal"))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    unit = "ΔE00" if run.map_coding == "true" else "the authors' ΔE"
    titles = ("input", "recoloured", f"anomaly map ({unit})", f"attention ({config.detector.name})")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    _save(figure, path)


def recoloured(run: Run, maps: Maps, row: int) -> NDArray[np.float32]:
    """The recoloured image, float (H, W, 3) in [0, 1]: the image's own lightness, the colorizer's chrominance."""
    rows = np.array([row])
    lightness = encode_lab(rgb_to_lab(images_to_tensor(run.pixels, rows)))[:, :1]
    lab = decode_lab(torch.cat([lightness, torch.from_numpy(maps.coded_ab(rows))], 1))
    rgb: NDArray[np.float32] = lab_to_rgb(lab)[0].permute(1, 2, 0).numpy()
    return rgb


def _examples(run: Run, fold: int, each: int) -> NDArray[np.int64]:
    """The first test images of each kind, in the order of their files."""
    chosen: list[int] = []
    test = run.rows(run.folds[fold].test)
    kinds = sorted({(run.images[r].label, run.images[r].kind) for r in test})
    for kind in kinds:
        chosen += [int(r) for r in test if (run.images[r].label, run.images[r].kind) == kind][:each]
    return np.array(chosen, dtype=np.int64)


@torch.inference_mode()
def _attention(
    run: Run, home: RunFolder, fold: int, config: DetectConfig, maps: Maps, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Attention maps (n, h, w) at the finest of the detector's points, in [0, 1]."""
    detector = config.detector
    model = build_leanet(detector.adn, detector.caan, detector.attention_point, run.side).eval()
    load_weights(model, home.fold(fold).detector(detector.name).weights)
    attention: dict[int, Tensor] = model(
        images_to_tensor(run.pixels, rows), map_reader(maps, map_scale(config))(rows)
    ).attention
    found: NDArray[np.float32] = attention[min(attention)][:, 0].numpy()
    return found


def _losses(path: Path) -> dict[str, list[float]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [n for n in rows[0] if n.endswith("loss")] if rows else []
    return {n: [float(row[n]) for row in rows] for n in names}


def _draw_curves(curves: dict[str, dict[str, list[float]]], title: str, path: Path) -> None:
    names = list(next(iter(curves.values())))
    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for label, losses in curves.items():
            axis.plot(range(1, len(losses[name]) + 1), losses[name], label=label)
        axis.set(title=f"{title}: {name.replace('_', ' ')}", xlabel="epoch", yscale="log")
        axis.legend(fontsize=7)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", dpi=110)
    partial.replace(path)
