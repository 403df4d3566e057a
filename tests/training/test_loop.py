"""The loop on a small network: it learns, resumes exactly, stops when asked, and falls back without a compiler."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from leanet.config import ComputeConfig
from leanet.errors import UserError
from leanet.training import checkpoint
from leanet.training.checkpoint import Checkpoint, Progress
from leanet.training.compute import Compute, compiler_works, resolve
from leanet.training.loop import Engine, train
from leanet.training.recipe import Recipe

CPU = Compute(torch.device("cpu"), bfloat16=False, compiled=False)
RECIPE = Recipe(epochs=6, batch_size=8, lr=0.03, average_batch_norm=True)


class NoisyLines:
    """Images of one grey each, to be tripled, with noise that depends on the batch's generator."""

    def __init__(self) -> None:
        self.x = torch.linspace(-1, 1, 64)[:, None, None, None].expand(64, 2, 4, 4).contiguous()

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = self.x[list(indices)]
        return x, 3 * x + 0.01 * torch.randn(x.shape, generator=generator)


def build() -> nn.Module:
    # Convolutions: their weights lie channels-last in memory, and the optimiser's state must follow them.
    first, second = nn.Conv2d(2, 16, 3, padding=1), nn.Conv2d(16, 2, 3, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(16), nn.Dropout(0.1), nn.ReLU(), second)


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x), y).reshape(1)


class KilledError(Exception):
    """Stands for a kill between two steps."""


