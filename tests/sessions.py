"""The context of a fit in tests."""

from __future__ import annotations

from pathlib import Path

import torch

from leanet.training.checkpoint import Checkpoint
from leanet.training.compute import Compute
from leanet.training.session import Engines, Session

CPU = Compute(torch.device("cpu"), bfloat16=False, compiled=False)


def session_in(folder: Path) -> Session:
    """A session on the CPU in float32, with its checkpoint in this folder."""
    return Session(
        "leanet", CPU, 0, Checkpoint(folder / "checkpoint", "", 60), lambda _images, _loss: None, Engines()
    )
