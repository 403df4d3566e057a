"""Options of the computation: recipe, seed, folds, arithmetic, device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from leanet.config.limits import at_least, check_seed, check_share
from leanet.config.shown import unrecorded
from leanet.errors import OptionError

RecipeName = Literal["leanet", "authors"]
Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True)
class ComputeConfig:
    """Options of the computation, for both stages."""

    recipe: RecipeName = "leanet"
    """Training recipe: 'leanet' is this program's; 'authors' is the published one (slow)."""
    seed: int = 0
    """Seed of the splits, the initial weights, the order of the images and the augmentation."""
    folds: str = "all"
    """Folds to run: 'all', or numbers counted from 0, such as 0,2."""
    precision: Precision = "auto"
    """Arithmetic of the training: 'auto' takes bfloat16 if the processor has it in hardware.
    Anomaly maps, probabilities and thresholds are always computed in float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile: 'auto' compiles if the training is long enough to save more time than compilation takes."""
    device: str = "auto"
    """'auto' (CUDA or MPS if present), or 'cpu', 'cuda', 'mps'."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints: a killed run loses at most about this much work (0: save after every step)."""

    executor: Annotated[str, *unrecorded("{local,processes,ray}")] = "local"
    """Where tasks run, such as the training of a fold: 'local', one after another with all cores; 'processes',
    several at a time on this machine; 'ray', on this machine's cores and GPUs or on a cluster."""
    address: Annotated[str | None, *unrecorded("{auto,ray://HOST:PORT}")] = None
    """With --executor ray: the cluster. 'auto' is the one that this machine belongs to.
    By default, Ray is started on this machine for the one command."""
    num_cpus: Annotated[int | None, *unrecorded("INT")] = None
    """With --executor processes or ray: cores for each task, which computes with as many threads; 1 by default."""
    num_gpus: Annotated[float | None, *unrecorded("FLOAT")] = None
    """With --executor ray: GPUs for each task, or a share of one, such as 0.5; none by default."""
    memory: Annotated[float | None, *unrecorded("GIGABYTES")] = None
    """With --executor processes or ray: memory for each task; as many run at once as have room."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        at_least("checkpoint_seconds", self.checkpoint_seconds, 0)
        check_share(self.num_cpus, self.num_gpus, self.memory)


def parse_folds(folds: str, n_splits: int) -> tuple[int, ...]:
    """Fold numbers, sorted, of a --folds value such as 'all' or '0,2'; UserError outside 0..n_splits-1."""
    if folds == "all":
        return tuple(range(n_splits))
    try:
        numbers = sorted({int(part) for part in folds.split(",")})
    except ValueError:
        raise OptionError("folds", folds, "expected 'all' or numbers such as 0,2.") from None
    if any(not 0 <= n < n_splits for n in numbers):
        raise OptionError("folds", folds, f"the folds of this run are 0..{n_splits - 1}.")
    return tuple(numbers)
