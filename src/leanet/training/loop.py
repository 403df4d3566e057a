"""The training loop: epochs, precision, checkpoint and resume, history."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leanet.errors import UserError
from leanet.ranks import rank
from leanet.training import processes
from leanet.training.checkpoint import Checkpoint, Progress
from leanet.training.compute import Compute, keep_freed_memory, return_freed_memory
from leanet.training.recipe import Recipe

Batch = tuple[Tensor, ...]
Loss = Callable[..., Tensor]
"""loss(model, *batch) -> (k,): first the value to minimize, then further values for the history."""


class TrainingData(Protocol):
    """The training data of a stage."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], generator: torch.Generator) -> Batch:
        """The images of these indices, augmented with the generator's numbers."""
        ...


class Engine:
    """A network and its loss, placed on the device and compiled once for all folds."""

    def __init__(self, build: Callable[[], nn.Module], loss: Loss, compute: Compute) -> None:
        self.build = build
        keep_freed_memory()
        self.compute = compute
        self.accelerator = processes.accelerator(compute.device)
        model = build().to(compute.device)
        if compute.processes > 1:
            model = processes.synchronise_batch_norm(model)
        model.to(memory_format=torch.channels_last)
        self.model: nn.Module = self.accelerator.prepare_model(model, device_placement=False)

        def autocast_loss(*batch: Tensor) -> Tensor:
            with torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.bfloat16):
                return loss(self.model, *batch)

        self.eager_loss: Loss = autocast_loss
        self.compiled_loss: Loss = (
            torch.compile(autocast_loss, dynamic=False) if compute.compiled else autocast_loss
        )

    @property
    def bare_model(self) -> nn.Module:
        """The network without wrappers for precision or multiple processes."""
        model: nn.Module = self.accelerator.unwrap_model(self.model)
        return model

    def reset(self, seed: int) -> None:
        """Draw new initial weights in place, which keeps the compiled graph valid."""
        torch.manual_seed(seed)
        fresh = self.build()
        self.bare_model.load_state_dict(fresh.state_dict())


def train(
    engine: Engine,
    data: TrainingData,
    recipe: Recipe,
    seed: int,
    checkpoint: Checkpoint,
    on_images: Callable[[int, float], None],
    validate: Callable[[nn.Module], float] | None = None,
) -> list[dict[str, float]]:
    """Train the engine's model from new weights, or from the checkpoint, to the end of the recipe.

    With a validation, the model keeps the weights of the epoch with the lowest validation loss, and its BatchNorm
    statistics are averaged in every epoch instead of only the last.

    Args:
        engine: model, loss and device.
        data: the training images.
        recipe: epochs, batch size, optimizer, schedule.
        seed: seeds initial weights, order, augmentation and dropout; on a CPU, equal seeds give identical runs.
        checkpoint: holds the state until the training is finished.
        on_images: called after each step with its number of images and its loss.
        validate: returns the loss of a model in evaluation mode on held-out images.
    Returns:
        One row per epoch: epoch (from 1), lr, the means of the loss's parts over images, the sum of the batches'
        losses (the authors' criterion for early stopping), seconds; with a validation, validation_loss.
    Raises:
        UserError: the training diverged: the loss is not finite.
    """
    return_freed_memory()
    engine.reset(seed)
    optimizer = recipe.make_optimizer(engine.model.parameters())
    progress = checkpoint.load(engine.bare_model, optimizer)
    on_images(_images_done(progress, len(data)), 0.0)
    engine.model.train()
    epochs = recipe.epochs_for(len(data))
    last = recipe.last_epoch_for(len(data))
    while progress.epoch < last and not _stalled(progress.history, recipe.patience):
        batches = epoch_batches(len(data), recipe, _seed(seed, progress.epoch), engine.compute.processes)
        averaging = recipe.average_batch_norm and (validate is not None or progress.epoch == last - 1)
        total = len(batches) * epochs
        for batch in _batches(data, batches, seed, progress):
            started = time.perf_counter()
            lr = recipe.lr_at(progress.epoch * len(batches) + progress.step, total)
            # The graph is compiled for one batch size; another would cost another minute of compilation.
            compiled = len(batch[0]) == recipe.batch_size
            torch.manual_seed(_seed(seed, progress.epoch, progress.step + 1, rank() + 1))  # of dropout
            with _averaged_batch_norm(engine.bare_model, progress.step) if averaging else nullcontext():
                parts = _step(engine, optimizer, lr, batch, compiled)
            if not math.isfinite(parts[0]):
                raise UserError(
                    f"the training diverged: in epoch {progress.epoch + 1} the loss is {parts[0]}. Choose a lower "
                    "--lr (of colorizers, --colorizer-lr) and another --out."
                )
            _count(progress, parts, len(batch[0]), time.perf_counter() - started)
            on_images(len(batch[0]), parts[0])
            if checkpoint.due() and progress.step < len(batches):
                checkpoint.save(engine.bare_model, optimizer, progress)
        _close_epoch(progress, lr)
        if validate is not None:
            _keep_best(engine, progress, validate)
        if checkpoint.due():
            checkpoint.save(engine.bare_model, optimizer, progress)
    if progress.best:
        engine.bare_model.load_state_dict(progress.best)
    return progress.history


