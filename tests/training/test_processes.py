"""Two processes learn together what one learns with twice the batch."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from leanet.config import ComputeConfig
from leanet.data.synthetic import make_leaves
from leanet.networks.layers import batch_norm
from leanet.ranks import is_first
from leanet.training.checkpoint import Checkpoint, save_weights
from leanet.training.compute import resolve
from leanet.training.loop import Engine, train
from leanet.training.processes import SynchronisedBatchNorm2d, accelerator, synchronise_batch_norm
from leanet.training.recipe import Recipe

SERVER = multiprocessing.get_context("forkserver")
"""Starts processes that have imported what trains, and have not trained yet."""


class Noise:
    """Twenty-one images: the last batch holds 5, which two processes cannot share evenly."""

    def __len__(self) -> int:
        return 21

    def batch(self, indices: Sequence[int], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Waves with some noise, and what is to be learnt of them."""
        i = torch.tensor(list(indices))[:, None, None, None]
        noise = 0.1 * torch.randn(len(i), 2, 8, 8, generator=generator)
        x = torch.sin(i * torch.arange(1, 129).view(1, 2, 8, 8)) + noise
        return x, x.mean((1, 2, 3)) * i[:, 0, 0, 0]


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, 2, bias=False), batch_norm(8, 0.1), nn.Tanh(), nn.Flatten(), nn.Linear(72, 1)
    )


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x)[:, 0], y).reshape(1)


def train_as(environment: dict[str, str], out: Path, batch_size: int) -> None:
    """Train in this process, which is what its environment says of several; the first writes what was learnt."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    recipe = Recipe(epochs=4, batch_size=batch_size, lr=1e-3, average_batch_norm=True, keep_partial_batch=True)
    engine = Engine(build, loss, resolve(ComputeConfig(device="cpu", precision="float32", compile="off"), 0))
    history = train(engine, Noise(), recipe, 0, Checkpoint(out / "checkpoint", "f", 0.0), lambda *_: None)
    if is_first():
        save_weights(engine.bare_model, out / "weights.safetensors")
        (out / "loss").write_text(repr(history[-1]["loss"]))


def learn(out: Path, batch_size: int, processes: int) -> tuple[dict[str, Tensor], float]:
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    started = []
    for rank in map(str, range(processes)):
        several = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(processes), **place}
        environment = several if processes > 1 else {}
        started.append(SERVER.Process(target=train_as, args=(environment, out, batch_size)))
        started[-1].start()
    for process in started:
        process.join(100)
    assert [process.exitcode for process in started] == [0] * processes
    return load_file(out / "weights.safetensors"), float((out / "loss").read_text())


def test_two_processes_learn_what_one_learns_with_twice_the_batch(tmp_path: Path) -> None:
    SERVER.set_forkserver_preload([__name__, "torch._dynamo"])
    alone, loss_alone = learn(tmp_path / "alone", 8, 1)
    together, loss_together = learn(tmp_path / "together", 4, 2)
    assert together.keys() == alone.keys()
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=1e-4, atol=1e-5, msg=name)
    assert abs(loss_together / loss_alone - 1) < 1e-4


def refuse_settings() -> None:
    """Fail where settings of accelerate in the environment reach what trains here."""
    os.environ |= {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}
    made = accelerator(torch.device("cpu"))
    assert (made.mixed_precision, made.gradient_accumulation_steps) == ("no", 1)


def test_settings_of_accelerate_reach_no_training() -> None:
    process = SERVER.Process(target=refuse_settings)
    process.start()
    process.join(100)
    assert process.exitcode == 0


@pytest.mark.slow
def test_a_run_in_two_processes_is_whole(tmp_path: Path) -> None:
    make_leaves(tmp_path / "leaves", n_normal=24, n_anomalous=16, image_size=64)
    small = ["--image-size", "64", "--n-splits", "2", "--cross-fit", "2", "--adn", "CNN", "--caan", "Direct"]
    quick = ["--colorizer-epochs", "1", "--epochs", "1", "--batch-size", "4", "--colorizer-batch-size", "4"]
    run = ["run", str(tmp_path / "leaves"), "--out", str(tmp_path / "run"), *small, *quick, "--device", "cpu"]
    launch = ["accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--no_python", "leanet"]
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ["PATH"]]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *run], env=environment, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    for fold in "01":
        assert (tmp_path / "run" / fold / "CNN-Direct-p2" / "metrics.json").is_file()
    assert done.stdout.count("test normals") == 2  # by the first process only


def test_a_batch_norm_that_does_more_is_left_as_it_is() -> None:
    class WithActivation(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    network = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(2), WithActivation(2)))
    plain, more = network.children()
    assert isinstance(plain, SynchronisedBatchNorm2d)
    assert type(more) is WithActivation
