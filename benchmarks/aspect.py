r"""Squeeze, letterbox or crop? Frozen features and feature maps of pictures that are not square, in each shape.

    python -m benchmarks.aspect magnetic_tile --p-rate 0.05
    python -m benchmarks.aspect retina_dr --groups retina_dr/groups.csv --max-per-class 300 --p-rate 0.0667

Five folds, as `leanet run` makes them. A logistic regression of the default ADN's pooled features (one orientation)
is fitted to the normal training pictures and a share of the anomalous ones, three draws a fold, and to all. The map
is the distance of each patch's features from those of normal training pictures, without `leanet run`'s division by
what is usual at each place; its mean over the square ranks the pictures. `letterbox-mean` fills the square with the
mean color of the picture's edge instead of the mirror image; leanet has no such option.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from benchmarks.common import facts, parser, write_csv
from leanet.config import ColorizerConfig
from leanet.data.dataset import limit_per_class, with_groups
from leanet.data.decode import decode
from leanet.data.shape import placement, to_square
from leanet.data.sources.folder import scan
from leanet.data.splits import make_folds
from leanet.maps.sources.features import FeatureMap
from leanet.networks.folding import fold_batch_norm
from leanet.networks.registry import build_leanet

SIDE, DRAWS, BANK = 256, 3, 4000

Pixels = NDArray[np.uint8]


def with_mean_edges(image: Pixels) -> Pixels:
    """A letterbox in the mean color of the picture's edge."""
    square = to_square(image, SIDE, "letterbox").copy()
    left, top, width, height = placement(image.shape[0], image.shape[1], SIDE, "letterbox").inside
    inner = square[top : top + height, left : left + width].copy()
    edge = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    square[:] = edge.mean(0).round()
    square[top : top + height, left : left + width] = inner
    return square


SHAPES: dict[str, Callable[[Pixels], Pixels]] = {
    "squeeze": lambda image: to_square(image, SIDE, "squeeze"),
    "letterbox": lambda image: to_square(image, SIDE, "letterbox"),
    "letterbox-mean": with_mean_edges,
    "crop": lambda image: to_square(image, SIDE, "crop"),
}


@torch.inference_mode()
def described(
    files: list[Path], shape: Callable[[Pixels], Pixels]
) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """Pooled features (N, D) and features of patches (N, patches, channels) of pictures."""
    adn = fold_batch_norm(build_leanet("EfficientNet-Lite0", None, (), SIDE, tune="head", weights="imagenet")).adn
    maps = FeatureMap(SIDE, ColorizerConfig(maps=("features",)))
    maps.load_pretrained()
    maps.eval()
    pooled, patches = [], []
    for file in files:
        image = torch.from_numpy(shape(decode(file)).copy()).permute(2, 0, 1)[None]
        blocks = adn.blocks(image.float() / 255)
        pooled.append(
            torch.cat(
                [
                    torch.cat(
                        [
                            F.adaptive_avg_pool2d(b, 1),
                            F.adaptive_max_pool2d(b, 1),
                            F.adaptive_avg_pool2d(b.square(), 1).sqrt(),
                        ],
                        1,
                    )
                    for b in blocks
                ],
                1,
            )
            .flatten()
            .numpy()
        )
        patches.append(maps.describe(image)[0].numpy())
    return np.stack(pooled), np.stack(patches)


def distances(
    patches: NDArray[np.float16], normal: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The mean distance of each test picture's patches from a bank of normal ones."""
    own = patches[normal].astype(np.float32).reshape(-1, patches.shape[-1])
    mean, std = own.mean(0), own.std(0) + 1e-5
    bank = (own[np.random.default_rng(0).choice(len(own), min(BANK, len(own)), replace=False)] - mean) / std
    found = [
        np.square((patches[i] - mean) / std).sum(1)[:, None]
        + np.square(bank).sum(1)
        - 2 * ((patches[i] - mean) / std) @ bank.T
        for i in test
    ]
    return np.array([np.sqrt(one.clip(min=0)).min(1).mean() for one in found], np.float32)


def main() -> None:
    """Describe the pictures in each shape; print and write the AUROC, mean and spread over folds and draws."""
    options = parser(__doc__, "aspect")
    options.add_argument("dataset", type=Path, metavar="DATASET")
    options.add_argument("--groups", type=Path, metavar="FILE", help="groups that no split parts")
    options.add_argument("--max-per-class", type=int, metavar="N", help="images of each class (default: all)")
    options.add_argument("--p-rate", type=float, default=0.05, help="share of the training anomalies (%(default)s)")
    given = options.parse_args()
    dataset = scan(given.dataset)
    dataset = with_groups(dataset, given.groups) if given.groups else dataset
    dataset = limit_per_class(dataset, given.max_per_class, 0) if given.max_per_class else dataset
    labels = np.array([sample.label for sample in dataset.samples])
    row = {sample.file: i for i, sample in enumerate(dataset.samples)}
    lines: list[dict[str, object]] = []
    for name, shape in SHAPES.items():
        pooled, patches = described([given.dataset / sample.file for sample in dataset.samples], shape)
        scores: dict[str, list[float]] = {"few": [], "all": [], "map": []}
        for number, fold in enumerate(make_folds(dataset, 5, 0)):
            train, test = (np.array([row[file] for file in side]) for side in (fold.train, fold.test))
            normal, anomalous = train[labels[train] == 0], train[labels[train] == 1]
            for draw in range(DRAWS + 1):
                share = given.p_rate if draw < DRAWS else 1
                drawn = np.random.default_rng(100 * number + draw).permutation(anomalous)
                rows = np.r_[normal, drawn[: max(1, round(share * len(anomalous)))]]
                model = make_pipeline(
                    StandardScaler(), LogisticRegression(C=1e-3, class_weight="balanced", max_iter=500)
                )
                score = model.fit(pooled[rows], labels[rows]).decision_function(pooled[test])
                scores["few" if draw < DRAWS else "all"].append(float(roc_auc_score(labels[test], score)))
            scores["map"].append(float(roc_auc_score(labels[test], distances(patches, normal, test))))
        lines.append(
            {
                "set": given.dataset.name,
                "shape": name,
                "p_rate": given.p_rate,
                **{key: round(float(np.mean(v)), 3) for key, v in scores.items()},
                **{f"{key}_spread": round(float(np.std(v)), 3) for key, v in scores.items()},
            }
        )
        print(lines[-1], flush=True)
    write_csv(given.csv, lines, facts())


if __name__ == "__main__":
    main()
