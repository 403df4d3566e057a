r"""PatchCore and PaDiM of anomalib, and DevNet, on the folds and the labeled images of a run.

    leanet run magnetic_tile --out tile --image-size 128 --adn EfficientNet-Lite0 --tune head --maps features
    python -m benchmarks.peers tile
    python -m benchmarks.peers tile --detector EfficientNet-Lite0-head --peers patchcore devnet --folds 0 1

RUN is a finished run, or a folder of its detectors. PatchCore and PaDiM learn from a fold's normal training images,
DevNet from all labeled ones. All three read the run's decoded images through one frozen EfficientNet-Lite0 with
leanet's weights. Scores of labeled images, by fits without them, choose the threshold. Printed as Markdown: rows
of leanet and the peers, and the detector's ADN less each of them. Without anomalib, DevNet runs alone.
"""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import facts, parser, write_csv
from benchmarks.devnet import fit_devnet
from benchmarks.results import lines_of, tell
from leanet.data.splits import inner_parts
from leanet.data.tensors import images_to_tensor
from leanet.errors import UserError
from leanet.experiment.experiment import Experiment
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.simple_rows import FEWEST
from leanet.experiment.table import table
from leanet.experiment.training_set import labelled_rows
from leanet.networks.registry import build_leanet
from leanet.results.metrics import FEWEST_POSITIVES, Scored, choose_threshold
from leanet.results.rows import Key, Row, make_row
from leanet.training.head import PARTS

ADN_NAME, TIMM_NAME = "EfficientNet-Lite0", "tf_efficientnet_lite0"
LAYERS = {2: "blocks.1", 3: "blocks.2", 4: "blocks.4", 5: "blocks.6"}
"""Attention point -> timm's name for the features there, of strides 4 to 32."""

BATCH = 8
INSTALL = "anomalib is not installed: pip install anomalib"

Rows = NDArray[np.int64]
Score = Callable[[Rows], NDArray[np.float64]]
"""Rows -> scores, higher is more anomalous."""


class Backbone(nn.Module):
    """Features of the frozen network at some points, in the form of anomalib's feature extractor.

    Args:
        side: side of the images in pixels.
        points: attention points, ascending.
    """

    def __init__(self, side: int, points: Sequence[int]) -> None:
        super().__init__()
        adn = build_leanet(ADN_NAME, None, (), side, weights="imagenet").adn
        self.points = tuple(points)
        self.stages = adn.stages[: self.points[-1]]

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Layer -> features (N, C, h, w) of images (N, 3, H, W) in [0, 1]."""
        self.eval()  # anomalib's models are in training mode while they learn
        found, x = {}, images
        for point, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if point in self.points:
                found[LAYERS[point]] = x
        return found


class Peer(ABC):
    """Another detector, which scores images of a run.

    Attributes:
        title: name of its row.
        points: where it reads the frozen network's features.

    Args:
        pixels: uint8 (N, side, side, 3), of every image of the run.
    """

    title: ClassVar[str]
    points: ClassVar[tuple[int, ...]]

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self.backbone = Backbone(pixels.shape[1], self.points)

    def batches(self, rows: Rows) -> Iterator[Tensor]:
        """These rows' images, float32 (n, 3, H, W) in [0, 1]."""
        for start in range(0, len(rows), BATCH):
            yield images_to_tensor(self.pixels, rows[start : start + BATCH]).contiguous()

    @abstractmethod
    def fit(self, rows: Rows, labels: NDArray[np.int64], seed: int) -> Score:
        """Learn from labeled images, and return what scores others."""


