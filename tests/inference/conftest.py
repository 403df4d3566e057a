from pathlib import Path

import pytest
from made import made

from leanet.inference.model import save


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, saved."""
    model = made("CNN", "Direct", 2)
    out = tmp_path_factory.mktemp("models") / "model"
    save(out, model.card, model.network, model.colorizer)
    return out
