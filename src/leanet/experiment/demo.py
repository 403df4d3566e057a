"""`leanet demo`: a run on synthetic leaves."""

from __future__ import annotations

import logging
from pathlib import Path

from leanet.config import (
    ColorizerConfig,
    ComputeConfig,
    DataConfig,
    DemoConfig,
    DetectorConfig,
    RunConfig,
)
from leanet.data.synthetic import make_leaves
from leanet.errors import UserError
from leanet.experiment.run_folder import RunFolder
from leanet.files import LARGEST, contents, is_free, remove, write_text
from leanet.reading import read_text

_log = logging.getLogger(__name__)

MARKER = ".leanet-demo"
"""This file marks a folder that a demo made; until that demo is finished, it holds the seed."""

_MADE = ("leaves", "config.yaml", "splits.json", "images.csv", "pixels", "report", "model", "model.onnx")
_MADE += ("model.work", "maps", "predictions.csv", "predictions-onnx.csv", *"0123")


def demo(config: DemoConfig) -> RunConfig:
    """Make the leaves, and return the run on them: both stages, with the baseline.

    A stopped demo is resumed; one that is finished, or has another seed, is replaced.
    """
    if not is_free(config.out) and not _was_stopped(config):
        _remove_earlier(config.out)
    RunFolder(config.out).make()
    write_text(config.out / MARKER, str(config.seed))
    leaves = config.out / "leaves"
    if leaves.exists():
        _log.info(f"resuming the stopped demo: {config.out}")
    else:
        make_leaves(leaves, seed=config.seed)
        _log.info(f"made synthetic leaves: {leaves}")
    return RunConfig(
        dataset=config.out / "leaves",
        out=config.out,
        data=DataConfig(image_size=64, n_splits=4),
        # Few folds and epochs, small colorizer batches, a middle attention point: minutes on two cores.
        colorizer=ColorizerConfig(colorizer_epochs=4, colorizer_batch_size=8),
        detector=DetectorConfig(attention_point=(3,), epochs=7),
        compute=ComputeConfig(seed=config.seed, executor="processes"),  # faster with small images
    )


def finish_demo(config: DemoConfig) -> None:
    """Mark a demo as finished: the next one starts over."""
    write_text(config.out / MARKER, "")


def _was_stopped(config: DemoConfig) -> bool:
    """Whether a demo with the same seed was stopped in this folder."""
    marker = config.out / MARKER
    return marker.is_file() and read_text(marker, LARGEST) == str(config.seed)


def _remove_earlier(out: Path) -> None:
    """Remove the files of an earlier demo; UserError if there are others."""
    if not (out / MARKER).is_file():
        raise UserError(f"{out}: exists, and is not an earlier demo. Choose another --out.")
    there = contents(out)
    for path in there:
        if path.name not in _MADE:
            raise UserError(f"{path}: no demo made this. Move it, or choose another --out.")
    for path in there:
        remove(path)