class AnomalibPeer(Peer):
    """A model of anomalib, on the frozen network in place of its own.

    anomalib takes a network by name, with weights of timm's hub, or one that torch.fx can trace, which this one's
    padding prevents. Its models use the network through their attribute `feature_extractor`, which is replaced.
    """

    @property
    def layers(self) -> list[str]:
        """The features' names in timm."""
        return [LAYERS[point] for point in self.points]

    @abstractmethod
    def learned(self, normal: Rows) -> nn.Module:
        """A model that has learned from normal images."""

    def fit(self, rows: Rows, labels: NDArray[np.int64], seed: int) -> Score:
        """Learn from the normal images among the labeled ones."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            model = self.learned(rows[labels == 0]).eval()

        @torch.inference_mode()
        def score(unseen: Rows) -> NDArray[np.float64]:
            scores = [model(images).pred_score.flatten() for images in self.batches(unseen)]
            return torch.cat(scores).numpy().astype(np.float64)

        return score


class PatchCore(AnomalibPeer):
    """The distance of an image's farthest patch from a coreset of patches of normal images.

    Args:
        pixels: as `Peer`.
        coreset: share of the patches to keep.

    Source: Roth et al. (2022), arXiv 2106.08265. Features of strides 8 and 16, and anomalib's default settings.
    """

    title = "PatchCore (anomalib)"
    points = (3, 4)

    def __init__(self, pixels: NDArray[np.uint8], coreset: float) -> None:
        super().__init__(pixels)
        self.coreset = coreset

    def learned(self, normal: Rows) -> nn.Module:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        model: Any = PatchcoreModel(backbone=TIMM_NAME, layers=self.layers, pre_trained=False)
        model.feature_extractor = self.backbone
        model.train()
        for images in self.batches(normal):
            model(images)
        model.subsample_embedding(self.coreset)
        return model  # type: ignore[no-any-return]


class PaDiM(AnomalibPeer):
    """The largest Mahalanobis distance of an image's patches from the normal images' patches at the same place.

    Source: Defard et al. (2021), arXiv 2011.08785. Features of strides 4, 8 and 16. As many of their channels are
    drawn as for anomalib's ResNet18.
    """

    title = "PaDiM (anomalib)"
    points = (2, 3, 4)
    channels = 100

    def learned(self, normal: Rows) -> nn.Module:
        from anomalib.models.image.padim.torch_model import PadimModel

        model: Any = PadimModel(backbone=TIMM_NAME, layers=self.layers, pre_trained=False, n_features=self.channels)
        model.feature_extractor = self.backbone
        model.train()
        for images in self.batches(normal):
            model(images)
        model.fit()
        return model  # type: ignore[no-any-return]


class DeviationNetwork(Peer):
    """DevNet on the features of strides 16 and 32, joined at stride 16."""

    title = "DevNet"
    points = (4, 5)

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__(pixels)
        self.features = torch.cat([self.patches(images) for images in self.batches(np.arange(len(pixels)))])

    def patches(self, images: Tensor) -> Tensor:
        """Features (N, patches, C) of images."""
        fine, coarse = self.backbone(images).values()
        joined = torch.cat([fine, F.interpolate(coarse, fine.shape[2:], mode="bilinear")], 1)
        return joined.flatten(2).transpose(1, 2)

    def fit(self, rows: Rows, labels: NDArray[np.int64], seed: int) -> Score:
        """Train on all labeled images."""
        model = fit_devnet(self.features[torch.from_numpy(rows)], labels, seed)

        @torch.inference_mode()
        def score(unseen: Rows) -> NDArray[np.float64]:
            scores: Tensor = model(model.standardize(self.features[torch.from_numpy(unseen)]))
            return scores.numpy().astype(np.float64)

        return score


def unseen_scores(
    peer: Peer, rows: Rows, labels: NDArray[np.int64], groups: Sequence[str], seed: int
) -> NDArray[np.float64] | None:
    """Scores (N,) of labeled images, each by a fit without it and its group; None with too few groups."""
    anomalous = {group for group, label in zip(groups, labels, strict=True) if label}
    n = min(PARTS, len(anomalous))
    if n < 2:
        return None
    parts = inner_parts(labels.tolist(), groups, n, seed)
    if any(len(np.unique(labels[parts != part])) < 2 for part in range(n)):
        return None
    scores = np.zeros(len(rows))
    for part in range(n):
        inside = parts == part
        scores[inside] = peer.fit(rows[~inside], labels[~inside], seed)(rows[inside])
    return scores


def scored(peer: Peer, experiment: Experiment, fold: int, seed: int) -> Scored:
    """A peer's scores of a fold's test images, with the threshold that the labeled images choose."""
    run, d = experiment.run, experiment.detector
    known, test = labelled_rows(experiment.config, run, fold, seed), run.rows(run.folds[fold].test)
    labels, drawn = run.labels[known], experiment.config.compute.seed + seed
    unseen = unseen_scores(peer, known, labels, run.groups_of(known), drawn)
    fewest = FEWEST if d.has_frozen_adn else FEWEST_POSITIVES  # as in the table's other rows
    threshold = None if unseen is None else choose_threshold(labels, unseen, d.target_recall, d.p_rate, fewest)
    return Scored(run.labels[test], peer.fit(known, labels, drawn)(test), threshold, is_probability=False)


def row_of(peer: Peer, experiment: Experiment) -> Row:
    """A peer's row over all trainings of the experiment; it says how long each took."""
    found: dict[Key, Scored] = {}
    for fold, seed in experiment.trainings:
        started = time.monotonic()
        found[fold, seed] = scored(peer, experiment, fold, seed)
        print(f"{peer.title}, fold {fold}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
    return make_row(f"{peer.title}, {ADN_NAME}", found, experiment.test_to_train)


def opened(path: Path, detector: str | None, folds: Sequence[int] | None) -> Experiment:
    """A finished detector on some folds of its run (None: on all that are finished).

    Raises:
        SystemExit: no such run, detector or finished fold.
    """
    try:
        experiment, _ = finished(recorded_detector(RunFolder(path), detector))
    except UserError as error:
        raise SystemExit(error.on_command_line) from None
    there = experiment.folds
    if not there or (folds and set(folds) - set(there)):
        have = ", ".join(map(str, there)) or "none"
        raise SystemExit(f"--folds: of the folds of {path}, finished are {have}. Name some of these.")
    return replace(experiment, folds=tuple(sorted(set(folds))) if folds else there)


def available(peers: Sequence[str]) -> list[str]:
    """Those of the peers that can run here; it says how to install the others' package.

    Raises:
        SystemExit: none can.
    """
    if importlib.util.find_spec("anomalib") is None and set(peers) - {"devnet"}:
        if "devnet" not in peers:
            raise SystemExit(INSTALL)
        print(f"{INSTALL}. DevNet runs alone.")
        return ["devnet"]
    return list(dict.fromkeys(peers))


def main() -> None:
    """Fit the peers on each fold, and print their rows beside leanet's."""
    arguments = parser(__doc__, "peers")
    arguments.add_argument("run", type=Path, metavar="RUN")
    arguments.add_argument("--detector", help="name of one of its detectors (default: the last trained)")
    names = ("patchcore", "padim", "devnet")
    arguments.add_argument("--peers", nargs="+", choices=names, default=names, help="which peers (default: all)")
    arguments.add_argument("--folds", nargs="+", type=int, metavar="N", help="which folds (default: all finished)")
    arguments.add_argument(
        "--coreset", type=float, default=0.1, help="share of the patches that PatchCore keeps (%(default)s)"
    )
    given = arguments.parse_args()
    machine, experiment = facts(), opened(given.run, given.detector, given.folds)
    pixels = experiment.run.pixels
    makers: dict[str, Callable[[], Peer]] = {
        "patchcore": lambda: PatchCore(pixels, given.coreset),
        "padim": lambda: PaDiM(pixels),
        "devnet": lambda: DeviationNetwork(pixels),
    }
    peers = [row_of(makers[name](), experiment) for name in available(given.peers)]
    rows = [*table(experiment).rows, *peers]
    tell(rows, rows[:1])
    told = {"dataset": experiment.run.images_in.name, "p_rate": experiment.detector.p_rate}
    write_csv(given.csv, [told | line for line in lines_of(rows, rows[:1])], machine)


if __name__ == "__main__":
    main()
