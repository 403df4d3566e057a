"""The state of a training in one file, so that a killed run goes on where it was: safetensors, no pickle."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from leanet.errors import UserError
from leanet.files import beside, partial_of, remove
from leanet.ranks import is_first


@dataclass
class Progress:
    """Where a training is: epoch and step about to be done, this epoch's sums, and the epochs done.

    `best` is the state of the model after the epoch with the lowest validation loss; empty without a validation.
    """

    epoch: int = 0
    step: int = 0
    images: int = 0
    sums: list[float] = field(default_factory=list)
    batch_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """Saves and restores weights, optimiser and progress in one file, replaced atomically.

    `fingerprint` names what is trained on what: a file with another one is not continued from.
    """

    path: Path
    fingerprint: str
    every_seconds: float
    _saved_at: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self._saved_at >= self.every_seconds

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Write the state beside the old one, then replace it."""
        self._saved_at = time.monotonic()
        if not is_first():
            return
        tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v.contiguous() for k, v in state.items()}
        tensors |= {f"best.{k}": v.contiguous() for k, v in progress.best.items()}
        numbers = {f.name: getattr(progress, f.name) for f in fields(progress) if f.name != "best"}
        metadata = {"fingerprint": self.fingerprint, "progress": json.dumps(numbers)}
        _save(tensors, self.path, metadata)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Restore the state where a file is there; a fresh Progress otherwise.

        Raises:
            UserError: the file belongs to another training.
        """
        if not self.path.exists():
            return Progress()
        with _open_safetensors(self.path) as file:
            metadata = file.metadata()
            if metadata["fingerprint"] != self.fingerprint:
                raise UserError(
                    f"{self.path}: begun with other options, precision or processes. Repeat them, or delete this "
                    f"file to start anew."
                )
            tensors: dict[str, Tensor] = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        model.load_state_dict(_below("model.", tensors))
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _below("optimizer.", tensors).items():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = _laid_out_like(parameters[int(index)], tensor)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return Progress(**json.loads(metadata["progress"]), best=_below("best.", tensors))

    def remove(self) -> None:
        """Delete the file, once what was trained is saved, and what a kill while saving left beside it."""
        self.path.unlink(missing_ok=True)
        remove(partial_of(self.path))


def save_weights(model: nn.Module, path: Path, made_from: str = "") -> None:
    """Write a model's weights as safetensors, beside the target first.

    Args:
        made_from: a fingerprint of what it was trained on, for `made_from`.
    """
    _save({k: v.contiguous() for k, v in model.state_dict().items()}, path, {"made_from": made_from})


def made_from(path: Path) -> str:
    """The fingerprint that `save_weights` was given; '' without one."""
    with _open_safetensors(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
    return metadata.get("made_from", "")


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights that `save_weights` wrote into a model of the same architecture."""
    with _open_safetensors(path) as file:
        model.load_state_dict({k: file.get_tensor(k) for k in file.keys()})  # noqa: SIM118


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        with beside(path) as partial:
            save_file(tensors, partial, metadata)
    except SafetensorError as error:
        raise UserError(
            f"{path}: cannot be written ({error}). Make room there and give the command again."
        ) from None


def _open_safetensors(path: Path) -> safe_open:
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError):
        raise UserError(
            f"{path}: damaged, or not a safetensors file. Delete it; its training begins anew."
        ) from None


def _laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """The tensor with the parameter's strides: fused optimisers walk through memory, whatever the strides say."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
