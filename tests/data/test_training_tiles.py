"""Tiles to train on: their labels, names and groups, and that a picture is decoded once."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import picture
from PIL import Image

from leanet.cli import main
from leanet.config import DataConfig
from leanet.data import cache
from leanet.data.cache import build_cache
from leanet.data.check import check_dataset
from leanet.data.dataset import Dataset, group_copies
from leanet.data.decode import decode, decode_bytes, resize, size_of
from leanet.data.duplicates import duplicates
from leanet.data.masks import mask_pixels
from leanet.data.registry import list_images
from leanet.data.splits import make_folds
from leanet.data.tiles import part_name, part_of
from leanet.data.training_tiles import LEAST_SHARE
from leanet.errors import UserError
from leanet.results.localise import read_mask

TILED = DataConfig(tile=32, overlap=0.25)
SIZE = 80, 104


def blobs(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """A mask with these boxes: left, top, width and height."""
    mask = np.zeros(SIZE, np.uint8)
    for left, top, width, height in boxes:
        mask[top : top + height, left : left + width] = 255
    return mask


MASKS = [blobs((40, 30, 12, 9)), blobs((3, 3, 2, 1)), blobs((0, 0, 30, 30), (99, 75, 1, 1)), blobs((50, 0, 2, 80))]
"""A blob between tiles; a speck; a large blob and a speck; a crack."""


@pytest.fixture
def tall(tmp_path: Path) -> Path:
    """Four normal and four anomalous pictures in the MVTec AD layout."""
    root = tmp_path / "set"
    for number in range(4):
        for place in (f"train/good/{number}.png", f"test/dent/{number}.png"):
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(*SIZE, seed=number + 10 * ("dent" in place))).save(root / place)
        mask = root / "ground_truth" / "dent" / f"{number}_mask.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(MASKS[number]).save(mask)
    return root


@pytest.fixture
def tiles(tall: Path) -> Dataset:
    return list_images(tall, TILED, 0)


def test_names_of_parts_can_be_read_again() -> None:
    part = (512, 0, 256, 256)
    assert part_name("a b/DSC_1.jpg", part) == "a b/DSC_1.jpg#xywh=512,0,256,256"
    for file in ("a.jpg", "s3://b/a.jpg", "export.json#12#rust", "a#b.png", "a.png#xywh=1,2,3"):
        assert part_of(part_name(file, part)) == (file, part)
        assert part_of(file) == (file, None)


def test_a_tile_has_the_label_that_the_mask_gives_it(tall: Path, tiles: Dataset) -> None:
    found = {sample.file: sample for sample in tiles.samples}
    side, left_out = 32, 0
    tops, lefts = (0, 24, 48), (0, 24, 48, 72)
    for number, mask in enumerate(MASKS):
        counts = {(x, y): int((mask[y : y + side, x : x + side] > 0).sum()) for x in lefts for y in tops}
        enough = min(LEAST_SHARE * side * side, max(counts.values()))
        for (x, y), count in counts.items():
            sample = found.get(f"test/dent/{number}.png#xywh={x},{y},32,32")
            if 0 < count < enough:
                assert sample is None
                left_out += 1
                continue
            assert sample is not None
            assert (sample.label, sample.kind) == ((1, "dent") if count else (0, ""))
            assert sample.group == f"test/dent/{number}.png"
            assert sample.part == (x, y, 32, 32)
            if sample.mask is not None:
                np.testing.assert_array_equal(
                    mask_pixels(str(tall / sample.mask)), mask[y : y + 32, x : x + 32] > 0
                )
                assert read_mask(str(tall / sample.mask), 64, picture=(32, 32)).any()
            assert bool(sample.mask) == bool(count)
    normal = [sample for sample in found.values() if "good" in sample.file]
    assert len(normal) == 4 * 12
    assert not any(sample.label for sample in normal)
    assert len(found) == 8 * 12 - left_out
    labels = [sample.label for sample in tiles.samples]
    assert labels == sorted(labels)
    assert f"--tile 32: 8 pictures as {len(found)} tiles, {sum(labels)} of them anomalous" in tiles.notes
    assert any(f"{left_out} tiles" in note for note in tiles.notes)


def test_a_speck_that_no_tile_shows_well_is_an_anomaly_where_it_shows_best(tiles: Dataset) -> None:
    of_speck = [sample for sample in tiles.of_class(1) if sample.file.startswith("test/dent/1")]
    assert [sample.part for sample in of_speck] == [(0, 0, 32, 32)]
    beside_large = [s for s in tiles.samples if s.file == "test/dent/2.png#xywh=72,48,32,32"]
    assert not beside_large  # one pixel is too little, and too much to be normal


def test_tiles_of_a_picture_never_stand_in_training_and_test_together(tall: Path, tiles: Dataset) -> None:
    for fold in make_folds(tiles, 2, 0):
        sides = [{name.partition("#")[0] for name in side} for side in (fold.train, fold.test)]
        assert not sides[0] & sides[1]
        assert len(sides[0] | sides[1]) == 8
    groups = tall / "groups.csv"
    groups.write_text("file,group\ntrain/good/0.png,one\ntest/dent/0.png,one\n")
    grouped = list_images(tall, DataConfig(tile=32, groups=groups), 0)
    of_one = {sample.file.partition("#")[0] for sample in grouped.samples if sample.group == "one"}
    assert of_one == {"train/good/0.png", "test/dent/0.png"}


def test_the_most_of_a_class_are_drawn_from_all_pictures(tall: Path) -> None:
    drawn = [list_images(tall, DataConfig(tile=32, max_per_class=12), seed) for seed in (0, 0, 1)]
    assert [len(drawn[0].of_class(label)) for label in (0, 1)] == [12, 12]
    assert len({sample.group for sample in drawn[0].of_class(0)}) > 4
    assert drawn[0].samples == drawn[1].samples != drawn[2].samples


def test_each_picture_is_decoded_once(
    tall: Path, tiles: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = list[str]()

    def counted(data: bytes, name: Path) -> Any:
        decoded.append(name.name)
        return decode_bytes(data, name)

    monkeypatch.setattr(cache, "decode_bytes", counted)
    done = list[int]()
    made = build_cache(tiles, 64, tmp_path / "cache", on_progress=done.append)
    assert len(decoded) == 8
    assert (done[-1], done) == (len(tiles.samples), sorted(done))
    for row in range(0, len(tiles.samples), 7):
        sample = tiles.samples[row]
        assert sample.part is not None
        left, top, _, _ = sample.part
        shown = decode(tall / sample.file.partition("#")[0])[top : top + 32, left : left + 32]
        np.testing.assert_array_equal(made.pixels[row], resize(shown, 64))
    assert {(info.width, info.height) for info in made.infos} == {(32, 32)}
    assert build_cache(tiles, 64, tmp_path / "cache").sha256 == made.sha256
    assert len(decoded) == 8
    other = list_images(tall, DataConfig(tile=32, overlap=0.5), 0)
    assert build_cache(other, 64, tmp_path / "cache").path != made.path


def test_blank_tiles_are_no_copies_but_tiles_of_copied_pictures_are(tall: Path, tmp_path: Path) -> None:
    for name in ("0", "1"):  # blank, and not the same
        blank = np.zeros((*SIZE, 3), np.uint8)
        blank[-1, -1] = int(name)
        Image.fromarray(blank).save(tall / "train" / "good" / f"{name}.png")
    (tall / "train/good/2.png").write_bytes((tall / "train/good/3.png").read_bytes())
    dataset = list_images(tall, TILED, 0)
    infos = build_cache(dataset, 64, tmp_path / "cache").infos
    same = duplicates(infos, [sample.label for sample in dataset.samples])
    assert not same.across
    assert {tuple(file.partition("#")[0] for file in files) for files in same.within} == {
        ("train/good/2.png", "train/good/3.png")
    }
    grouped, _ = group_copies(dataset, same.within)
    assert len({sample.group for sample in grouped.samples}) == 7


def test_masks_of_a_label_studio_export(tmp_path: Path) -> None:
    tasks = []
    for number, boxed in enumerate((False, False, True, True)):
        Image.fromarray(picture(*SIZE, seed=number)).save(tmp_path / f"{number}.png")
        value = {"x": 0.0, "y": 0.0, "width": 20.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["dent"]}
        region = {"type": "rectanglelabels", "original_width": SIZE[1], "original_height": SIZE[0], "value": value}
        answer = {"result": [{"id": "r", **region}] if boxed else []}
        tasks.append({"id": number, "data": {"image": f"{number}.png"}, "annotations": [answer]})
    export = tmp_path / "export.json"
    export.write_text(json.dumps(tasks))
    dataset = list_images(export, DataConfig(tile=32, overlap=0), 0)
    (first, *others) = [sample for sample in dataset.of_class(1) if sample.file.startswith("2.png")]
    assert not others
    assert (first.file, first.kind) == ("2.png#xywh=0,0,32,32", "dent")
    assert first.mask == "export.json#2#xywh=0,0,32,32"
    mask = mask_pixels(str(tmp_path / first.mask))
    assert mask.shape == (32, 32)
    assert mask[:20, :21].all()
    assert mask.sum() == 20 * 21


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("no mask", r"test/dent/3.png: anomalous, but without a mask.* leave out --tile"),
        ("two without", r"test/dent/2.png: .* \(and 1 more\)"),
        ("small", r"train/good/3.png: 104 x 31 pixels, smaller than a tile of 32; give a smaller --tile"),
        ("other size", r"3_mask.png: the mask has 52 x 40 pixels, its image test/dent/3.png 104 x 80"),
        ("broken", r"3_mask.png: cannot read the mask of test/dent/3.png"),
    ],
)
def test_what_makes_no_tiles_is_refused_in_a_line_that_names_it(
    tall: Path, spoil: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tall / "ground_truth" / "dent" / "3_mask.png"
    if spoil in ("no mask", "two without"):
        mask.unlink()
        if spoil == "two without":
            mask.with_name("2_mask.png").unlink()
    elif spoil == "small":
        Image.fromarray(picture(31, 104)).save(tall / "train" / "good" / "3.png")
    elif spoil == "other size":
        Image.fromarray(MASKS[3][::2, ::2]).save(mask)
    else:
        mask.write_bytes(b"no mask")
    with pytest.raises(UserError, match=said):
        list_images(tall, TILED, 0)
    assert main(["check", str(tall), "--tile", "32", "--no-estimate"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_picture_with_an_empty_mask_is_left_out_and_named(tall: Path) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tall / "ground_truth" / "dent" / "3_mask.png")
    found = list_images(tall, TILED, 0)
    assert not any("dent/3" in sample.file for sample in found.samples)
    assert "left out, anomalous with an empty mask: test/dent/3.png" in found.notes


def test_options_that_do_not_go_together(tall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, said in (
        (["--overlap", "0.5"], "--overlap 0.5: is an option of --tile"),
        (["--tile", "31"], "--tile 31: expected at least 32"),
        (["--tile", "32", "--overlap", "0.8"], "--overlap 0.8: expected a share from 0 to 0.75"),
        (["--tile", "32", "--white-balance", "border"], "--tile 32: with --white-balance"),
    ):
        assert main(["check", str(tall), *given]) == 2
        assert said in capsys.readouterr().err


def test_check_counts_tiles_and_an_unreadable_picture_once_for_each(
    tall: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tall), "--tile", "32", "--n-splits", "2", "--no-estimate"]) == 0
    said = capsys.readouterr().out
    assert "8 pictures as" in said
    assert "sizes: smallest 32 x 32" in said
    good = tall / "train" / "good"
    (good / "2.png").write_bytes(b"no picture")
    (good / "3.png").write_bytes((good / "3.png").read_bytes()[:-500])
    report = check_dataset(list_images(tall, TILED, 0), 2, skip_unreadable=True)
    assert Counter(file.partition("#")[0] for file, _ in report.unreadable) == {
        "train/good/2.png": 1,  # its size is unknown
        "train/good/3.png": 12,
    }
    dataset = list_images(tall, TILED, 0)
    made = build_cache(dataset, 64, tmp_path / "cache", skip_unreadable=True)
    assert len(made.infos) + 13 == len(dataset.samples)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
def test_the_size_in_the_header_is_that_of_the_decoded_picture(tmp_path: Path, suffix: str) -> None:
    for orientation in (1, 3, 6, 8):
        exif = Image.Exif()
        exif[274] = orientation
        options: dict[str, Any] = {} if suffix == "bmp" else {"exif": exif}
        Image.fromarray(picture(20, 33)).save(tmp_path / f"a.{suffix}", **options)
        data = (tmp_path / f"a.{suffix}").read_bytes()
        assert size_of(data) == decode(tmp_path / f"a.{suffix}").shape[:2]
        assert size_of(data, 600) is None
    assert size_of(b"") is size_of(b"no picture") is None


def test_every_pixel_of_a_normal_picture_is_in_a_tile(tiles: Dataset) -> None:
    seen = np.zeros(SIZE, bool)
    for sample in tiles.samples:
        if sample.file.startswith("train/good/0") and sample.part:
            left, top, width, height = sample.part
            seen[top : top + height, left : left + width] = True
    assert seen.all()
    for one, other in itertools.pairwise(sorted({s.part[0] for s in tiles.samples if s.part})):
        assert other - one <= 24
