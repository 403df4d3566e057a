"""Checkpoints, to resume a killed training: one safetensors file, no pickle."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from leanet.errors import DamagedError, UserError
from leanet.files import beside, partial_of, remove
from leanet.ranks import is_first
from leanet.reading import parse_json

_log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)

ENTRY, SHA256 = "leanet", "sha256"
"""One entry holds all metadata as JSON, including the hash: safetensors does not fix the order of several entries.

Files of earlier versions have separate entries and no hash.
"""


@dataclass
class Progress:
    """The progress of a training: its next epoch and step, this epoch's sums, and the finished epochs.

    `best` is the model's state after the epoch with the lowest validation loss; empty without a validation.
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
    """Saves and restores weights, optimizer and progress in one file, replaced atomically.

    `fingerprint` identifies the model and its training data; a file with another fingerprint is refused.
    """

    path: Path
    fingerprint: str
    every_seconds: float
    _saved_at: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time for the next save."""
        return time.monotonic() - self._saved_at >= self.every_seconds

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Write the state, replacing the old file atomically."""
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
        """Restore the state from the file; a new Progress if the file is missing or damaged.

        Raises:
            UserError: the file belongs to another training.
        """
        if not self.path.exists():
            return Progress()
        untouched = copy.deepcopy(model.state_dict())
        try:
            metadata, tensors = read_safetensors(self.path)
            if metadata["fingerprint"] != self.fingerprint:
                raise UserError(
                    f"{self.path}: begun with other options, precision or processes. Use the same ones again, or "
                    f"delete this file to start over."
                )
            return _restored(metadata, tensors, model, optimizer)
        except torch.OutOfMemoryError:
            raise
        except (DamagedError, KeyError, IndexError, TypeError, ValueError, RuntimeError):
            if is_first():
                _log.info(f"note: {self.path}: damaged; its training starts over")
            model.load_state_dict(untouched)
            optimizer.state.clear()
            return Progress()

    def remove(self) -> None:
        """Delete the file, which saved weights make obsolete, and any partial file of a killed process."""
        self.path.unlink(missing_ok=True)
        remove(partial_of(self.path))


def _restored(
    metadata: dict[str, str], tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress:
    """Load a checkpoint's state into model and optimizer; a mismatch raises errors of many types."""
    progress = Progress(**parse_json(metadata["progress"]), best=_below("best.", tensors))
    model.load_state_dict(_below("model.", tensors))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _below("optimizer.", tensors).items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = _laid_out_like(parameters[int(index)], tensor)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return progress


def save_weights(model: nn.Module, path: Path, made_from: str = "") -> None:
    """Write a model's weights as safetensors, completely or not at all.

    Args:
        made_from: fingerprint of the training data, which the function `made_from` reads.
    """
    _save({k: v.contiguous() for k, v in model.state_dict().items()}, path, {"made_from": made_from})


def made_from(path: Path) -> str:
    """The fingerprint that `save_weights` stored; '' if there is none.

    Raises:
        DamagedError: the file is damaged.
    """
    return read_safetensors(path)[0].get("made_from", "")


def built_for_weights(build: Callable[[], Network]) -> Network:
    """A network built without initial weights, for `load_weights`: drawing them takes longer than reading a file.

    A network with modules from other packages is initialized as usual: it may have tensors that no file holds.
    """
    with torch.device("meta"):
        made = build()
    ours = all(type(module).__module__.startswith(("leanet.", "torch.")) for module in made.modules())
    return made if ours else build()


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights that `save_weights` wrote into a model of the same architecture.

    Raises:
        DamagedError: the file is damaged, its weights do not fit the model, or some are NaN or infinite.
    """
    tensors = read_safetensors(path)[1]
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise DamagedError(path, f"has weights that are NaN or infinite. {_REMEDY}")
    try:
        model.load_state_dict(tensors, assign=any(parameter.is_meta for parameter in model.parameters()))
    except RuntimeError:
        raise DamagedError(path, f"has the weights of another network. {_REMEDY}") from None


def is_whole(path: Path) -> bool:
    """Whether a weights file exists and is undamaged."""
    try:
        read_safetensors(path)
    except DamagedError:
        return False
    return True


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file that `save_weights` or a checkpoint wrote.

    Raises:
        DamagedError: no such file, or a damaged one.
    """
    if not path.is_file():  # reading a pipe would block
        raise DamagedError(path, f"missing, or no regular file. {_REMEDY}")
    try:
        with safe_open(path, "pt") as file:
            stored: dict[str, str] = file.metadata() or {}
            metadata: dict[str, str] = dict(parse_json(stored[ENTRY])) if ENTRY in stored else stored
            tensors: dict[str, Tensor] = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        if set(stored) - {ENTRY, *_EARLIER} or (
            ENTRY in stored and metadata[SHA256] != _hash_of(tensors, metadata)
        ):
            raise ValueError("its content is not what was written")
    except (SafetensorError, KeyError, OSError, TypeError, ValueError, RuntimeError):
        raise DamagedError(path, f"damaged, or not a safetensors file. {_REMEDY}") from None
    return metadata, tensors


_EARLIER = {"made_from", "fingerprint", "progress"}
"""The entries of earlier versions."""

_REMEDY = "Run the command that made it again, or make the model again."


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        content = {**metadata, SHA256: _hash_of(tensors, metadata)}
        with beside(path) as partial:
            save_file(tensors, partial, {ENTRY: json.dumps(content, sort_keys=True)})
    except SafetensorError as error:
        raise UserError(
            f"{path}: cannot be written ({error}). Free space there and run the command again."
        ) from None


def _hash_of(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """A hash of names, types, shapes and values, and of the metadata except the hash itself."""
    described: list[Any] = [sorted((k, v) for k, v in metadata.items() if k != SHA256)]
    described += [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in sorted(tensors)]
    digest = hashlib.sha256(json.dumps(described).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """The tensor with the parameter's strides, because fused optimizers ignore strides."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
