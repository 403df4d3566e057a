"""Cross-fitting on disk: whose map which colorizer made, also after a stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from leanet.cli import main
from leanet.config import ColorizeConfig, ColorizerConfig
from leanet.experiment import map_tasks
from leanet.experiment.map_tasks import PREDICTION_BATCH, MakeMaps
from leanet.experiment.open_run import find
from leanet.maps.sources.color import recolour
from leanet.maps.store import DELTA_E_STEP
from leanet.networks.registry import build_colorizer
from leanet.training.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

OPTIONS = ["--image-size", "64", "--n-splits", "2", "--cross-fit", "2", "--colorizer-epochs", "1", "--folds", "0"]
OPTIONS += ["--precision", "bfloat16"]  # of the training: maps are in float32, on every machine


def test_each_map_is_of_the_colorizer_that_did_not_see_the_image(
    leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["colorize", str(leaves), "--out", str(tmp_path / "run"), *OPTIONS, "--compile", "off"]
    command += ["--checkpoint-seconds", "0"]

    def killed(_: Checkpoint) -> None:
        raise KeyboardInterrupt

    for _ in range(2):  # each time between a colorizer's weights and the end of its checkpoint
        with monkeypatch.context() as patched:
            patched.setattr(Checkpoint, "remove", killed)
            assert main(command) == 130

    folder = tmp_path / "run" / "0" / "colorizer"
    weights: dict[str, dict[str, torch.Tensor]] = {}
    write_maps = map_tasks.write_maps

    def watched(*arguments: object) -> None:
        weights.update({path.stem: load_file(path) for path in folder.glob("*.safetensors")})
        write_maps(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(map_tasks, "write_maps", watched)
    assert main(command) == 0
    assert [path.name for path in folder.glob("*.safetensors")] == ["weights.safetensors"]

    run = find(tmp_path / "run")
    config = ColorizeConfig(leaves, tmp_path / "run", colorizer=ColorizerConfig(cross_fit=2))
    made = run.maps(0).delta_e(np.arange(len(run.images)))
    for task in MakeMaps(config, 0).sources:
        own, rows = task.folder.weights(task.part).stem, task.mapped(run)
        of_others = [name for name in weights if "checkpoint" not in name and name != own]
        assert len(of_others) == 2
        for name in (own, *of_others):
            model = build_colorizer("Unet", 64).eval()
            model.load_state_dict(weights[name])
            images = torch.from_numpy(run.pixels[rows]).permute(0, 3, 1, 2)
            assert len(images) <= PREDICTION_BATCH
            with torch.inference_mode():
                found = recolour(model, images)[0][:, 0].numpy()
            same = np.abs(found - made[rows]).max((1, 2)) < 2 * DELTA_E_STEP
            assert same.all() if name == own else not same.any()
