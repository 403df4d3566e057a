"""Which pictures to label next: uncertain ones, unlike each other; none that the model knows, none twice."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made import made
from PIL import Image
from pyarrow.csv import WriteOptions, write_csv

from leanet.cli import main
from leanet.config import NextConfig
from leanet.errors import UserError
from leanet.model.choose import NEAR, choose
from leanet.model.known import Known, read_known, write_known
from leanet.model.model import load, save
from leanet.model.next_labels import COLUMNS, next_labels
from leanet.networks.familiarity import COMPONENTS
from leanet.networks.registry import build_leanet

PICTURES = 12
"""Different pictures in the pool."""


@pytest.fixture(scope="module")
def model(tiny_networks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """A small model with a head, which was trained on the pool's first two pictures."""
    some = made("CNN", "none", 1)
    network = build_leanet("CNN", None, (), 64, tune="head")
    assert network.head is not None
    generator = torch.Generator().manual_seed(0)
    features = network.head.linear.in_features
    network.head.set(torch.randn(features, generator=generator), 0.0)
    weight = torch.randn(8, features, generator=generator)
    network.head.add_familiarity().set(torch.ones(features), torch.zeros(features), weight)
    card = replace(
        some.card, attention_points=(), tune="head", familiar_distances=tuple(float(i) for i in range(101))
    )
    hashes = [sha256(content(i)).hexdigest() for i in range(2)]
    known = Known(hashes, 100 + np.random.default_rng(0).normal(size=(2, COMPONENTS)).astype(np.float32))
    out = tmp_path_factory.mktemp("next") / "model"
    save(out, card, network.eval(), some.maps, known)
    return out


