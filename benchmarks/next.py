r"""How many labels does `leanet next` save? Choose labels from a pool, fit, test, and choose again.

    python -m benchmarks.next heads-potato/run heads-pepper/run heads-tile/run --csv next.csv

Each run is one that `heads` made; its features and maps are read, not computed. On each fold, half of the training
side's normal images, at most 100, and four anomalous ones have labels. The others are the pool, with so many
anomalous ones as make up --share. A *label* is one picture of the pool that a person has looked at, normal or not;
the first four anomalous ones count too. Labels grow to 8, 16, 32 and 64, chosen at random, by uncertainty alone, or
as `leanet next` does. After each step, a head is fitted, its threshold chosen, and the fold's test side predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import facts, parser, write_csv
from benchmarks.unfamiliar import ADN, block_channels, name_of
from leanet.config import DetectConfig, DetectorConfig
from leanet.experiment.detect import resolved
from leanet.experiment.feature_task import ComputeFeatures
from leanet.experiment.open_run import Run, find
from leanet.model.choose import choose
from leanet.networks.pooled_head import FEATURES
from leanet.results.metrics import Scored, choose_threshold, score
from leanet.training.familiarity import fit_familiarity
from leanet.training.head import fit_head

STEPS = (4, 8, 16, 32, 64)
STRATEGIES = ("random", "uncertain", "next")
NORMALS, FEWEST = 100, 4
"""Most normal images with a label from the start, and anomalous ones to choose a threshold by."""

Parts = Mapping[str, NDArray[np.float32]]
Rows = NDArray[np.int64]


def main() -> None:
    options = parser(__doc__, "next")
    options.add_argument("runs", nargs="+", type=Path, help="run folders that `heads` made")
    options.add_argument(
        "--share", type=float, default=0.2, help="share of anomalous images in the pool (%(default)s)"
    )
    options.add_argument("--draws", type=int, default=3, help="starts on each fold (%(default)s)")
    given = options.parse_args()
    lines: list[dict[str, object]] = []
    for folder in given.runs:
        run = find(folder)
        config = DetectConfig(folder, detector=DetectorConfig(ADN, caan="Direct", tune="head", attention="pooled"))
        for fold in range(len(run.folds)):
            parts = ComputeFeatures(resolved(config, run), (fold,)).read(run, fold)
            for draw in range(given.draws):
                found = simulated(run, parts, fold, draw, given.share)
                lines += [{"set": name_of(run), "fold": fold, "draw": draw, **line} for line in found]
        _tell(name_of(run), lines)
    write_csv(given.csv or Path("next.csv"), lines, facts())


def simulated(run: Run, parts: Parts, fold: int, draw: int, share: float) -> list[dict[str, object]]:
    """The scores after each step of each strategy, from one start."""
    generator = np.random.default_rng(100 * fold + draw)
    train = run.rows(run.folds[fold].train)
    normal, anomalous = (generator.permutation(train[run.labels[train] == label]) for label in (0, 1))
    kept = min(NORMALS, len(normal) // 2)
    more = round((len(normal) - kept) * share / (1 - share))
    start = np.concatenate([normal[:kept], anomalous[: STEPS[0]]])
    pool = np.concatenate([normal[kept:], anomalous[STEPS[0] :][:more]])
    return [line for strategy in STRATEGIES for line in _grown(run, parts, fold, (start, pool), strategy, draw)]


def _grown(
    run: Run, parts: Parts, fold: int, sides: tuple[Rows, Rows], strategy: str, draw: int
) -> list[dict[str, object]]:
    (labeled, pool), lines, generator = sides, list[dict[str, object]](), np.random.default_rng(draw)
    joined, test = np.concatenate(list(parts.values()), 1), run.rows(run.folds[fold].test)
    for step, after in zip(STEPS, (*STEPS[1:], 0), strict=True):
        known = {name: values[labeled] for name, values in parts.items()}
        head = fit_head(known, run.labels[labeled], run.groups_of(labeled), 1.0, 0)
        says = 1 / (1 + np.exp(-(joined @ head.weight + head.bias)))
        threshold = 0.5
        if head.unseen is not None:
            kept = choose_threshold(run.labels[labeled], head.unseen, fewest=FEWEST, calibrated=True)
            threshold = threshold if kept is None else kept
        found = score(Scored(run.labels[test], says[test], threshold))
        of_these = {"labels": step, "anomalous": int(run.labels[labeled].sum())}
        lines.append({"strategy": strategy, **of_these, "f1": found.f1_chosen, "auroc": found.auroc})
        more = min(after - step, len(pool)) if after else 0
        if more > 0:
            chosen = _chosen(run, parts[FEATURES], labeled, pool, says[pool], threshold, strategy, more, generator)
            labeled, pool = np.concatenate([labeled, pool[chosen]]), np.delete(pool, chosen)
    return lines


def _chosen(
    run: Run,
    features: NDArray[np.float32],
    labeled: Rows,
    pool: Rows,
    says: NDArray[np.float64],
    threshold: float,
    strategy: str,
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Numbers of pictures in the pool."""
    if strategy == "random":
        return generator.permutation(len(pool))[:count]
    if strategy == "uncertain":
        says, threshold = says.clip(1e-6, 1 - 1e-6), min(max(threshold, 1e-6), 1 - 1e-6)
        return np.argsort(np.abs(np.log(says / (1 - says)) - np.log(threshold / (1 - threshold))))[:count]
    channels = block_channels(run.side)
    fitted = fit_familiarity(features[labeled], channels, run.labels[labeled], run.groups_of(labeled), 0)
    assert fitted is not None, "enough images"
    theirs, known = (fitted[0].components(features[rows]).astype(np.float32) for rows in (pool, labeled))
    return np.array(choose(says, threshold, theirs, known, count))


def _tell(name: str, lines: list[dict[str, object]]) -> None:
    """Means over folds and draws, as Markdown."""
    print(f"\n## {name}\n\n| strategy | {' | '.join(map(str, STEPS))} |\n|---|{'---|' * len(STEPS)}")
    for strategy in STRATEGIES:
        cells = []
        for step in STEPS:
            rows = [x for x in lines if (x["set"], x["strategy"], x["labels"]) == (name, strategy, step)]
            f1, auroc, anomalous = (np.mean([float(str(x[k])) for x in rows]) for k in ("f1", "auroc", "anomalous"))
            cells.append(f"{f1:.3f}, {auroc:.3f}, {anomalous:.0f}")
        print(f"| {strategy} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
