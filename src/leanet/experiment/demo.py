"""`leanet demo`: the main job on the embedded default, made on the fly."""

from __future__ import annotations

import dataclasses

from leanet.data.synthetic import make_leaves
from leanet.errors import UserError
from leanet.experiment.display import note
from leanet.experiment.lock import clear, contents
from leanet.experiment.run_folder import RunFolder
from leanet.settings import (
    ColorizerConfig,
    ComputeConfig,
    DataConfig,
    DemoConfig,
    DetectorConfig,
    FitConfig,
    RunConfig,
)


def demo_model(run: RunConfig) -> FitConfig:
    """The fit that follows the demo's run: the same options, on all its leaves."""
    data = dataclasses.replace(run.data, n_splits=FitConfig(run.dataset, run.out).data.n_splits)
    return FitConfig(run.dataset, run.out / "model", data, run.colorizer, run.detector, run.compute)


def demo(config: DemoConfig) -> RunConfig:
    """Make the leaves, and return the run over them: both stages, with the baseline beside."""
    marker = config.out / ".leanet-demo"
    if config.out.exists():
        if not marker.exists() and (not config.out.is_dir() or contents(config.out)):
            raise UserError(f"{config.out}: exists and is no earlier demo. Choose another --out.")
        clear(config.out)
    RunFolder(config.out).make()
    marker.touch()
    leaves = config.out / "leaves"
    make_leaves(leaves, seed=config.seed)
    note(f"made synthetic leaves: {leaves}")
    return RunConfig(
        dataset=config.out / "leaves",
        out=config.out,
        data=DataConfig(image_size=64, n_splits=4),
        # Few folds and epochs, small colorizer batches, a middle attention point: what minutes on two cores allow.
        colorizer=ColorizerConfig(colorizer_epochs=4, colorizer_batch_size=8),
        detector=DetectorConfig(attention_point=(3,), epochs=7),
        compute=ComputeConfig(seed=config.seed),
    )
