"""What several tests need: a small made data set, and the shared real images where they are present."""

from __future__ import annotations

from pathlib import Path

import pytest
from made import made

from leanet.data.synthetic import make_leaves
from leanet.model.export import write_onnx
from leanet.model.model import load, save

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty synthetic leaves of 64 pixels, sixteen of them anomalous, in the MVTec AD layout."""
    out = tmp_path_factory.mktemp("data") / "leaves"
    make_leaves(out, n_normal=24, n_anomalous=16, image_size=64, seed=3)
    return out


@pytest.fixture(scope="session")
def potato() -> Path:
    """The real potato leaves; skips where they are absent."""
    path = SHARED / "data" / "plantvillage_potato"
    if not path.is_dir():
        pytest.skip("the shared real images (plantvillage_potato) are not here")
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, saved."""
    model = made("CNN", "Direct", 2)
    out = tmp_path_factory.mktemp("models") / "model"
    save(out, model.card, model.network, model.maps)
    return out


@pytest.fixture(scope="session")
def exported_onnx(folder: Path) -> Path:
    """The small model as an .onnx file; to be copied before it is changed."""
    path = folder.with_name("m.onnx")
    write_onnx(load(folder), path)
    return path
