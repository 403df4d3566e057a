"""Label Studio's export as a data set: choices, regions as masks, where the pictures lie, what is refused."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import picture
from PIL import Image
from skimage.draw import ellipse, polygon2mask

from leanet.config import DataConfig
from leanet.data.cache import build_cache
from leanet.data.label_studio import decode_brush
from leanet.data.masks import mask_pixels, refuse_other_sizes
from leanet.data.registry import list_images, open_source
from leanet.errors import UserError

WIDTH, HEIGHT = 40, 20
NAMES = ("a.png", "b.png", "c.png", "d.png")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with four pictures of 40 x 20 pixels."""
    for seed, name in enumerate(NAMES):
        Image.fromarray(picture(HEIGHT, WIDTH, seed)).save(tmp_path / name)
    return tmp_path


def choice(text: str, name: str = "state") -> dict[str, Any]:
    return {"type": "choices", "from_name": name, "to_name": "image", "value": {"choices": [text]}}


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"type": kind, "from_name": "place", "to_name": "image", **size, "value": {**value, kind: [label]}}


def box(label: str, x: float, y: float, w: float, h: float, turn: float = 0) -> dict[str, Any]:
    return region("rectanglelabels", label, x=x, y=y, width=w, height=h, rotation=turn)


def task(number: int, image: str, *answers: list[dict[str, Any]], **data: Any) -> dict[str, Any]:
    annotations = [{"id": i, "was_cancelled": False, "result": answer} for i, answer in enumerate(answers)]
    return {"id": number, "data": {"image": image, **data}, "annotations": annotations, "predictions": []}


def exported(home: Path, tasks: object) -> Path:
    path = home / "labels.json"
    path.write_text(json.dumps(tasks))
    return path


