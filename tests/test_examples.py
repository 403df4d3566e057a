"""Every script of examples/ runs as a reader would run it."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import served
from tiny import registered

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def said_by(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., list[str]]:
    """A function that runs an example in an empty folder and gives the lines that it prints."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *arguments: str | Path) -> list[str]:
        monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def two(leaves: Path) -> tuple[Path, Path]:
    """A normal and an anomalous leaf."""
    return next(leaves.glob("train/good/*.png")), next(leaves.glob("test/[!g]*/*.png"))


def test_every_example_is_short_and_tested() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    for script in EXAMPLES.glob("*.py"):
        assert f'"{script.name}"' in tests
        assert len(script.read_text(encoding="utf-8").splitlines()) < 40


def test_predict_from_python(said_by: Callable[..., list[str]], folder: Path, leaves: Path) -> None:
    *rows, total = said_by("predict_from_python.py", folder, leaves / "test")
    pictures = {path.name for path in (leaves / "test").rglob("*.png")}
    assert {row.split()[-1] for row in rows} == pictures
    anomalous = sum(row.startswith("anomalous") for row in rows)
    assert total == f"{anomalous} of {len(rows)} pictures are anomalous"


def test_run_from_python(said_by: Callable[..., list[str]], leaves: Path, tmp_path: Path) -> None:
    with registered():
        said = said_by("run_from_python.py", leaves, "run")
    scored = [line for line in said if re.search(r"  AUROC [01]\.\d{3}$", line)]
    assert any(line.startswith("ResNet18-ResNet-p2: ADN") for line in scored)
    assert any(line.startswith("ResNet18 without attention") for line in scored)
    assert (tmp_path / "run" / "0" / "ResNet18-ResNet-p2" / "predictions.csv").is_file()


def test_attention_in_your_cnn(said_by: Callable[..., list[str]], folder: Path, two: tuple[Path, Path]) -> None:
    steps = said_by("attention_in_your_cnn.py", folder, *two)
    losses = [float(step.split("loss ")[1].split(",")[0]) for step in steps]
    assert losses[-1] < losses[0]
    low, high = map(float, steps[-1].split("times ")[1].split(".."))
    assert 1 <= low < high <= 2


def test_service_client(
    said_by: Callable[..., list[str]], exported_onnx: Path, two: tuple[Path, Path], tmp_path: Path
) -> None:
    with served(exported_onnx) as (address, _):
        said = said_by("service_client.py", address, *two)
    assert [line.split(":")[0] for line in said] == [picture.name for picture in two]
    assert all((tmp_path / f"{picture.stem}-overlay.png").stat().st_size for picture in two)


def test_onnx_runtime_only(said_by: Callable[..., list[str]], exported_onnx: Path, two: tuple[Path, Path]) -> None:
    text = (EXAMPLES / "onnx_runtime_only.py").read_text(encoding="utf-8")
    assert not re.search(r"^ *(from|import) (leanet|torch)", text, re.M)
    said = said_by("onnx_runtime_only.py", exported_onnx, *two)
    assert [line.split(":")[0] for line in said] == [str(picture) for picture in two]
    assert all("heat up to" in line for line in said)
