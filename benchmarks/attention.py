"""Does a LEA-Net's answer depend on its attention? Its ADN predicts each test image with another one's anomaly map.

    python -m benchmarks.attention pepper/final-p-rate-0.05
    python -m benchmarks.attention pepper/p-rate-0.05 --detector ResNet18-ResNet-p3

DETECTED is a finished run, or a folder of its detectors. For every fold and seed, the ADN predicts the test images
again, with the anomaly maps shuffled among them; an ADN that uses its attention then ranks worse. The script prints
how much worse, the correlation of the logits, and the range of the attention map's values.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.common import facts, parser, write_csv
from leanet.data.tensors import images_to_tensor
from leanet.experiment.detector_task import build_detector
from leanet.experiment.experiment import Experiment
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.map_reader import map_reader, map_scale
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import RunFolder
from leanet.networks.leanet import LEANetOutput, probability
from leanet.results.baselines import logit_of
from leanet.results.intervals import shown, verdict
from leanet.results.metrics import Scored
from leanet.results.rows import Key, cell, difference, make_row
from leanet.training.checkpoint import load_weights
from leanet.training.compute import resolve
from leanet.training.prediction import predictor

BATCH = 32
QUANTILES = (0.05, 0.95)

Model = Callable[[Tensor, Tensor], LEANetOutput]


def load(experiment: Experiment, fold: int, seed: int) -> Model:
    """A finished detector, ready to predict."""
    model = build_detector(experiment.detector, experiment.run.side)
    load_weights(model, experiment.folder(fold, seed).weights)
    return predictor(model, resolve(experiment.config.compute, 0).in_float32())


def answers(
    model: Model, run: Run, rows: NDArray[np.int64], maps: Tensor
) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]]]:
    """The ADN's probabilities (N,), and the quantiles of the attention maps' values by attention point."""
    found = [
        model(images_to_tensor(run.pixels, rows[i : i + BATCH]), maps[i : i + BATCH])
        for i in range(0, len(rows), BATCH)
    ]
    values = {p: torch.cat([output.attention[p] for output in found]).float().numpy() for p in found[0].attention}
    adn = torch.cat([probability(output.adn_logits) for output in found]).numpy().astype(np.float64)
    return adn, {p: np.quantile(v, QUANTILES) for p, v in values.items()}


def main() -> None:
    """Compare predictions with the images' own maps and with shuffled ones."""
    arguments = parser(__doc__, "attention")
    arguments.add_argument("detected", type=Path, metavar="DETECTED")
    arguments.add_argument("--detector", help="name of one of its detectors (default: the one recorded)")
    given = arguments.parse_args()
    machine, home = facts(), RunFolder(given.detected)
    experiment, _ = finished(recorded_detector(home, given.detector))
    run, config = experiment.run, experiment.config
    if not experiment.folds or not config.detector.attention_point:
        raise SystemExit(
            f"{given.detected}: no finished fold of a detector with attention. Name one by --detector."
        )
    own: dict[Key, Scored] = {}
    shuffled: dict[Key, Scored] = {}
    ranges: list[dict[int, NDArray[np.float64]]] = []
    for fold, seed in experiment.trainings:
        rows = run.rows(run.folds[fold].test)
        model = load(experiment, fold, seed)
        maps = map_reader(run.maps(fold), map_scale(config))(rows)
        with_own, quantiles = answers(model, run, rows, maps)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        with_others, _ = answers(model, run, rows, maps[order])
        own[fold, seed] = Scored(run.labels[rows], with_own)
        shuffled[fold, seed] = Scored(run.labels[rows], with_others)
        ranges.append(quantiles)

    ratio, name = experiment.test_to_train, config.detector.name
    first, second = make_row("own maps", own, ratio), make_row("shuffled maps", shuffled, ratio)
    alike = [np.corrcoef(logit_of(own[key].scores), logit_of(shuffled[key].scores))[0, 1] for key in own]
    print(f"\n{name}, {first.pooled.prevalence:.0%} of the test images are anomalous; mean [95 % interval]")
    print("\n| ADN with | F1 at 0.5 | AUROC |\n|---|---|---|")
    for row in (first, second):
        print(f"| {row.name} | {cell(row, 'f1')} | {cell(row, 'auroc')} |")
    cells = [f"{shown(d, '+')} {verdict(d)}" for d in (difference(first, second, m) for m in ("f1", "auroc"))]
    print(f"| difference | {' | '.join(cells)} |")
    print(f"\ncorrelation of the logits: {np.mean(alike):.4f} on average, {min(alike):.4f} to {max(alike):.4f}")
    for point in ranges[0]:
        low, high = np.mean([quantiles[point] for quantiles in ranges], axis=0)
        print(f"point {point}: 90 % of the attention map's values between {low:.3f} and {high:.3f}")
    lines = [
        {"detector": name, "fold": fold, "seed": seed, "correlation": alike[i]}
        | {f"auroc with {row.name}": row.runs[fold, seed].auroc for row in (first, second)}
        | {f"point_{p}_q{q:g}": v for p, vs in ranges[i].items() for q, v in zip(QUANTILES, vs, strict=True)}
        for i, (fold, seed) in enumerate(own)
    ]
    write_csv(given.csv, lines, machine)


if __name__ == "__main__":
    main()