def run(
    path: Path, seed: int = 0, kill_after: int | None = None
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    engine = Engine(build, loss, CPU)
    steps = 0

    def on_images(_images: int, _loss: float) -> None:
        nonlocal steps
        steps += 1
        if steps == kill_after:
            raise KilledError

    history = train(engine, NoisyLines(), RECIPE, seed, Checkpoint(path, "f", 0.0), on_images)
    return history, {k: v.clone() for k, v in engine.bare_model.state_dict().items()}


def test_it_learns(tmp_path: Path) -> None:
    history, _ = run(tmp_path / "c")
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["loss"] < history[0]["loss"] / 2


def test_a_schedule_is_left_after_a_share_of_its_own_epochs(tmp_path: Path) -> None:
    data, whole = NoisyLines(), Recipe(epochs=2, image_passes=64 * 8, batch_size=8, lr=0.03)
    rates = []
    for recipe in (whole, replace(whole, until=0.375)):
        engine = Engine(build, loss, CPU)
        history = train(engine, data, recipe, 0, Checkpoint(tmp_path / "c", "f", 1e9), lambda _n, _l: None)
        rates.append([row["lr"] for row in history])
    assert len(rates[0]) == 8
    assert rates[1] == rates[0][:3]


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    def diverging(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return loss(model, x, y) * torch.inf

    engine = Engine(build, diverging, CPU)
    with pytest.raises(UserError, match=r"diverged: in epoch 1 the loss is inf. Choose a lower --lr"):
        train(engine, NoisyLines(), RECIPE, 0, Checkpoint(tmp_path / "c", "f", 0.0), lambda *_: None)


@pytest.mark.parametrize("kill_after", [2, 9, 10, 30, 45])
def test_killed_training_resumes_exactly(tmp_path: Path, kill_after: int) -> None:
    whole_history, whole = run(tmp_path / "whole")
    with pytest.raises(KilledError):
        run(tmp_path / "killed", kill_after=kill_after)
    history, resumed = run(tmp_path / "killed")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert [r["loss"] for r in history] == [r["loss"] for r in whole_history]


@pytest.mark.parametrize("kill_after", [1, 7, 8, 9, 40])
def test_killed_right_after_a_save_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_after: int
) -> None:
    _, whole = run(tmp_path / "whole")
    save, saves = Checkpoint.save, 0

    def save_and_die(
        self: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
    ) -> None:
        nonlocal saves
        save(self, model, optimizer, progress)
        saves += 1
        if saves == kill_after:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(KilledError):
            run(tmp_path / "killed")
    _, resumed = run(tmp_path / "killed")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


@pytest.mark.parametrize("kill_after", [None, 20, 45])
def test_the_epoch_with_the_lowest_validation_loss_is_kept(tmp_path: Path, kill_after: int | None) -> None:
    losses = [5.0, 3.0, 4.0, 2.0, 2.0, 6.0]
    seen: dict[int, dict[str, Tensor]] = {}

    def validate(model: nn.Module) -> float:
        assert not model.training
        epoch = len(seen) + 1  # a killed training is never validated twice after one epoch
        seen[epoch] = {k: v.clone() for k, v in model.state_dict().items()}
        return losses[epoch - 1]

    steps = 0

    def on_images(_images: int, _loss: float) -> None:
        nonlocal steps
        steps += 1
        if steps == kill_after:
            raise KilledError

    def start() -> tuple[Engine, list[dict[str, float]]]:
        engine = Engine(build, loss, CPU)
        checkpoint = Checkpoint(tmp_path / "c", "f", 0.0)
        return engine, train(engine, NoisyLines(), RECIPE, 0, checkpoint, on_images, validate)

    if kill_after:
        with pytest.raises(KilledError):
            start()
    engine, history = start()
    assert [row["validation_loss"] for row in history] == losses
    kept = engine.bare_model.state_dict()
    assert all(torch.equal(kept[k], seen[4][k]) for k in kept)


def test_seeds_matter_and_repeat(tmp_path: Path) -> None:
    first, again, other = (run(tmp_path / str(i), seed)[1] for i, seed in enumerate((1, 1, 2)))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path / "c", kill_after=5)
    engine = Engine(build, loss, CPU)
    with pytest.raises(UserError, match="begun with other options"):
        train(engine, NoisyLines(), RECIPE, 0, Checkpoint(tmp_path / "c", "other", 0.0), lambda _n, _l: None)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object, path: Path, __: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match=r"w\.safetensors: cannot be written .*No space left"):
        checkpoint.save_weights(nn.Linear(1, 1), tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_nothing_of_a_training_stays_in_memory(tmp_path: Path) -> None:
    engine = Engine(build, loss, CPU)

    def tensors_after_training(name: str) -> int:
        train(engine, NoisyLines(), RECIPE, 0, Checkpoint(tmp_path / name, "f", 1e9), lambda _n, _l: None)
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    assert tensors_after_training("second") == tensors_after_training("third")


def test_stops_when_the_loss_stalls(tmp_path: Path) -> None:
    recipe = Recipe(epochs=50, batch_size=8, lr=1e-12, schedule="constant", patience=3)
    engine = Engine(lambda: nn.Conv2d(2, 2, 1, bias=False), lambda model, x, y: loss(model, x * 0, y * 0 + 1), CPU)
    history = train(engine, NoisyLines(), recipe, 0, Checkpoint(tmp_path / "c", "f", 1e9), lambda _n, _l: None)
    assert len(history) == 4


def test_a_compiler_that_fails_is_named_once_and_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_function: object) -> Callable[[Tensor], Tensor]:
        def call(_x: Tensor) -> Tensor:
            raise OSError("no linker\nin /no/such/folder")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    compiler_works.cache_clear()
    try:
        made = [resolve(ComputeConfig(device="cpu", compile="on"), 1e9) for _ in range(2)]
    finally:
        compiler_works.cache_clear()
    assert [compute.compiled for compute in made] == [False, False]
    assert [record.message for record in caplog.records] == [
        "note: no working compiler (no linker); training runs without torch.compile, more slowly."
    ]


@pytest.mark.slow
def test_without_a_compiler_it_says_so_once_and_goes_on(tmp_path: Path) -> None:
    code = (
        "from leanet.config import ComputeConfig\n"
        "from leanet.console import show_log\n"
        "from leanet.training.compute import resolve\n"
        "show_log()\n"
        "for _ in range(2): print(resolve(ComputeConfig(compile='on'), 1e9).compiled)\n"
    )
    environment = {**os.environ, "CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("no working compiler") == 1
    assert done.stdout.split().count("False") == 2


def test_batch_norm_ends_with_the_mean_over_the_last_epoch(tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, batch_size=8, lr=1e-12, average_batch_norm=True)
    data = NoisyLines()
    seen: list[Tensor] = []

    def watched_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(x)
        return loss(model, x, y)

    engine = Engine(lambda: nn.BatchNorm2d(2), watched_loss, CPU)
    train(engine, data, recipe, 0, Checkpoint(tmp_path / "c", "f", 1e9), lambda _n, _l: None)
    last = seen[-len(data) // 8 :]
    assert len(last) == 8
    state = engine.bare_model.state_dict()
    expected_mean = torch.stack([x.mean((0, 2, 3)) for x in last]).mean(0)
    expected_variance = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in last]).mean(0)
    torch.testing.assert_close(state["running_mean"], expected_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state["running_var"], expected_variance, rtol=1e-5, atol=1e-6)