def encoded(values: NDArray[np.uint8], repeat: bool = True) -> list[int]:
    """Label Studio's code of values: words of 8 bits, lengths of 3, 4, 8 or 16 bits."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in (3, 4, 8, 16))
    if repeat:
        for value, run in groupby(values.tolist()):
            length = len(list(run))
            which = next(i for i, width in enumerate((3, 4, 8, 16)) if length <= 2**width)
            bits += f"1{which:02b}{length - 1:0{(3, 4, 8, 16)[which]}b}{value:08b}"
    else:
        bits += f"011{len(values) - 1:016b}" + "".join(f"{value:08b}" for value in values)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


@pytest.mark.parametrize("repeat", [True, False])
def test_a_brush_is_decoded(repeat: bool) -> None:
    values = np.random.default_rng(0).integers(0, 2, 400).astype(np.uint8).repeat(4) * 255
    code = encoded(values, repeat)
    assert code[4:6] == [57, 27]  # as in exports of Label Studio 1.x
    np.testing.assert_array_equal(decode_brush(bytes(code), len(values)), values)
    for damaged, count in ((code[:-2], len(values)), (code, len(values) + 1), (code[:3], 1)):
        with pytest.raises(ValueError, match="brush"):
            decode_brush(bytes(damaged), count)


def test_choices_for_whole_images(home: Path) -> None:
    tasks = [
        task(1, "/data/upload/3/12ab34cd-a.png", [choice("Healthy"), choice("canon", "camera")], plant="p1"),
        task(2, "/data/local-files/?d=field/b.png", [choice("rust")], plant="p2"),
        task(3, (home / "c.png").as_uri(), [choice("scab")]),
        task(4, "s3://bucket/d.png", [choice("healthy")]),
        task(5, "e.png"),
        task(6, "http://localhost:8080/data/upload/3/99ab34cd-d.png", [choice("rust")]),
        task(7, "http://localhost:8080/data/upload/3/f.png", [choice("rust")]),
    ]
    config = DataConfig(normal=("healthy",), columns=("label=state", "group=plant"))
    dataset = list_images(exported(home, tasks), config, 0)
    found = [(s.file, s.label, s.kind, s.group) for s in dataset.samples]
    url = (home / "c.png").as_uri()
    assert found == [
        ("a.png", 0, "", "p1"),
        ("s3://bucket/d.png", 0, "", "s3://bucket/d.png"),
        ("b.png", 1, "rust", "p2"),
        (url, 1, "scab", url),
        ("d.png", 1, "rust", "d.png"),
        ("http://localhost:8080/data/upload/3/f.png", 1, "rust", "http://localhost:8080/data/upload/3/f.png"),
    ]
    assert dataset.samples[0].facts["camera"] == "canon"
    assert dataset.notes == (
        "left out, without a label: 1 of 7 tasks",
        f"not found in {home} or below, or several: 1 of 6 images, such as /data/upload/3/f.png",
    )
    with pytest.raises(UserError, match=r"several choices for an image: state, camera\. Name"):
        list_images(home / "labels.json", DataConfig(normal=("healthy",)), 0)
    with pytest.raises(UserError, match=r"has no such choices\. It has state, camera"):
        list_images(home / "labels.json", DataConfig(columns=("label=x",)), 0)


def test_pictures_may_lie_anywhere_below_the_export_unless_two_have_the_name(home: Path) -> None:
    for folder, name in (("pictures/healthy", "g.png"), ("pictures/sick", "h.png"), ("pictures/old", "h.png")):
        (home / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(home / folder / name)
    for folder in ("ground_truth", ".trash", "maps"):
        (home / folder).mkdir()
        Image.new("RGB", (8, 8)).save(home / folder / "g.png")
    (home / "maps" / "g.npy").touch()
    tasks = [
        task(1, "/data/upload/3/12ab34cd-g.png", [choice("healthy")]),
        task(2, "/data/upload/3/12ab34cd-h.png", [choice("rust")]),
    ]
    dataset = list_images(exported(home, tasks), DataConfig(normal=("healthy",)), 0)
    assert [s.file for s in dataset.samples] == ["pictures/healthy/g.png", "/data/upload/3/12ab34cd-h.png"]
    assert dataset.notes == (
        f"not found in {home} or below, or several: 1 of 2 images, such as /data/upload/3/12ab34cd-h.png",
    )


def test_an_export_in_a_bucket_names_its_pictures_there() -> None:
    tasks = [task(1, "a.png", [choice("healthy")]), task(2, "/data/upload/3/12ab34cd-b.png", [choice("rust")])]
    fsspec.filesystem("memory").pipe("/studio/labels.json", json.dumps(tasks).encode())
    dataset = list_images(Path("memory://studio/labels.json"), DataConfig(normal=("healthy",)), 0)
    assert [s.file for s in dataset.samples] == ["a.png", "/data/upload/3/12ab34cd-b.png"]
    assert dataset.notes == ()


def test_regions_are_anomalies_with_masks(home: Path) -> None:
    brush = np.zeros((HEIGHT, WIDTH), np.uint8)
    brush[3:7, 10:30] = 255
    tasks = [
        task(1, "a.png", []),
        task(2, "b.png", [box("leaf", 0, 0, 100, 100), box("rust", 25, 50, 50, 25)]),
        task(3, "c.png", [region("brushlabels", "scab", format="rle", rle=encoded(brush.ravel().repeat(4)))]),
        task(4, "d.png", [box("leaf", 0, 0, 100, 100)]),
    ]
    dataset = list_images(exported(home, tasks), DataConfig(normal=("leaf",)), 0)
    assert [(s.file, s.label, s.kind, s.mask) for s in dataset.samples] == [
        ("a.png", 0, "", None),
        ("d.png", 0, "", None),
        ("b.png", 1, "rust", "labels.json#2#rust"),
        ("c.png", 1, "scab", "labels.json#3"),
    ]
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[10:15, 10:30] = True  # 25 to 75 % of 40 columns, 50 to 75 % of 20 rows
    np.testing.assert_array_equal(mask_pixels(f"{home}/labels.json#2#rust"), expected)
    np.testing.assert_array_equal(mask_pixels(f"{home}/labels.json#3"), brush > 0)
    infos = build_cache(dataset, 64, home / "cache").infos
    refuse_other_sizes(dataset, {info.file: (info.width, info.height) for info in infos})
    with pytest.raises(UserError, match=r"labels\.json#3: the mask has 40 x 20 pixels, its image c\.png 20 x 40"):
        refuse_other_sizes(dataset, {"c.png": (20, 40)})
    for gone in ("labels.json#9", "labels.json#1", "none.json"):
        with pytest.raises(OSError, match=gone.replace("#", ".")):
            mask_pixels(f"{home}/{gone}" + "#1" * ("#" not in gone))


def test_a_shape_and_its_labels_may_be_two_results(home: Path) -> None:
    shape = {**box("", 25, 50, 50, 25), "type": "rectangle", "id": "r1"}
    labels = {**shape, "type": "labels", "value": {**shape["value"], "labels": ["Leaf"]}}
    remark = {"type": "choices", "from_name": "sure", "id": "r1", "value": {**shape["value"], "choices": ["no"]}}
    tasks = [task(1, "a.png", [shape, labels, remark]), task(2, "b.png", [{**shape, "id": "r2"}])]
    dataset = list_images(exported(home, tasks), DataConfig(normal=("leaf",)), 0)
    assert [(s.file, s.label, s.mask) for s in dataset.samples] == [
        ("a.png", 0, None),
        ("b.png", 1, "labels.json#2"),
    ]


def test_shapes_agree_with_scikit_image(home: Path) -> None:
    corners = [(10.0, 20.0), (60.0, 10.0), (40.0, 90.0)]
    shapes = {
        1: region("polygonlabels", "rust", points=[list(corner) for corner in corners]),
        2: region("ellipselabels", "rust", x=50, y=50, radiusX=30, radiusY=40, rotation=0),
        3: box("rust", 50, 0, 25, 50, 90),  # turned about its corner: 10 px wide, 10 px high, to its left
    }
    exported(home, [task(number, NAMES[number], [shape]) for number, shape in shapes.items()])
    rows, columns = ellipse(9.5, 19.5, 8, 12, shape=(HEIGHT, WIDTH))  # type: ignore[no-untyped-call]
    oval = np.zeros((HEIGHT, WIDTH), dtype=bool)
    oval[rows, columns] = True
    turned = np.zeros((HEIGHT, WIDTH), dtype=bool)
    turned[0:10, 10:20] = True
    pixels = [(y * HEIGHT / 100, x * WIDTH / 100) for x, y in corners]
    inside = polygon2mask((HEIGHT, WIDTH), pixels)  # type: ignore[no-untyped-call]
    for number, expected in ((1, inside), (2, oval), (3, turned)):
        mask = mask_pixels(f"{home}/labels.json#{number}")
        either = (mask | expected).sum()
        assert (mask & expected).sum() > 0.8 * either, number


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ({"images": [], "annotations": []}, "not a list of tasks. In Label Studio, export an image project"),
        ([{"id": 1, "image": "a.png", "choice": "rust"}], "not an export with annotations.*not JSON-MIN"),
        ([task(1, "a.png", [region("keypointlabels", "x", x=1, y=1)])], "task 1 has keypointlabels, another type"),
        ([task(1, "a.png", [region("labels", "x", start=0, end=1)])], "task 1 has labels, another type"),
        ([{**task(1, "", [choice("positive")]), "data": {"text": "hi"}}], "task 1 has no image, but text"),
        ([task(1, "a.png", [choice("positive")], [choice("normal")])], "task 1 has two labels for one picture"),
        ([task(1, "a.png", [choice("normal"), box("rust", 0, 0, 9, 9)])], "task 1 has two labels for one picture"),
        ([task(1, "a.png", [choice("positive")]), task(2, "a.png", [choice("ok")])], "a.png has two labels, from"),
        ([task(1, "a.png", [choice("rusty")])], "task 1: unknown label 'rusty'"),
        ([task(1, "a.png")], "no task has a label"),
        ([task(1, "a.png", [choice("ok")])], "no anomalous images"),
        ([], "not a list of tasks"),
    ],
)
def test_what_is_refused(home: Path, tasks: object, text: str) -> None:
    with pytest.raises(UserError, match=rf"labels\.json: .*{text}"):
        list_images(exported(home, tasks), DataConfig(), 0)


def test_canceled_annotations_do_not_count_and_normal_images_suffice_for_fit(home: Path) -> None:
    tasks = [task(1, "a.png", [choice("positive")], [choice("ok")]), task(2, "b.png", [choice("ok")])]
    tasks[0]["annotations"][0]["was_cancelled"] = True
    source = open_source(exported(home, tasks), DataConfig())
    assert not source.has_anomalies()
    assert [s.file for s in source.scan_normals().samples] == ["a.png", "b.png"]
    (home / "labels.json").write_text("{")
    with pytest.raises(UserError, match=r"labels\.json: not a JSON file"):
        source.scan()
