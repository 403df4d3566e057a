"""Model files of the authors' program: imported, they predict the same; what does not fit is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import recordings
import torch

import leanet
from leanet.cli import main
from leanet.compat.authors import predict
from leanet.compat.model_file import read_model_file
from leanet.errors import UserError
from leanet.model.card import read_card, to_json
from leanet.model.model import load
from leanet.networks.leanet import probability

PAIR = ["--adn", "CNN", "--caan", "Direct", "--attention-point", "1"]


@pytest.fixture(scope="module")
def saved() -> Path:
    path = recordings.GOLDEN / "CNN_Direct_p1.h5"
    if not path.is_file():
        pytest.skip("the authors' model file (CNN_Direct_p1.h5) is not here")
    return path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(saved, tmp_path / "model.h5"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the model's config inside a file."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config["config"])
        file.attrs["model_config"] = json.dumps(config)


def test_imported_model_predicts_what_the_authors_program_does(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert main(["import-authors", str(saved), *PAIR, "--out", str(out)]) == 0
    model = load(out)
    assert model.network is not None
    found = predict(model.network, *recordings.inputs())
    expected = recordings.load("CNN_Direct_p1")["outputs"]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert (model.card.map_coding, model.card.map_scale, model.card.image_size) == ("authors", "max", 256)
    assert sorted(p.name for p in out.iterdir()) == ["model.json", "weights.safetensors"]


def test_imported_model_needs_maps_of_its_coding(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    main(["import-authors", str(saved), *PAIR, "--out", str(out)])
    model = load(out)
    image, anomaly_map = recordings.inputs()
    pixels, maps = np.rint(image * 255).astype(np.uint8), anomaly_map[..., 0]
    with pytest.raises(UserError, match="cannot make anomaly maps: pass anomaly_maps"):
        model.predict(pixels)
    with pytest.raises(UserError, match="trained on maps of coding 'authors'"):
        model.predict(pixels, maps, map_coding="true")
    with pytest.raises(UserError, match=r"shape \(2, 256, 256\), found float32 \(2, 128, 256\)"):
        model.predict(pixels, maps[:, ::2], map_coding="authors")
    with pytest.raises(UserError, match="finite numbers"):
        model.predict(pixels, maps - 0.5, map_coding="authors")
    scaled = maps[..., None] / maps.max((1, 2))[:, None, None, None]
    assert model.network is not None
    activated = predict(model.network, pixels / 255, scaled)[0]
    logits = np.log(activated / (1 - activated))
    expected = probability(torch.from_numpy(logits))
    found = model.predict(list(pixels), maps * 7, map_coding="authors")
    np.testing.assert_allclose(np.array([p.probability for p in found], float), expected, atol=1e-4)
    assert [p.anomalous for p in found] == [bool(a[1] >= a[0]) for a in activated]
    assert [p.caan_probability for p in found] == [None, None]


def test_names_in_the_file_do_not_matter(copy: Path) -> None:
    def rename(config: dict[str, Any]) -> None:
        for entry in config["layers"]:
            entry["name"] = entry["config"]["name"] = f"{entry['name']}_77"
            for call in entry["inbound_nodes"]:
                for source in call:
                    source[0] = f"{source[0]}_77"
        for output in config["output_layers"]:
            output[0] = f"{output[0]}_77"

    expected = predict(read_model_file(copy, "CNN", "Direct", 1), *recordings.inputs())
    rewrite(copy, rename)
    with h5py.File(copy, "r+") as file:
        for name in list(file["model_weights"]):
            file["model_weights"].move(name, f"{name}_77")
    found = predict(read_model_file(copy, "CNN", "Direct", 1), *recordings.inputs())
    np.testing.assert_array_equal(found, expected)


def layer(config: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in config["layers"] if entry["name"] == name)
    return found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: layer(c, "conv2d_2")["config"].update(strides=[1, 1]), "strides"),
        (lambda c: layer(c, "conv2d_2")["config"].update(padding="valid"), "padding same, found valid"),
        (lambda c: layer(c, "batch_normalization")["config"].update(epsilon=1e-5), "epsilon 0.001, found 1e-05"),
        (lambda c: layer(c, "activation_2")["config"].update(activation="tanh"), "activation relu, found tanh"),
        (lambda c: layer(c, "add")["inbound_nodes"][0].reverse(), "reads other layers"),
        (lambda c: layer(c, "flatten").update(class_name="Reshape"), "must be Flatten, found Reshape"),
        (lambda c: c.update(output_layers=[["flatten", 0, 0]]), "found"),
        (lambda c: c.update(output_layers=[["nothing", 0, 0]]), "nothing"),
        (lambda c: c.pop("layers"), "layers"),
        (
            lambda c: layer(c, "Main_Inputs")["config"].update(batch_input_shape=[None, 256, 128, 3]),
            "square inputs",
        ),
    ],
)
def test_other_graphs_are_refused(copy: Path, change: Callable[[dict[str, Any]], None], expected: str) -> None:
    rewrite(copy, change)
    with pytest.raises(UserError, match=expected) as caught:
        read_model_file(copy, "CNN", "Direct", 1)
    assert str(copy) in str(caught.value)


def test_wrong_shape_inside_the_file_is_refused(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        group = file["model_weights/dense/dense"]
        kernel = group["kernel:0"][:-1]
        del group["kernel:0"]
        group["kernel:0"] = kernel
    with pytest.raises(UserError, match=r"must have shape \(.*\), found \(32767, 2\)"):
        read_model_file(copy, "CNN", "Direct", 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--adn", "CNN", "--caan", "ResNet", "--attention-point", "1"], "CNN --caan Direct --attention-point 1."),
        (["--adn", "CNN", "--caan", "Direct", "--attention-point", "3"], "CNN --caan Direct --attention-point 1."),
        (["--adn", "CNN", "--caan", "Direct", "--attention-point", "7"], "1 2 3 4 5"),
        (["--adn", "CNN", "--caan", "Direct"], "--attention-point"),
    ],
)
def test_a_file_of_another_pair_is_refused(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    assert main(["import-authors", str(saved), *options, "--out", str(tmp_path / "model")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert expected in lines[0]
    assert not list(tmp_path.iterdir())


def test_broken_and_foreign_files_are_refused(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "truncated.h5").write_bytes(saved.read_bytes()[:200_000])
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = np.zeros(3)
    for name in ("truncated.h5", "text.h5", "foreign.h5", "missing.h5"):
        out = tmp_path / "model"
        assert main(["import-authors", str(tmp_path / name), *PAIR, "--out", str(out)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert name in lines[0]
        assert not out.exists()


def test_changed_model_folders_are_refused(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    main(["import-authors", str(saved), *PAIR, "--out", str(out)])
    assert main(["import-authors", str(saved), *PAIR, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    stored = (out / "model.json").read_text()
    card = json.loads(stored)
    for change in ({"adn": "ResNet18"}, {"adn": "LeNet"}, {"image_size": 100}, {"attention_points": ["one"]}):
        (out / "model.json").write_text(json.dumps(card | change))
        with pytest.raises(UserError, match="changed since it was saved"):
            load(out)
    (out / "model.json").write_text(stored)
    (out / "model.json").write_text(to_json(dataclasses.replace(read_card(out), adn="ResNet18")))
    with pytest.raises(UserError, match="weights of another network"):
        load(out)
    (out / "model.json").write_text(stored)
    weights = (out / "weights.safetensors").read_bytes()
    (out / "weights.safetensors").write_bytes(weights[:-1] + b"x")
    with pytest.raises(UserError, match="changed since it was saved"):
        load(out)
    (out / "model.json").write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        load(out)
    (out / "model.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        load(out)
    with pytest.raises(UserError, match="not a model folder"):
        leanet.load(tmp_path)
