"""A training recipe: all its decisions in one value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    epochs: int
    """Epochs; with `image_passes`, the minimum."""
    batch_size: int
    lr: float
    image_passes: int = 0
    """Train small sets for more epochs: as many whole epochs as this number of image passes allows."""
    optimizer: Literal["adamw", "keras_adam"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.01
    patience: int | None = None
    """Stop when the epoch's training loss has not improved for this many epochs."""
    average_batch_norm: bool = False
    """Use BatchNorm statistics averaged over the last epoch instead of a running mean: with the published momentum
    of 0.99, a running mean needs thousands of steps to forget its initial value."""
    until: float = 1.0
    """Stop after this share of the schedule's epochs, in (0, 1]; the learning rate follows the whole schedule."""
    keep_partial_batch: bool = False
    """Train on the epoch's last images even if they do not fill a batch."""
    mirror: bool = True
    """Mirror images left-right and top-bottom at random."""
    other_light: bool = False
    """Put half of the images into other light at random; their anomaly maps stay as they are."""
    published: bool = False
    """Compute as the authors' program does: FancyPCA truncated to 8 bits, and the loss of the activated pairs."""
    balance: bool = True
    """Weight anomalous images more if they are fewer; see `detection.class_weights`."""
    map_scale: Literal["normals", "max"] = "normals"
    """Default scale of the anomaly maps."""
    validation: float = 0.2
    """Default share of the training images held out to choose epoch and threshold."""

    def override(self, epochs: int | None, batch_size: int | None, lr: float | None) -> Recipe:
        """The recipe with the user's numbers where given."""
        return dataclasses.replace(
            self,
            epochs=epochs or self.epochs,
            image_passes=0 if epochs else self.image_passes,
            batch_size=batch_size or self.batch_size,
            lr=lr or self.lr,
        )

    def epochs_for(self, images: int) -> int:
        """Epochs in the schedule for this many images."""
        return max(self.epochs, self.image_passes // images)

    def image_passes_for(self, images: int) -> int:
        """Images that a training on this many images processes, summed over the epochs."""
        return self.last_epoch_for(images) * images

    def last_epoch_for(self, images: int) -> int:
        """The epoch, counted from 1, after which a training on this many images stops."""
        return max(1, round(self.until * self.epochs_for(images)))

    def lr_at(self, step: int, total_steps: int) -> float:
        """Learning rate of a step, counted from 0: warm-up over a twentieth of the steps, then a cosine to zero."""
        if self.schedule == "constant":
            return self.lr
        warmup = max(1, total_steps // 20)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))

    def make_optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The recipe's optimizer over these parameters."""
        if self.optimizer == "keras_adam":
            return KerasAdam(parameters, self.lr)
        return torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay, fused=True)


class KerasAdam(torch.optim.Optimizer):
    """Adam as Keras computes it: epsilon is added to sqrt(v) before the bias correction.

    p <- p - lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps), with b1 0.9, b2 0.999, eps 1e-7.
    Source: tf.keras.optimizers.Adam ("epsilon hat" of Kingma & Ba 2015, end of section 2).
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; return the closure's value, as PyTorch's optimizers do."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for p in parameters:
                if not self.state[p]:
                    self.state[p] = {
                        "step": torch.zeros(()),
                        "m": torch.zeros_like(p),
                        "v": torch.zeros_like(p),
                    }
            states = [self.state[p] for p in parameters]
            for s in states:
                s["step"] += 1
            t = float(states[0]["step"])
            grads = [p.grad for p in parameters if p.grad is not None]
            m, v = [s["m"] for s in states], [s["v"] for s in states]
            torch._foreach_lerp_(m, grads, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
            denominator = torch._foreach_sqrt(v)
            torch._foreach_add_(denominator, group["eps"])
            rate = group["lr"] * math.sqrt(1 - beta2**t) / (1 - beta1**t)
            torch._foreach_addcdiv_(parameters, m, denominator, -rate)
        return value