def content(number: int) -> bytes:
    """A picture of its own for each number, as a PNG."""
    pixels = np.random.default_rng(number).integers(0, 40 + 15 * number, (70, 64, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a pool of pictures, one of them twice."""
    (tmp_path / "pool").mkdir()
    for i in range(PICTURES):
        (tmp_path / "pool" / f"{i}.png").write_bytes(content(i))
    shutil.copy(tmp_path / "pool" / "5.png", tmp_path / "pool" / "copy of 5.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_pictures_that_the_model_knows_and_copies_are_left_out_and_counted(
    model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "pool" / "broken.png").write_bytes(content(3)[:100])
    assert main(["next", str(model), "pool", "--count", "50"]) == 1
    said = capsys.readouterr().out
    assert "2 left out: the model was trained on them" in said
    assert "1 left out: the same files under other names" in said
    assert "1 unreadable" in said
    files = [Path(row["file"]).name for row in rows("next.csv")]
    assert len(files) == len(set(files)) <= PICTURES - 2
    assert not {"0.png", "1.png", "broken.png"} & set(files)
    assert len({"5.png", "copy of 5.png"} & set(files)) == 1


@pytest.mark.usefixtures("place")
def test_a_table_says_what_predict_says(model: Path) -> None:
    assert main(["next", str(model), "pool", "--count", "4"]) == 0
    chosen = rows("next.csv")
    assert main(["predict", str(model), "pool", "--out", "p.csv"]) == 0
    said = {row["file"]: row for row in rows("p.csv")}
    assert len(chosen) == 4
    for row in chosen:
        assert row == {name: said[row["file"]][name] for name in row}


def test_a_manifest_names_the_pool(model: Path, place: Path) -> None:
    (place / "list.csv").write_text("picture\n" + "".join(f"pool/{i}.png\n" for i in range(1, 6)))
    assert main(["next", str(model), "list.csv", "--column", "picture", "--count", "9"]) == 0
    assert {row["file"] for row in rows("next.csv")} <= {f"pool/{i}.png" for i in range(2, 6)}


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_rows_with_a_label_are_left_out_and_counted(
    model: Path, place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    files, labels = [f"pool/{i}.png" for i in range(2, 6)], [None, 0, 1, None]
    kind = pa.float64() if name.endswith(".parquet") else pa.int8()
    table = pa.table(
        {"file": files, "Label": pa.array([math.nan, *labels[1:]] if kind == pa.float64() else labels, kind)}
    )
    if name.endswith(".csv"):
        write_csv(table, place / name, WriteOptions(delimiter=";"))
    else:
        pq.write_table(table, name)
    assert main(["next", str(model), name, "--count", "9"]) == 0
    assert {row["file"] for row in rows("next.csv")} == {"pool/2.png", "pool/5.png"}
    assert "2 left out: they have a label" in capsys.readouterr().out


def test_tasks_for_label_studio_have_the_pictures_place_and_the_answer(model: Path, place: Path) -> None:
    for _ in range(2):  # an earlier output is replaced
        assert main(["next", str(model), "pool", "--count", "3", "--out", "tasks.json"]) == 0
    assert main(["next", str(model), "pool", "--count", "3"]) == 0
    tasks = json.loads((place / "tasks.json").read_text())
    assert [task["data"]["file"] for task in tasks] == [row["file"] for row in rows("next.csv")]
    for task, row in zip(tasks, rows("next.csv"), strict=True):
        assert task["data"]["image"] == f"/data/local-files/?d={Path(row['file']).name}"
        (prediction,) = task["predictions"]
        assert prediction["score"] == pytest.approx(float(row["probability"]), rel=1e-4)
        (answer,) = prediction["result"]
        assert answer["type"] == "choices"
        if row["decision"] != "unfamiliar":
            assert answer["value"]["choices"] == [{"normal": "Negative", "anomalous": "Positive"}[row["decision"]]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("MODEL", "nowhere"), "nowhere: no such file or folder"),
        (("MODEL", "pool", "--count", "0"), "--count 0"),
        (("MODEL", "pool", "--out", "next.txt"), "--out next.txt: expected a name that ends in .csv"),
        (("MODEL", "pool", "--out", "notes.csv"), "--out notes.csv: exists, and is not an earlier output"),
        (("MODEL", "pool", "--out", "notes.json"), "--out notes.json: exists, and is not an earlier output"),
        (("MODEL", "pool", "--out", "labeled.csv"), "--out labeled.csv: exists, and is not an earlier output"),
        (("MODEL", "pool", "--out", "labeled.json"), "--out labeled.json: exists, and is not an earlier output"),
        (("MODEL", "pool/0.png"), "no unlabeled picture"),
        (("PLAIN", "pool"), "does not know its training pictures"),
        (("m.onnx", "pool"), "an exported file does not know"),
        (("DAMAGED", "pool"), "training.safetensors: damaged"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(
    model: Path,
    tiny_model: Path,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    (place / "notes.csv").write_text("mine\n")
    (place / "notes.json").write_text('{"mine": 1}')
    (place / "labeled.csv").write_text(",".join((*COLUMNS, "label")) + "\n")  # with people's labels
    answered = {"data": {"unfamiliarity": 1.0}, "predictions": [], "annotations": []}
    (place / "labeled.json").write_text(json.dumps([answered]))
    (place / "m.onnx").touch()
    shutil.copytree(model, place / "damaged")
    (place / "damaged" / "training.safetensors").write_bytes(b"none")
    names = {"MODEL": str(model), "PLAIN": str(tiny_model), "DAMAGED": "damaged"}
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert main(["next", *(names.get(argument, argument) for argument in arguments)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said in line
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_model_of_tiles_compares_no_whole_pictures(model: Path, place: Path) -> None:
    loaded = load(model)
    of_tiles = replace(loaded, card=replace(loaded.card, tile=64))
    with pytest.raises(UserError, match="was trained on tiles"):
        next_labels(NextConfig(model, str(place / "pool")), lambda: of_tiles)
    assert not (place / "next.csv").exists()


def test_what_a_model_knows_is_kept(tmp_path: Path) -> None:
    known = Known([sha256(bytes([i])).hexdigest() for i in range(3)], np.arange(6, dtype=np.float32).reshape(3, 2))
    write_known(tmp_path, known)
    found = read_known(tmp_path)
    assert found is not None
    assert found.sha256 == known.sha256
    np.testing.assert_array_equal(found.components, known.components)
    assert read_known(tmp_path / "elsewhere") is None


def test_uncertain_pictures_come_first_where_all_are_equally_far() -> None:
    probability = np.array([0.99, 0.55, 0.9, 0.5, 0.2])
    assert choose(probability, 0.5, 10 * np.eye(5, dtype=np.float32), np.zeros((1, 5), np.float32), 3) == [3, 1, 4]


def test_of_equally_uncertain_pictures_the_farthest_from_known_and_chosen_ones_comes_first() -> None:
    at = np.array([[1.0], [4.0], [8.0], [7.5]], np.float32)
    assert choose(np.full(4, 0.9), 0.5, at, np.zeros((1, 1), np.float32), 3) == [2, 1, 0]


def test_near_duplicates_of_known_and_chosen_pictures_are_left_out() -> None:
    at = np.array([[NEAR / 2], [5.0], [5.0 + NEAR / 2], [9.0]], np.float32)
    found = choose(np.full(4, 0.5), 0.5, at, np.zeros((1, 1), np.float32), 4)
    assert len(found) == 2
    assert 3 in found
    assert len({1, 2} & set(found)) == 1
