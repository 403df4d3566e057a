"""From a folder to a model, and from a model to predictions: on disk, from the command line and from Python."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import color

import leanet
from leanet.cli import main
from leanet.data.decode import decode, resize
from leanet.errors import UserError
from leanet.model.card import FORMAT, read_card, to_json
from leanet.model.model import Model, load, save
from leanet.model.predict_files import find_files
from leanet.model.result import Result
from leanet.model.where import CELLS
from leanet.training.checkpoint import save_weights
from leanet.training.compute import has_bfloat16

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

delta_e: Callable[..., Any] = color.deltaE_ciede2000  # scikit-image has no types

QUICK = ["--image-size", "64", "--n-splits", "2", "--adn", "CNN", "--caan", "Direct", "--attention-point", "3"]
FEW = ["--colorizer-epochs", "2", "--epochs", "2", "--compile", "off"]


@pytest.fixture(scope="module")
def fitted(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "model"
    notes = out.with_name("model.work") / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    assert main(["fit", str(leaves), "--out", str(out), *QUICK, *FEW]) == 0
    return out


@pytest.fixture(scope="module")
def model(fitted: Path) -> Model:
    return load(fitted)


@pytest.fixture
def copy(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "copy"))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_model_is_three_files_and_knows_where_it_comes_from(fitted: Path, leaves: Path) -> None:
    assert sorted(p.name for p in fitted.iterdir()) == [
        "colorizer.safetensors",
        "model.json",
        "weights.safetensors",
    ]
    assert [p.name for p in fitted.with_name("model.work").iterdir()] == ["notes.txt"]
    card = json.loads((fitted / "model.json").read_text())
    pictures = [p for p in leaves.rglob("*.png") if "ground_truth" not in p.parts]
    assert card["training"]["images"] == len(pictures)
    assert card["training"]["kinds"] == ["spot", "streak"]
    assert card["normals_unit"] > 0
    assert card["versions"]["torch"].startswith("2.")
    assert card["validation"]["images"] == pytest.approx(len(pictures) / 2, abs=1)
    assert ("bfloat16" in card["validation"]) == has_bfloat16(torch.device("cpu"))
    assert str(leaves) not in json.dumps(card)


def test_a_fitted_model_knows_what_held_out_normals_reach_at_their_peaks(fitted: Path, model: Model) -> None:
    peaks = np.array(json.loads((fitted / "model.json").read_text())["normals_peaks"])
    assert peaks.shape == (CELLS, CELLS)
    assert (peaks >= 1).all()
    assert model.card.normals_peaks == tuple(map(tuple, peaks.tolist()))


def test_only_anomalous_pictures_have_a_box(model: Model, leaves: Path) -> None:
    pictures = sorted(leaves.rglob("good/*.png"))[:4] + sorted(leaves.rglob("spot/*.png"))[:4]
    low = ((1.0,) * CELLS,) * CELLS  # beyond which all of these maps go
    for threshold in (0.0, 1.1):
        card = dataclasses.replace(model.card, threshold=threshold, normals_peaks=low)
        found = dataclasses.replace(model, card=card).predict(pictures)
        assert [r.box is not None for r in found] == [threshold == 0] * 8


def test_info_prints_the_card(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(fitted)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# LEA-Net of CNN with Direct at attention point 3, 64 px")
    assert re.search(r"# a detector trained on .*: Of \d+ anomalous pictures? \d+ found", printed)
    assert "adn: CNN" in printed
    assert "auroc:" in printed


def test_results_are_whole(model: Model, leaves: Path) -> None:
    result = model.predict(next(leaves.rglob("spot/*.png")))
    assert result.probability is not None
    assert result.anomaly_map is not None
    assert result.attention is not None
    assert result.recoloured is not None
    assert 0 <= result.probability <= 1
    assert result.anomalous == (result.probability >= model.card.threshold)
    assert result.caan_probability is None  # Direct has no logits
    assert result.anomaly_map.shape == (64, 64)
    assert result.mean_delta_e == pytest.approx(result.anomaly_map.mean(), rel=1e-5)
    assert result.attention.shape == (8, 8)
    assert result.recoloured.shape == (64, 64, 3)


def test_recoloured_image_keeps_its_lightness_and_differs_by_the_map(model: Model, leaves: Path) -> None:
    file = next(leaves.rglob("good/*.png"))
    result = model.predict(file)
    assert result.recoloured is not None
    assert result.anomaly_map is not None
    true, painted = color.rgb2lab(resize(decode(file), 64)), color.rgb2lab(result.recoloured)
    inside = (result.recoloured > 2).all(2) & (result.recoloured < 253).all(2)  # of what a screen can show
    difference = delta_e(true, painted)
    assert np.median(np.abs(difference - result.anomaly_map)[inside]) < 0.5


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), "shape"),
        (np.zeros((4, 4, 3), np.int64), "uint8"),
        (np.full((4, 4, 3), 7.0), r"\[0, 1\]"),
        ("no such file.png", "not a readable image"),
    ],
)
def test_bad_pictures_are_refused_in_a_line(model: Model, picture: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.predict(picture)


def test_predict_writes_a_line_an_image_and_says_when_one_is_bad(
    fitted: Path, model: Model, leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    good = sorted(leaves.rglob("spot/*.png"))[:3]
    for name, file in zip(("a.png", "b.png", "more/a.png"), good, strict=True):
        shutil.copy(file, pictures / name)
    Image.new("RGB", (1, 1), "red").save(pictures / "dot.png")
    Image.new("CMYK", (300, 2)).save(pictures / "line.jpg")
    (pictures / "broken.png").write_bytes(good[0].read_bytes()[:99])
    (pictures / "text.jpg").write_text("no image")
    out = tmp_path / "results" / "p.csv"
    command = ["predict", str(fitted), str(pictures), "--device", "cpu"]
    assert main([*command, "--out", str(out), "--maps", str(tmp_path / "maps")]) == 1
    assert "5 of 7 images predicted" in capsys.readouterr().out
    rows = {Path(row["file"]).relative_to(pictures).as_posix(): row for row in read_csv(out)}
    assert list(rows) == ["a.png", "b.png", "broken.png", "dot.png", "line.jpg", "more/a.png", "text.jpg"]
    assert [name for name, row in rows.items() if row["error"]] == ["broken.png", "text.jpg"]
    assert rows["broken.png"]["probability"] == ""
    for name, file in zip(("a.png", "b.png", "more/a.png"), good, strict=True):
        expected = model.predict(file)
        assert float(rows[name]["probability"]) == pytest.approx(expected.probability, abs=1e-4)
        assert rows[name]["decision"] == expected.decision
        assert float(rows[name]["peak_delta_e"]) == pytest.approx(expected.peak_delta_e, abs=1e-2)
    names = sorted(p.name for p in (tmp_path / "maps").iterdir())
    assert names == sorted(f"{stem}.{kind}" for stem in ("a", "a-2", "b", "dot", "line") for kind in ("npy", "png"))
    expected_map = model.predict(good[0]).anomaly_map
    assert expected_map is not None
    np.testing.assert_allclose(np.load(tmp_path / "maps" / "a.npy"), expected_map, atol=1e-2)


def test_maps_are_not_written_among_the_pictures(
    fitted: Path, leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    picture = pictures / "a.png"
    shutil.copy(next(leaves.rglob("spot/*.png")), picture)
    before = picture.read_bytes()
    for images, maps in ((pictures, pictures), (picture, pictures), (pictures, pictures / "maps")):
        command = ["predict", str(fitted), str(images), "--maps", str(maps), "--out", str(tmp_path / "p.csv")]
        assert main(command) == 2
        assert "an image to predict. Choose a folder without them." in capsys.readouterr().err
    assert picture.read_bytes() == before
    assert list(pictures.iterdir()) == [picture]


def test_folders_are_searched_as_those_of_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "apart").mkdir()
    (tmp_path / "pictures" / ".hidden").mkdir(parents=True)
    (tmp_path / "pictures" / "link").symlink_to(tmp_path / "apart")
    for name in ("apart/a.png", "pictures/._b.png", "pictures/.hidden/c.png", "pictures/d.png"):
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_files([str(tmp_path / "pictures")])]
    assert found == ["pictures/d.png", "pictures/link/a.png"]


def test_any_file_name_is_written_and_the_first_of_several_frames_is_said(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"caf\xe9.webp")
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green")]
    try:
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    except OSError:
        pytest.skip("this file system takes no such name")
    out = tmp_path / "p.csv"
    assert main(["predict", str(fitted), str(tmp_path), "--out", str(out), "--device", "cpu"]) == 0
    assert name.encode(errors="surrogateescape") in out.read_bytes()
    assert "1 with several frames or pages: the first was used" in capsys.readouterr().out


def test_a_list_is_decoded_a_batch_at_a_time(model: Model, leaves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    decoded = 0

    def counted(picture: Path, _name: str) -> NDArray[np.uint8]:
        nonlocal decoded
        decoded += 1
        return decode(picture)

    def predicted(_model: Model, images: list[NDArray[np.uint8]], *_: object, **__: object) -> list[Result]:
        nonlocal decoded
        held.append(decoded)
        decoded = 0
        return [Result(0.0, False)] * len(images)

    monkeypatch.setattr("leanet.model.anomaly_model.BATCH", 2)
    monkeypatch.setattr("leanet.model.anomaly_model.to_pixels", counted)
    monkeypatch.setattr(Model, "predict_pixels", predicted)
    assert len(model.predict(sorted(leaves.rglob("good/*.png"))[:5])) == 5
    assert held == [2, 2, 1]


def test_a_pil_image_that_cannot_be_used_is_told_so(model: Model, leaves: Path, tmp_path: Path) -> None:
    whole = next(leaves.rglob("good/*.png")).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for image in (Image.new("F", (64, 64)), Image.open(tmp_path / "cut.png")):
        with pytest.raises(UserError, match="convert it to RGB"):
            model.predict(image)


def test_predict_of_nothing_is_a_mistake(fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for images, message in (
        ([], "no images given"),
        ([str(tmp_path)], "no images in it"),
        ([str(tmp_path / "nowhere")], "no such file"),
        ([str(tmp_path / "*.jpg")], "no file matches"),
    ):
        assert main(["predict", str(fitted), *images, "--out", str(tmp_path / "p.csv")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()
    (tmp_path / "a.png").write_bytes(b"no image")
    for place in (".", str(tmp_path), str(tmp_path / "a.png" / "p.csv")):
        assert main(["predict", str(fitted), str(tmp_path / "a.png"), "--out", place]) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def pickle(path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, path)


@pytest.mark.parametrize("damage", [cut, flip, pickle, Path.unlink])
@pytest.mark.parametrize("name", ["weights.safetensors", "colorizer.safetensors"])
def test_changed_bytes_are_refused(copy: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(copy / name)
    with pytest.raises(UserError, match=rf"{name}: missing or changed since it was saved"):
        leanet.load(copy)


def test_another_format_and_a_damaged_card_are_refused(copy: Path) -> None:
    card = copy / "model.json"
    text = card.read_text()
    card.write_text(text.replace(f'"format": {FORMAT}', '"format": 9'))
    with pytest.raises(
        UserError, match=rf"format 9; this version of leanet reads 1 to {FORMAT}\. Install a newer version"
    ):
        leanet.load(copy)
    card.write_text(text.replace('"threshold": ', '"threshold": "high", "was": ', 1))
    with pytest.raises(UserError, match="damaged"):
        leanet.load(copy)
    card.write_text(json.dumps({**json.loads(text), "threshold": "high"}))
    with pytest.raises(UserError, match="damaged"):
        leanet.load(copy)
    card.write_text(text[:-30])
    with pytest.raises(UserError, match="damaged"):
        leanet.load(copy)


def test_any_changed_field_of_the_card_is_refused(copy: Path) -> None:
    card = copy / "model.json"
    content = json.loads(card.read_text())
    changes: dict[str, Any] = {
        "attention_points": [1],
        "threshold": content["threshold"] * 0.9,
        "normals_unit": content["normals_unit"] * 2,
        "map_scale": "max",
        "validation": {},
        "card_sha256": "0" * 64,
    }
    for field, value in changes.items():
        card.write_text(json.dumps({**content, field: value}))
        with pytest.raises(UserError, match=r"model\.json: damaged, .* \(changed since it was saved\)"):
            leanet.load(copy)
    card.write_text(json.dumps(dict(reversed(content.items()))))  # the order of the fields says nothing
    leanet.load(copy)


def test_a_card_of_format_1_is_read_without_a_hash(copy: Path, model: Model) -> None:
    card = copy / "model.json"
    content = {k: v for k, v in json.loads(card.read_text()).items() if k != "card_sha256"}
    card.write_text(json.dumps({**content, "format": 1}))
    assert leanet.load(copy).card == dataclasses.replace(model.card, format=1)
    card.write_text(json.dumps(content))
    with pytest.raises(UserError, match="damaged"):
        leanet.load(copy)
    card.write_text(json.dumps({**content, "format": 1, "card_sha256": "0" * 64}))
    with pytest.raises(UserError, match="damaged"):
        leanet.load(copy)


def test_weights_that_are_not_finite_are_refused(copy: Path) -> None:
    network = load(copy).network
    assert network is not None
    next(network.parameters()).data[0] = torch.nan
    save_weights(network, copy / "weights.safetensors")
    digest = hashlib.sha256((copy / "weights.safetensors").read_bytes()).hexdigest()
    content = {k: v for k, v in json.loads((copy / "model.json").read_text()).items() if k != "card_sha256"}
    (copy / "model.json").write_text(json.dumps({**content, "format": 1, "weights_sha256": digest}))
    with pytest.raises(UserError, match=r"weights\.safetensors: has weights that are NaN or infinite"):
        leanet.load(copy)


def test_without_anomalies_only_the_map_is_learnt(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanet.experiment.fit.has_bfloat16", lambda _device: True)
    shutil.copytree(leaves / "train" / "good", tmp_path / "data" / "Negative")
    out = tmp_path / "model"
    assert main(["fit", str(tmp_path / "data"), "--out", str(out), *QUICK, *FEW]) == 0
    printed = capsys.readouterr().out
    assert "fitting only anomaly maps" in printed
    assert "--precision bfloat16, which is faster, changes the mean ΔE by up to" in printed
    assert not (out / "weights.safetensors").exists()
    model = leanet.load(out)
    changed = model.card.validation["bfloat16"]
    assert changed["of"] == "mean ΔE"
    assert changed["images"] == model.card.validation["images"]
    assert 0 < changed["largest_difference"] < 1
    picture = next(leaves.rglob("spot/*.png"))
    result = model.predict(picture)
    assert result.probability is None
    assert result.mean_delta_e is not None
    assert model.card.map_threshold is not None
    assert result.anomalous == (result.mean_delta_e >= model.card.map_threshold)
    assert main(["predict", str(out), str(picture), "--out", str(tmp_path / "p.csv")]) == 0
    assert read_csv(tmp_path / "p.csv")[0]["probability"] == ""


def test_a_fit_says_before_how_long_it_will_take(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("leanet.experiment.fit.colorize", stop)
    assert main(["fit", str(leaves), "--out", str(tmp_path / "model"), *QUICK, *FEW]) == 130
    assert "estimated time on this machine: " in capsys.readouterr().out


def test_a_stopped_fit_is_gone_on_with_under_its_own_options_only(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(leaves / "train" / "good", tmp_path / "data" / "Negative")
    command = ["fit", str(tmp_path / "data"), "--out", str(tmp_path / "model"), *QUICK, *FEW]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("leanet.experiment.fit.save", stop)
        assert main(command) == 130
    assert main([*command, "--colorizer-epochs", "3"]) == 2
    assert "--colorizer-epochs" in capsys.readouterr().err
    shutil.copy(leaves / "test" / "spot" / "000.png", tmp_path / "data" / "Negative" / "new.png")
    assert main(command) == 2
    assert "another data set (they differ in Negative/new.png)" in capsys.readouterr().err
    (tmp_path / "data" / "Negative" / "new.png").unlink()
    assert main(command) == 0


def test_too_few_good_pictures_are_told_so(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "Negative").mkdir(parents=True)
    for file, n_splits, text in (("000", "2", "--n-splits 2: "), ("001", "2", "1 normal image to train on")):
        shutil.copy(leaves / "train" / "good" / f"{file}.png", tmp_path / "data" / "Negative")
        command = ["fit", str(tmp_path / "data"), "--out", str(tmp_path / f"model-{file}"), "--n-splits", n_splits]
        assert main([*command, "--image-size", "64"]) == 2
        assert text in capsys.readouterr().err


def test_too_few_anomalies_are_refused_before_anything_is_trained(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("leanet.experiment.fit.colorize")
    assert main(["fit", str(leaves), "--out", str(tmp_path / "model"), *QUICK, *FEW, "--p-rate", "0.01"]) == 2
    assert "--p-rate 0.01: keeps none" in capsys.readouterr().err


def test_a_model_is_fitted_in_one_process(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["fit", str(leaves), "--out", str(tmp_path / "model"), *QUICK, *FEW]) == 2
    assert "one process only" in capsys.readouterr().err


def test_a_model_may_be_saved_into_the_folder_one_is_in(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save(Path(), model.card, model.network, model.maps)
    assert leanet.load(tmp_path / "here").card.adn == model.card.adn


def test_the_authors_coding_without_opencv_is_a_mistake_told_at_once(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "model.json").write_text(to_json(dataclasses.replace(read_card(copy), map_coding="authors")))
    leanet.load(copy)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="OpenCV is missing"):
        leanet.load(copy)


def test_an_existing_folder_is_not_overwritten(
    fitted: Path, leaves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(leaves), "--out", str(fitted), *QUICK]) == 2
    assert "exists already" in capsys.readouterr().err


def test_without_anomalies_feature_maps_are_the_default(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(leaves / "train" / "good", tmp_path / "data" / "Negative")
    assert main(["fit", str(tmp_path / "data"), "--out", str(tmp_path / "model"), "--image-size", "64"]) == 0
    assert main(["info", str(tmp_path / "model")]) == 0
    printed = capsys.readouterr().out
    assert "anomaly maps alone (features), 64 px" in printed
    assert "ΔE" not in printed
    model = leanet.load(tmp_path / "model")
    (spotted, *_), (good, *_) = (sorted((leaves / part).rglob("*.png")) for part in ("test/spot", "train/good"))
    peaks = [model.predict(picture).peak_delta_e for picture in (spotted, good)]
    assert peaks[0] is not None
    assert peaks[1] is not None
    assert peaks[0] > peaks[1]