def _keep_best(engine: Engine, progress: Progress, validate: Callable[[nn.Module], float]) -> None:
    """Add the validation loss to the history, and keep the weights if it is the lowest so far."""
    engine.model.eval()
    found = validate(engine.bare_model)
    engine.model.train()
    if found < min((row["validation_loss"] for row in progress.history[:-1]), default=math.inf):
        progress.best = {k: v.clone() for k, v in engine.bare_model.state_dict().items()}
    progress.history[-1]["validation_loss"] = found


def epoch_batches(n: int, recipe: Recipe, seed: int, shares: int = 1) -> list[NDArray[np.int64]]:
    """A seeded order of n images in batches, each to be divided among `shares` processes.

    An incomplete last batch is dropped, unless the recipe keeps it or there is no other; other epochs drop other
    images. A kept batch of one image, which BatchNorm cannot normalize, or of fewer images than processes joins the
    batch before it.
    """
    order = np.random.default_rng(seed).permutation(n)
    size = recipe.batch_size * shares
    batches = [order[i : i + size] for i in range(0, n, size)]
    if len(batches) > 1 and len(batches[-1]) < size:
        last = batches.pop()
        if recipe.keep_partial_batch and len(last) < max(2, shares):
            batches[-1] = np.concatenate([batches[-1], last])
        elif recipe.keep_partial_batch:
            batches.append(last)
    return batches


def _step(engine: Engine, optimizer: torch.optim.Optimizer, lr: float, batch: Batch, compiled: bool) -> list[float]:
    for group in optimizer.param_groups:
        group["lr"] = lr
    own, weight = processes.share(batch)
    on_device = [t.to(engine.compute.device) for t in own]
    losses = (engine.compiled_loss if compiled else engine.eager_loss)(*on_device) * weight
    engine.accelerator.backward(losses[0])
    optimizer.step()
    optimizer.zero_grad()
    parts: list[float] = engine.accelerator.reduce(losses.detach().float(), "mean").tolist()
    return parts


@contextmanager
def _averaged_batch_norm(model: nn.Module, steps_before: int) -> Iterator[None]:
    """Average every BatchNorm's statistics over this step and the `steps_before` steps before it.

    The running update from zero leaves momentum times the batch's statistics. The compiled graph, which holds the
    momentum, therefore works unchanged.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    pairs = [
        (b, m.momentum) for m in layers for b in (m.running_mean, m.running_var) if b is not None and m.momentum
    ]
    before = [buffer.clone() for buffer, _ in pairs]
    for buffer, _ in pairs:
        buffer.zero_()
    yield
    for (buffer, momentum), mean in zip(pairs, before, strict=True):
        buffer.div_(momentum).sub_(mean).div_(steps_before + 1).add_(mean)


def _batches(
    data: TrainingData, batches: list[NDArray[np.int64]], seed: int, progress: Progress
) -> Iterator[Batch]:
    """The epoch's remaining batches, from the progress's step on.

    Every batch has its own generator, and a resumed run makes the same batches. No thread prefetches them: making
    one takes a fiftieth of a step, and a second thread pool slowed a step by a third.
    """
    for step in range(progress.step, len(batches)):
        generator = torch.Generator().manual_seed(_seed(seed, progress.epoch, step + 1))
        yield data.batch(batches[step].tolist(), generator)


def _count(progress: Progress, parts: list[float], images: int, seconds: float) -> None:
    progress.step += 1
    progress.images += images
    progress.seconds += seconds
    sums = progress.sums or [0.0] * len(parts)
    progress.sums = [s + images * p for s, p in zip(sums, parts, strict=True)]
    progress.batch_sum += parts[0]


def _close_epoch(progress: Progress, lr: float) -> None:
    row = {"epoch": float(progress.epoch + 1), "lr": lr}
    names = ["loss", "adn_loss", "caan_loss"]
    row |= {n: s / progress.images for n, s in zip(names, progress.sums, strict=False)}
    row["batch_sum"] = progress.batch_sum
    row["seconds"] = round(progress.seconds, 3)
    progress.history.append(row)
    progress.epoch += 1
    progress.step, progress.images, progress.seconds = 0, 0, 0.0
    progress.sums, progress.batch_sum = [], 0.0


def _stalled(history: list[dict[str, float]], patience: int | None) -> bool:
    """Whether the epoch's sum of the batches' losses has not improved for `patience` epochs."""
    if patience is None or len(history) <= patience:
        return False
    losses = [row["batch_sum"] for row in history]
    return min(losses[-patience:]) >= min(losses[:-patience])


def _images_done(progress: Progress, images_per_epoch: int) -> int:
    return progress.epoch * images_per_epoch + progress.images


def _seed(*parts: int) -> int:
    """One seed from several numbers; neighboring numbers give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
