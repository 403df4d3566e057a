"""Manifests of the authors' data sets, from folders of the shape that their downloads have."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from leanet.cli import main
from leanet.config import DataConfig
from leanet.data.downloads import HEADER, arrange_download
from leanet.data.registry import list_images
from leanet.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def made(root: Path, files: Iterable[str]) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")
    return root


def manifest(name: str, download: Path) -> list[tuple[str, ...]]:
    """The rows of the manifest beside a download: names relative to it, label, kind, group, split and mask."""
    before = {path: path.read_bytes() for path in download.rglob("*") if path.is_file()}
    out = download.with_name("manifest.csv")
    arrange_download(name, download, out)
    assert {path: path.read_bytes() for path in download.rglob("*") if path.is_file()} == before
    dataset = list_images(out, DataConfig(), 0)
    with out.open(newline="") as file:
        splits = {row["file"]: row["split"] for row in csv.DictReader(file)}
    start = f"{download.name}/"
    assert all(sample.file.startswith(start) and sample.read() == b"picture" for sample in dataset.samples)
    return [
        (
            s.file.removeprefix(start),
            str(s.label),
            s.kind,
            "" if s.group == s.file else s.group,
            splits[s.file],
            (s.mask or "").removeprefix(start),
        )
        for s in dataset.samples
    ]


GITHUB = (
    "raw/color/Potato___healthy/00fc2ee5___RS_HL 1864.JPG",
    "raw/color/Potato___healthy/03da9931___RS_HL 1830.JPG",
    "raw/color/Potato___Early_blight/001187a0___RS_Early.B 7178.JPG",
    "raw/color/Potato___Early_blight/scan.jpg",
    "raw/color/Potato___Late_blight/0051e5e8___RS_LB 2857.JPG",
    "raw/color/Tomato___healthy/1___RS_HL 1.JPG",
    "raw/grayscale/Potato___healthy/00fc2ee5___RS_HL 1864.JPG",
    "raw/grayscale/Potato___Late_blight/0051e5e8___RS_LB 2857.JPG",
)


def test_plantvillage_by_crop_with_the_published_leaves(tmp_path: Path) -> None:
    download = made(tmp_path / "PlantVillage-Dataset", GITHUB)
    color = "raw/color/Potato___"
    expected = [
        (f"{color}healthy/00fc2ee5___RS_HL 1864.JPG", "0", "", "RS_HL 93", "", ""),
        (f"{color}healthy/03da9931___RS_HL 1830.JPG", "0", "", "RS_HL 91", "", ""),
        (f"{color}Early_blight/001187a0___RS_Early.B 7178.JPG", "1", "Early_blight", "RS_Early.B 358", "", ""),
        (f"{color}Early_blight/scan.jpg", "1", "Early_blight", "", "", ""),
        (f"{color}Late_blight/0051e5e8___RS_LB 2857.JPG", "1", "Late_blight", "RS_LB 142", "", ""),
    ]
    assert manifest("plantvillage/potato", download) == expected
    leaves = {"rs_hl 1864": ["Potato___healthy:::7.0", "Tomato___healthy:::9.0"], "rs_lb 2857": ["Leaf:::3.0"]}
    (download / "leaf-map.json").write_text(json.dumps(leaves))
    groups = [row[3] for row in manifest("PlantVillage/Potato", download)]
    assert groups == ["Potato___healthy 7.0", "RS_HL 91", "RS_Early.B 358", "", "Leaf 3.0"]
    (download / "leaf-map.json").write_text("[]")
    with pytest.raises(UserError, match=r"leaf-map\.json: not the leaf map of PlantVillage"):
        manifest("plantvillage/Potato", download)


def test_other_copies_of_plantvillage(tmp_path: Path) -> None:
    kaggle = ("P/Pepper__bell___healthy/a.JPG", "P/Pepper__bell___Bacterial_spot/b.JPG", "P/Tomato_healthy/c.JPG")
    download = made(tmp_path / "kaggle", (*kaggle, "P/Tomato__Target_Spot/d.JPG", "P/P/Tomato_healthy/c.JPG"))
    assert [row[:3] for row in manifest("plantvillage/Pepper", download)] == [
        ("P/Pepper__bell___healthy/a.JPG", "0", ""),
        ("P/Pepper__bell___Bacterial_spot/b.JPG", "1", "Bacterial_spot"),
    ]
    assert [row[:3] for row in manifest("plantvillage/Tomato", download)] == [
        ("P/Tomato_healthy/c.JPG", "0", ""),
        ("P/Tomato__Target_Spot/d.JPG", "1", "Target_Spot"),
    ]
    arranged = made(tmp_path / "arranged", ("Negative/1___RS_HL 1.JPG", "Positive/2___RS_Early.B 40.JPG"))
    assert [row[1:4] for row in manifest("plantvillage/Potato", arranged)] == [
        ("0", "", "RS_HL 0"),
        ("1", "Early.B", "RS_Early.B 2"),
    ]


def test_mvtec_by_category(tmp_path: Path) -> None:
    leather = ("train/good/000.png", "test/good/000.png", "test/cut/000.png", "ground_truth/cut/000_mask.png")
    download = made(tmp_path / "mvtec", (*(f"leather/{file}" for file in leather), "pill/train/good/0.png"))
    expected = [
        ("leather/train/good/000.png", "0", "", "", "train", ""),
        ("leather/test/good/000.png", "0", "", "", "test", ""),
        ("leather/test/cut/000.png", "1", "cut", "", "test", "leather/ground_truth/cut/000_mask.png"),
    ]
    assert sorted(manifest("mvtec/Leather", download)) == sorted(expected)
    assert len(manifest("mvtec", download / "leather")) == 3
    with pytest.raises(UserError, match=r"no folder wood/ of a category.*It has leather, pill\."):
        manifest("mvtec/wood", download)


def test_concrete_dr2_and_cloud(tmp_path: Path) -> None:
    concrete = made(tmp_path / "concrete", ("Concrete/Negative/1.jpg", "Concrete/Positive/1.jpg"))
    assert [row[:2] for row in manifest("concrete", concrete)] == [
        ("Concrete/Negative/1.jpg", "0"),
        ("Concrete/Positive/1.jpg", "1"),
    ]
    retina = made(tmp_path / "dr2", ("negative/IM1.TIF", "positive/IM2.TIF"))
    assert [row[1:] for row in manifest("dr2", retina)] == [("0", "", "", "", ""), ("1", "", "", "", "")]
    cloud = made(tmp_path / "cloud", ("noncloud/1.jpg", "cloud/2.jpg"))
    assert [row[:2] for row in manifest("cloud", cloud)] == [("noncloud/1.jpg", "0"), ("cloud/2.jpg", "1")]


def test_hurricane_lists_a_picture_once_and_neighbors_together(tmp_path: Path) -> None:
    download = made(
        tmp_path / "hurricane",
        (
            "train_another/no_damage/-95.061275_29.831535.jpeg",
            "train_another/damage/-95.0612_29.8311.jpeg",
            "test/damage/-95.0612_29.8311.jpeg",
            "test/no_damage/-93.99_30.01.jpeg",
        ),
    )
    assert sorted(manifest("hurricane", download)) == [
        ("test/damage/-95.0612_29.8311.jpeg", "1", "", "-95.06 29.83", "test", ""),
        ("test/no_damage/-93.99_30.01.jpeg", "0", "", "-93.99 30.01", "test", ""),
        ("train_another/no_damage/-95.061275_29.831535.jpeg", "0", "", "-95.06 29.83", "train_another", ""),
    ]
    (download / "test/damage/-95.0612_29.8311.jpeg").write_bytes(b"another day")
    rows = arrange_download("hurricane", download, tmp_path / "again.csv")
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("name", "out", "text"),
    [
        (
            "retina",
            "m.csv",
            "retina: no such data set. Choose from dr2, plantvillage, mvtec, concrete, cloud, hurr",
        ),
        ("plantvillage", "m.csv", "plantvillage: name a crop too"),
        ("plantvillage/T", "m.csv", "has several such crops: Tea, Tomato. Name one"),
        ("plantvillage/Potato", "m.csv", "no normal pictures in the folders of plantvillage/Potato"),
        ("concrete/wall", "m.csv", "concrete/wall: this set has no parts. Leave out /wall"),
        ("hurricane", "m.txt", r"--out .*m\.txt: expected the name of a \.csv file"),
        ("plantvillage/Tomato", "mine.csv", r"mine\.csv: exists, and is not an earlier output of this command"),
    ],
)
def test_what_is_refused(
    name: str, out: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ("Tomato___healthy/1.jpg", "Tomato___rust/1.jpg", "Tea___healthy/1.jpg", "Tea___rust/1.jpg")
    made(tmp_path / "download", kinds)
    (tmp_path / "mine.csv").write_text("file,label\n")
    assert main(["arrange", name, str(tmp_path / "download"), "--out", str(tmp_path / out)]) == 2
    assert re.search(text, capsys.readouterr().err)
    assert not (tmp_path / "m.csv").exists()
    assert (tmp_path / "mine.csv").read_text() == "file,label\n"


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    download, out = made(tmp_path / "download", GITHUB), tmp_path / "potato.csv"
    for _ in range(2):  # the second time over its own manifest
        assert main(["arrange", "plantvillage/Potato", str(download), "--out", str(out)]) == 0
    assert (
        "2 normal, 3 anomalous\nkinds: Early_blight 2, Late_blight 1\ngroups: 4, with 4" in capsys.readouterr().out
    )
    assert out.read_text().splitlines()[0] == ",".join(HEADER)


@pytest.mark.parametrize(
    ("name", "folder", "counts"),
    [
        ("plantvillage/Potato", "plantvillage_potato", (152, 2000)),
        ("hurricane", "hurricane", (800, 800)),
        ("mvtec", "leather_sample", (8, 20)),
    ],
)
def test_the_real_sets(name: str, folder: str, counts: tuple[int, int], tmp_path: Path) -> None:
    if not (SHARED / folder).is_dir():
        pytest.skip(f"the shared real images ({folder}) are not here")
    rows = arrange_download(name, SHARED / folder, tmp_path / "m.csv")
    assert tuple(sum(row.label == label for row in rows) for label in (0, 1)) == counts
    groups = SHARED / folder / "groups.csv"
    if groups.exists():
        with groups.open(newline="") as file:
            known = {row["file"]: row["group"] for row in csv.DictReader(file)}
        assert {row.file.relative_to(SHARED / folder).as_posix(): row.group for row in rows} == known
