from pathlib import Path

import pytest
from made import made

from leanet.inference.export import write_onnx
from leanet.inference.model import load, save


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, saved."""
    model = made("CNN", "Direct", 2)
    out = tmp_path_factory.mktemp("models") / "model"
    save(out, model.card, model.network, model.colorizer)
    return out


@pytest.fixture(scope="session")
def exported_onnx(folder: Path) -> Path:
    """The small model as an .onnx file; to be copied before it is changed."""
    path = folder.with_name("m.onnx")
    write_onnx(load(folder), path)
    return path
