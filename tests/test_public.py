"""The public surface: what `import leanet` offers, and what it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import leanet

HEAVY = ("zarr", "sklearn", "accelerate", "matplotlib", "rich", "yaml", "tyro")
"""What training and reports need, and an answer does not."""


def modules_after(statement: str, *arguments: str) -> set[str]:
    """The modules that a fresh process has imported after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", leanet.__all__)
def test_every_public_name_is_there_and_is_documented(name: str) -> None:
    found = getattr(leanet, name)
    assert not isinstance(found, ModuleType)
    if name != "Picture":  # an alias of types, whose docstring stands below it
        assert found.__name__ == name
        assert found.__doc__
        assert not found.__doc__.startswith(f"{name}(")  # what a dataclass says without a docstring


def test_dir_lists_the_public_names() -> None:
    assert set(leanet.__all__) <= set(dir(leanet))


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = leanet.lode
    with pytest.raises(ImportError):
        exec("from leanet import lode")


def test_a_star_import_gives_the_public_names_alone() -> None:
    names: dict[str, object] = {}
    exec("from leanet import *", names)
    assert set(names) - {"__builtins__"} == set(leanet.__all__)


def test_a_name_stays_what_it_is_when_modules_of_that_name_are_imported() -> None:
    for module in ("experiment.run", "experiment.fit", "color.anomaly_map", "networks.external_attention"):
        importlib.import_module(f"leanet.{module}")
    assert all(callable(getattr(leanet, name)) for name in ("run", "fit", "anomaly_map", "external_attention"))


def test_importing_leanet_imports_nothing_heavy() -> None:
    assert not modules_after("import leanet") & {"torch", "numpy", *HEAVY}


def test_the_version_stands_once() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in text
    assert 'version = { attr = "leanet.__version__" }' in text


def test_loading_an_exported_file_imports_no_torch(exported_onnx: Path) -> None:
    loaded = modules_after("import leanet\nleanet.load(sys.argv[1])", str(exported_onnx))
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", *HEAVY}


def test_the_authors_networks_import_nothing_that_an_answer_does_without(folder: Path) -> None:
    build = "from leanet.networks.registry import build_leanet\nbuild_leanet('ResNet18', None, (), 64)"
    loaded = modules_after(f"import leanet\nleanet.load(sys.argv[1])\n{build}", str(folder))
    assert "torch" in loaded
    assert not loaded & {"timm", "torchvision", *HEAVY}
