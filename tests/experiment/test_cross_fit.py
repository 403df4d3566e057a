"""Cross-fitting on disk: whose map which colorizer made, also after a stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from leanet.cli import main
from leanet.config import ColorizeConfig, ColorizerConfig
from leanet.experiment import colorize
from leanet.experiment.colorize import PREDICTION_BATCH, jobs_of, recolour
from leanet.experiment.open_run import find
from leanet.maps.store import DELTA_E_STEP
from leanet.networks.registry import build_colorizer
from leanet.training.checkpoint import Checkpoint

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
    write_maps = colorize.write_maps

    def watched(*arguments: object) -> None:
        weights.update({path.stem: load_file(path) for path in folder.glob("*.safetensors")})
        write_maps(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(colorize, "write_maps", watched)
    assert main(command) == 0
    assert [path.name for path in folder.glob("*.safetensors")] == ["weights.safetensors"]

    run = find(tmp_path / "run")
    config = ColorizeConfig(leaves, tmp_path / "run", colorizer=ColorizerConfig(cross_fit=2))
    made = run.maps(0).delta_e(np.arange(len(run.images)))
    for job in jobs_of(config, run, 0):
        of_others = [name for name in weights if "checkpoint" not in name and name != job.weights.stem]
        assert len(of_others) == 2
        for name in (job.weights.stem, *of_others):
            model = build_colorizer("Unet", 64).eval()
            model.load_state_dict(weights[name])
            images = torch.from_numpy(run.pixels[job.recoloured]).permute(0, 3, 1, 2)
            assert len(images) <= PREDICTION_BATCH
            off = np.abs(recolour(model, images)[0][:, 0].numpy() - made[job.recoloured]).max((1, 2))
            same = off < 2 * DELTA_E_STEP
            assert same.all() if name == job.weights.stem else not same.any()
