"""One model, one answer: whoever is asked, however the picture is given, and whatever the threshold."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from made import made, pictures
from numpy.typing import NDArray
from PIL import Image

import leanet
from leanet.cli import main
from leanet.config import ComputeConfig, ServeConfig
from leanet.data.decode import decode
from leanet.errors import UserError
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.card import Card
from leanet.model.deviation import Deviation, deviation
from leanet.model.exported import OnnxModel, OpenVinoModel
from leanet.model.model import Model, load, save
from leanet.model.result import Result
from leanet.serve.service import make_app


@pytest.fixture(scope="module")
def map_only(folder: Path) -> Path:
    """A model of good pictures only, saved."""
    some, out = made("CNN", "none", 1), folder.with_name("map-only")
    save(out, replace(some.card, adn="", attention_points=(), map_threshold=5.0), None, some.maps)
    return out


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Pictures of several sizes, as files."""
    (tmp_path / "pictures").mkdir()
    found = [tmp_path / "pictures" / f"{i}.png" for i, _ in enumerate(pictures())]
    for path, picture in zip(found, pictures(), strict=True):
        Image.fromarray(picture).save(path)
    return found


def predicted(model: Path, images: Sequence[Path], out: Path, *options: str) -> list[dict[str, str]]:
    """The lines that `leanet predict` writes."""
    assert main(["predict", str(model), *map(str, images), "--out", str(out), *options]) == 0
    with out.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def by_service(model: Path, images: Sequence[Path], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the application answers that `leanet serve` puts on a port."""
    served: list[AnomalyModel] = []

    def serve(_config: ServeConfig, load_model: Callable[[Path], AnomalyModel]) -> int:
        served.append(load_model(model))
        return 0

    monkeypatch.setattr("leanet.serve.server.serve", serve)
    assert main(["serve", str(model), "--device", "cpu"]) == 0
    with TestClient(make_app(served[0], ServeConfig(model))) as client:
        parts = [("files", (path.name, path.read_bytes())) for path in images]
        results: list[dict[str, Any]] = client.post("/v1/predict", files=parts).json()["results"]
    return results


def test_every_way_to_ask_a_model_gives_one_answer(
    folder: Path, exported_onnx: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = leanet.load(folder).predict(files)
    probabilities = [result.probability for result in expected]
    answers = {
        "predict": predicted(folder, files, tmp_path / "a.csv", "--device", "cpu"),
        "predict ONNX": predicted(exported_onnx, files, tmp_path / "b.csv"),
        "serve": by_service(folder, files, monkeypatch),
        "load ONNX": [vars(result) for result in leanet.load(exported_onnx).predict(files)],
        "one by one": [vars(leanet.load(folder).predict(file)) for file in files],
    }
    for way, rows in answers.items():
        found = [float(row["probability"]) for row in rows]
        assert found == pytest.approx(probabilities, abs=1e-3), way
        means = [float(row["mean_delta_e"]) for row in rows]
        assert means == pytest.approx([result.mean_delta_e for result in expected], abs=0.01), way


def test_only_bfloat16_by_name_is_predicted_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanet.training.compute.has_bfloat16", lambda _device: True)

    def computes_in(*options: str) -> bool:
        models: list[Model] = []

        def predict(_config: object, load_model: Callable[[int], Model]) -> int:
            models.append(load_model(1))
            return 0

        monkeypatch.setattr("leanet.model.predict_files.predict", predict)
        assert main(["predict", str(folder), str(Path(__file__)), "--device", "cpu", *options]) == 0
        return models[0].compute.bfloat16

    assert not computes_in()
    assert not computes_in("--precision", "auto")
    assert computes_in("--precision", "bfloat16")
    assert not load(folder, ComputeConfig(device="cpu")).compute.bfloat16
    assert load(folder, ComputeConfig(device="cpu", precision="bfloat16")).compute.bfloat16
    by_name = leanet.load(folder, device=torch.device("cpu"), precision="bfloat16")
    assert isinstance(by_name, Model)
    assert by_name.compute.bfloat16


@pytest.mark.parametrize("kind", ["folder", "exported_onnx"])
def test_every_way_to_give_a_picture_is_the_same_picture(
    kind: str, files: list[Path], request: pytest.FixtureRequest
) -> None:
    model, file = leanet.load(request.getfixturevalue(kind)), files[1]
    pixels = decode(file)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    content = file.read_bytes()
    with file.open("rb") as opened:
        ways: list[Any] = [
            file,
            str(file),
            content,
            bytearray(content),
            memoryview(content),
            io.BytesIO(content),
            opened,
            Image.open(file),
        ]
        ways += [pixels, pixels / 255, tensor, tensor.float() / 255, (tensor.double() / 255).requires_grad_()]
        results = model.predict(ways)
    assert len(results) == len(ways)
    alone = model.predict(file)
    for result in results:
        assert result.probability == pytest.approx(alone.probability, abs=1e-5)
        assert result.box == alone.box
        np.testing.assert_allclose(_array(result.anomaly_map), _array(alone.anomaly_map), atol=1e-3)
    assert alone.recoloured is not None


def _array(found: NDArray[np.float32] | None) -> NDArray[np.float32]:
    assert found is not None
    return found


def test_several_pictures_come_as_any_iterable_and_types_tell_what_comes_back(
    folder: Path, files: list[Path]
) -> None:
    model = leanet.load(folder)
    expected = [result.probability for result in assert_type(model.predict(files), list[Result])]
    several: list[Iterable[Any]] = [tuple(files), (file for file in files), map(str, files)]
    for given in several:
        assert [result.probability for result in model.predict(given)] == expected
    assert_type(model.predict(files[0]), Result)
    assert model.predict([]) == []
    stacked: Any = np.stack([decode(files[0])] * 3)
    assert len(model.predict(stacked)) == 3
    half = torch.from_numpy(decode(files[0]).copy()).permute(2, 0, 1) / 255
    assert model.predict(half.bfloat16()).probability is not None


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"", r"^picture: not a readable image \(empty file\)"),
        (b"no image", r"^picture: not a readable image \(not an image"),
        (
            io.StringIO("text"),
            r"^picture: the file cannot be read \(str instead of bytes\)\. Open it for reading, in mode 'rb'\.$",
        ),
        ("a\0b.png", r"a\\x00b\.png: not a readable image \(a name with a zero in it\)"),
        (np.array(3), r"^picture: expected an array of shape .*, found \(\)"),
        (torch.tensor(1), r"^picture: expected an array of shape .*, found \(\)"),
        (Image.new("RGB", (0, 0)), r"^picture: "),
        (torch.zeros(3, 8, 8).to_sparse(), r"^picture: unusable tensor"),
        (torch.zeros(3, 8, 8, device="meta"), r"^picture: unusable tensor"),
        (np.zeros((70_000, 1, 3), np.uint8), "^picture: expected sides of up to 65535 pixels"),
        (np.ndarray, r"^picture: expected an array of shape .*, found \(\)"),
        (None, "^picture: expected a path, bytes, .*, found NoneType"),
        (7, "^picture: expected a path, bytes, .*, found int"),
        (
            [np.zeros((8, 8, 3), np.uint8), {}],
            r"^picture 1 \(counted from 0\): expected a path, bytes, .* found dict",
        ),
        ([np.zeros((8, 8, 3), np.uint8), b""], r"^picture 1 \(counted from 0\): not a readable image"),
    ],
)
def test_what_is_no_picture_is_told_by_its_place(loaded: Model, picture: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        loaded.predict(picture)


def test_a_closed_file_is_told_so(loaded: Model, files: list[Path]) -> None:
    with files[0].open("rb") as file:
        pass
    with pytest.raises(UserError, match=r"^picture: the file cannot be read \(.*closed file"):
        loaded.predict(file)


def test_errors_speak_of_arguments_to_python_and_of_options_on_the_command_line(
    folder: Path, exported_onnx: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    unknown: Any = "float16"
    for path, options, message in (
        (folder, {"device": "tpu"}, "device tpu: this machine has "),
        (folder, {"device": "cpu:x"}, "device cpu:x: expected a number"),
        (folder, {"precision": unknown}, "precision float16: expected 'float32' or 'bfloat16'"),
        (exported_onnx, {"device": "cuda"}, f"device cuda: {exported_onnx} is computed on the CPU"),
        (exported_onnx, {"precision": "bfloat16"}, f"precision bfloat16: {exported_onnx} has its own"),
    ):
        with pytest.raises(UserError) as raised:
            leanet.load(path, **options)
        assert str(raised.value).startswith(message)
        if unknown not in options.values():
            given = [part for name, value in options.items() for part in (f"--{name}", value)]
            assert main(["predict", str(path), str(files[0]), *given]) == 2
            assert capsys.readouterr().err.startswith(f"error: --{message}")


@pytest.mark.parametrize("kind", ["folder", "exported_onnx"])
def test_another_threshold_decides_and_changes_nothing_else(
    kind: str, files: list[Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind)
    plain = predicted(path, files, tmp_path / "a.csv")
    values = sorted(float(row["probability"]) for row in plain)
    threshold = (values[3] + values[4]) / 2
    moved = predicted(path, files, tmp_path / "b.csv", "--threshold", repr(threshold))
    assert [row["decision"] for row in moved] == [
        "anomalous" if float(row["probability"]) >= threshold else "normal" for row in plain
    ]
    assert sum(row["decision"] == "anomalous" for row in moved) == len(files) - 4
    assert [row["probability"] for row in moved] == [row["probability"] for row in plain]
    model = leanet.load(path)
    assert [r.decision for r in model.with_threshold(threshold).predict(files)] == [r["decision"] for r in moved]
    assert model.card.threshold == 0.3


def test_the_threshold_of_a_map_is_its_mean(map_only: Path, files: list[Path], tmp_path: Path) -> None:
    means = [float(row["mean_delta_e"]) for row in predicted(map_only, files, tmp_path / "a.csv")]
    threshold = sum(sorted(means)[3:5]) / 2
    assert threshold > 1
    moved = predicted(map_only, files, tmp_path / "b.csv", "--threshold", repr(threshold))
    assert [row["decision"] == "anomalous" for row in moved] == [mean >= threshold for mean in means]


@pytest.mark.parametrize(
    ("kind", "threshold", "message"),
    [
        ("folder", "1.01", "--threshold 1.01: expected a probability from 0 to 1, such as the model's 0.3."),
        ("folder", "nan", "--threshold nan: expected a probability"),
        ("folder", "-0.1", "--threshold -0.1: expected a probability"),
        ("map_only", "-1", "--threshold -1.0: expected a mean ΔE of 0 or more, such as the model's 5."),
        ("map_only", "inf", "--threshold inf: expected a mean ΔE"),
    ],
)
def test_a_threshold_that_nothing_can_reach_is_refused(
    kind: str,
    threshold: str,
    message: str,
    files: list[Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["predict", str(request.getfixturevalue(kind)), str(files[0]), "--out", str(tmp_path / "p.csv")]
    assert main([*command, "--threshold", threshold]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "p.csv").exists()


class Says(AnomalyModel):
    """A model that says what it is told to, in turn."""

    def __init__(self, card: Card, *results: Result) -> None:
        self.card, self.results = card, list(results)

    def predict_pixels(
        self,
        images: Sequence[NDArray[np.uint8]],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        paint: bool = False,
    ) -> list[Result]:
        assert anomaly_maps is None
        assert sizes is None
        assert not paint
        return [self.results.pop(0) for _ in images]


def test_deviation_is_the_largest_and_counts_other_decisions() -> None:
    card, images = made("CNN", "Direct", 2).card, [np.zeros((64, 64, 3), np.uint8)] * 20
    exact = Says(card, *[Result(0.25, False, mean_delta_e=9.0)] * 20)
    coarse = Says(card, *[Result(0.25, False)] * 16, *[Result(0.375, True), Result(0.125, False)] * 2)
    found = deviation(exact, coarse, images)
    assert found == Deviation("probability", 20, 0.125, 2)
    assert str(found) == "changes the probability by up to 0.12, and 2 of 20 decisions"
    map_only = replace(card, adn="")
    exact, coarse = (Says(map_only, Result(None, False, mean_delta_e=mean)) for mean in (4.0, 4.5))
    assert deviation(exact, coarse, images[:1]) == Deviation("mean ΔE", 1, 0.5, 0)


def test_exported_files_are_found_by_any_case_and_refuse_maps(exported_onnx: Path, folder: Path) -> None:
    loud = exported_onnx.with_name("LOUD.ONNX")
    loud.write_bytes(exported_onnx.read_bytes())
    model = leanet.load(str(loud), device="auto")
    assert isinstance(model, OnnxModel)
    assert not isinstance(model, OpenVinoModel)
    picture = next(pictures())
    with pytest.raises(UserError, match="anomaly_maps: an exported model makes its own"):
        model.predict(picture, np.zeros((1, 64, 64), np.float32), map_coding="true")
    with pytest.raises(UserError, match="not a model folder"):
        leanet.load(folder / "nothing")


class Endless:
    """A file that gives zeros for ever."""

    def read(self, size: int, /) -> bytes:
        return bytes(size)


def test_a_file_that_never_ends_is_refused(loaded: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanet.model.picture.MAX_BYTES", 10_000_000)
    with pytest.raises(UserError, match=r"^picture: the file cannot be read \(larger than 10 MB\)"):
        loaded.predict(Endless())
