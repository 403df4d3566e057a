"""Where a training step's time goes, before (plain float32) and after: milliseconds per image by kind of work.

    python -m benchmarks.profiles

At 256 px in batches of 16, on random images, because the work does not depend on the content. Times are from
PyTorch's profiler, for each operator without those it calls; profiling itself adds a few percent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.baseline import as_published, update
from benchmarks.common import facts, parser, write_csv
from benchmarks.ours import best_compute
from leanet.networks.registry import build_colorizer, build_leanet
from leanet.training import colorization, detection
from leanet.training.compute import Compute
from leanet.training.loop import Engine, Loss
from leanet.training.recipe import Recipe

BATCH, SIDE, STEPS = 16, 256, 3
KINDS = (
    ("convolutions, forward", ("mkldnn_convolution", "_convolution", "mkldnn_rnn")),
    ("convolutions, backward", ("convolution_backward",)),
    ("BatchNorm", ("native_batch_norm", "native_batch_norm_backward")),
    ("fused by the compiler", ("Call CompiledFxGraph",)),
    (
        "ReLU, adds, pooling, loss",
        ("threshold", "clamp", "relu", "add", "mul", "pool", "sigmoid", "loss", "cat", "sum"),
    ),
    ("copies between layouts and precisions", ("copy_", "fill_", "clone", "zero")),
    ("optimiser", ("_fused_adamw", "Optimizer", "addcdiv", "addcmul", "lerp", "sqrt", "div_", "mul_")),
)


def kind_of(name: str) -> str:
    """The first kind with a matching word; the optimizer's in-place operators precede the networks' adds."""
    bare = name.removeprefix("aten::")
    if bare.endswith("_") and bare in {"addcdiv_", "addcmul_", "lerp_", "div_", "mul_"}:
        return "optimiser"
    return next((kind for kind, words in KINDS if any(word in bare for word in words)), "other")


def profiled(step: Callable[[], object]) -> dict[str, float]:
    """Milliseconds per image of each kind."""
    for _ in range(3):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(STEPS):
            step()
    times: dict[str, float] = {}
    for event in found.key_averages():
        kind = kind_of(event.key)
        times[kind] = times.get(kind, 0.0) + event.self_cpu_time_total / 1000 / STEPS / BATCH
    return times


def plain_step(build: Callable[[], nn.Module], loss: Loss, batch: tuple[Tensor, ...]) -> Callable[[], object]:
    """A step in float32, contiguous and eager, with Adam."""
    model = as_published(build())
    adam = torch.optim.Adam(model.parameters(), 1e-4)
    contiguous = [x.contiguous() for x in batch]
    return lambda: update(adam, loss(model, *contiguous)[0])


def our_step(
    build: Callable[[], nn.Module], loss: Loss, batch: tuple[Tensor, ...], recipe: Recipe, compute: Compute
) -> Callable[[], object]:
    """A step of the package's loop."""
    engine = Engine(build, loss, compute)
    optimizer = recipe.make_optimizer(engine.model.parameters())
    laid_out = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in batch]

    def step() -> None:
        engine.accelerator.backward(engine.compiled_loss(*laid_out)[0])
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Profile both steps of both trainings, the plain ones first, before our allocator settings take effect."""
    arguments = parser(__doc__, "profiles").parse_args()
    machine = facts()
    lab = torch.rand(BATCH, 3, SIDE, SIDE)
    labels = torch.arange(BATCH) % 2
    trainings: dict[str, tuple[Callable[[], nn.Module], Loss, tuple[Tensor, ...], Recipe, bool]] = {
        "ResNet18 + ResNet": (
            lambda: build_leanet("ResNet18", "ResNet", (2,), SIDE),
            detection.loss,
            (lab, lab[:, :1], labels),
            detection.RECIPES["leanet"],
            False,
        ),
        "Unet": (
            lambda: build_colorizer("Unet", SIDE),
            colorization.loss,
            (lab[:, :1], lab[:, 1:]),
            colorization.RECIPES["leanet"],
            True,
        ),
    }
    before = {name: profiled(plain_step(b, loss, batch)) for name, (b, loss, batch, _, _) in trainings.items()}
    rows: list[dict[str, object]] = []
    for name, (build, loss, batch, recipe, compiled) in trainings.items():
        after = profiled(our_step(build, loss, batch, recipe, best_compute(compiled=compiled)))
        print(f"\n| {name}: ms an image | before | after |\n|---|---|---|")
        for kind in sorted(before[name].keys() | after.keys(), key=lambda k: -before[name].get(k, 0.0)):
            values = before[name].get(kind, 0.0), after.get(kind, 0.0)
            print(f"| {kind} | {values[0]:.1f} | {values[1]:.1f} |")
            rows.append({"training": name, "kind": kind, "before_ms": values[0], "after_ms": values[1]})
        print(f"| together | {sum(before[name].values()):.1f} | {sum(after.values()):.1f} |")
    write_csv(arguments.csv, rows, machine)


if __name__ == "__main__":
    main()
