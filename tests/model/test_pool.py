"""Pools of pictures: every way to name them, one answer for each, and the same answers after any interruption."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import made
from PIL import Image

from leanet.cli import main, parse
from leanet.model.load import load
from leanet.model.model import Model, save
from leanet.model.pool import open_pool
from leanet.model.predict_files import BATCH

PICTURES = 5
Predict = Callable[..., Path]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with five pictures in `photos`, a broken one among them."""
    generator = np.random.default_rng(0)
    (tmp_path / "photos" / "far").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "far/c.png", "far/d.png"):
        pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "e.png").write_bytes((tmp_path / "photos" / "a.png").read_bytes()[:600])
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMES = ["a.png", "b.jpg", "far/c.png", "far/d.png", "e.png"]


@pytest.fixture
def predict(tiny_model: Path, place: Path) -> Predict:
    """Predict a manifest into `answers` with this exit code."""

    def run(manifest: str, *options: str, code: int = 1, out: str = "answers") -> Path:
        arguments = ["predict", str(tiny_model), "--manifest", manifest, "--out", out, *options]
        assert main(arguments) == code
        return place / out

    return run


def table(path: str, rows: Sequence[str | None]) -> str:
    """Write a Parquet manifest."""
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table({"file": pa.array(rows, pa.string())}), path)
    return path


def shard(path: Path, *members: tuple[str, bytes]) -> Path:
    """Write a tar shard."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def parts(out: Path) -> dict[str, bytes]:
    """The files of answers."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*.parquet"))}


def answers(out: Path) -> list[dict[str, Any]]:
    """All answers in order."""
    return [row for path in sorted(out.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def by_name(out: Path) -> dict[str, tuple[str, ...]]:
    """Each picture's answer by the last part of its name; numbers depend on a batch in their last digits."""
    found = answers(out)
    names = [row.pop("file").partition("::")[0].rpartition("/")[2] for row in found]
    cells = ([f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row.values()] for row in found)
    return dict(zip(names, map(tuple, cells), strict=True))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_answers_are_those_of_predict(predict: Predict, tiny_model: Path, place: Path) -> None:
    out = predict(table("photos/pool.parquet", NAMES), "--shard-rows", "2")
    assert list(parts(out)) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    found = answers(out)
    assert [row["file"] for row in found] == NAMES
    assert main(["predict", str(tiny_model), *(f"photos/{name}" for name in NAMES), "--out", "p.csv"]) == 1
    with (place / "p.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    assert list(found[0]) == list(expected[0])
    for row, other in zip(found, expected, strict=True):
        assert (row["decision"] or "", row["error"] or "") == (other["decision"], other["error"])
        assert " ".join(map(str, row["box"] or [])) == other["box"]
        for name in ("probability", "adn_probability", "caan_probability", "mean_delta_e", "peak_delta_e"):
            assert ("" if row[name] is None else f"{row[name]:.6g}") == other[name]
    assert "truncated" in found[-1]["error"]


def test_every_way_to_name_pictures_gives_the_same_answers(predict: Predict, place: Path) -> None:
    expected = by_name(predict(table("photos/pool.parquet", NAMES), out="1"))
    assert len(expected) == PICTURES
    content = {name: (place / "photos" / name).read_bytes() for name in NAMES}
    shard(place / "shards" / "0.tar", *((name, content[name]) for name in NAMES[:3]), ("a.json", b"{}"))
    shard(place / "shards" / "1.tar", *((name, content[name]) for name in NAMES[3:]))
    memory = fsspec.filesystem("memory")
    for name in NAMES:
        memory.pipe(f"/bucket/photos/{name}", content[name])
    for name in ("0.tar", "1.tar"):
        memory.pipe(f"/bucket/shards/{name}", (place / "shards" / name).read_bytes())
    for table_name, mark in (("list.csv", ","), ("semicolons.csv", ";")):
        rows = [("id", "picture"), *((str(i), f"photos/{name}") for i, name in enumerate(NAMES))]
        (place / table_name).write_text("".join(f"{mark.join(row)}\n" for row in rows))
    members = [f"tar://{name}::shards/{int(i > 2)}.tar" for i, name in enumerate(NAMES)]
    ways = [
        (table("absolute.parquet", [str(place / "photos" / name) for name in NAMES]),),
        (table("remote.parquet", [f"memory://bucket/photos/{name}" for name in NAMES]),),
        (table("members.parquet", [*members[::-1]]),),
        (table("shards.parquet", ["shards/0.tar", "shards/1.tar"]),),
        ("list.csv", "--column", "picture"),
        ("photos",),
        ("photos/**/*.*g",),
        ("shards",),
        ("shards/*.tar",),
        ("memory://bucket/photos/",),
        ("memory://bucket/shards/*.tar",),
        ("semicolons.csv", "--column", "picture"),
    ]
    for number, way in enumerate(ways):
        (place / "photos" / "pool.parquet").unlink(missing_ok=True)
        assert by_name(predict(*way, out=f"out{number}")) == expected, way
    assert list(parts(place / "out8")) == ["part-00000.parquet", "part-00001.parquet"]  # one for each tar shard
    assert {row["file"] for row in answers(place / "out5")} == set(NAMES)
    assert answers(place / "out8")[0]["file"] == "tar://a.png::0.tar"
    assert {row["file"] for row in answers(place / "out9")} == {f"memory:///bucket/photos/{name}" for name in NAMES}


@pytest.mark.slow
def test_an_exported_model_needs_no_torch(exported_onnx: Path, place: Path) -> None:
    manifest = table("photos/pool.parquet", NAMES[:2])
    program = (
        "import sys; from leanet.cli import main; "
        f"code = main(['predict', {str(exported_onnx)!r}, '--manifest', {manifest!r}, '--out', 'answers']); "
        "sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert [row["error"] for row in answers(place / "answers")] == [None, None]


def test_the_same_command_makes_only_what_is_missing_or_damaged(
    predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = table("photos/pool.parquet", NAMES)
    out = predict(manifest, "--shard-rows", "1")
    whole = parts(out)
    middle = whole["part-00001.parquet"]
    flipped = bytearray(middle)
    flipped[len(middle) // 4] ^= 1
    (out / "part-00000.parquet").unlink()
    (out / "part-00001.parquet").write_bytes(flipped)
    (out / "part-00002.parquet").write_bytes(middle[:-100])
    (out / "part-00003.parquet").write_bytes(middle)
    capsys.readouterr()
    predict(manifest, "--shard-rows", "1")
    told = capsys.readouterr().out
    assert parts(out) == whole
    assert told.count("damaged, or of another kind; made again") == 3
    assert "4 of 5 images predicted" in told
    assert "1: truncated file" in told
    assert "1 of them by earlier calls" in told
    assert "4 pictures in" in told
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    predict(manifest, "--shard-rows", "1")
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_shard_is_a_small_task_that_any_process_can_run(tiny_model: Path, place: Path) -> None:
    manifest = table("photos/pool.parquet", NAMES)
    (place / "answers").mkdir()
    arguments = [str(tiny_model), "--manifest", manifest, "--out", "answers", "--shard-rows", "3"]
    pool = open_pool(parse("predict", arguments))
    tasks = [pickle.dumps(task) for task in pool.shards()]
    assert max(map(len, tasks)) < 2000
    model = load(tiny_model)
    for task in map(pickle.loads, reversed(tasks)):
        assert not task.done()
        task.run(model)
        assert task.done()
    assert [row["file"] for row in answers(place / "answers")] == NAMES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: table("photos/pool.parquet", NAMES[:4]), "size in bytes was"),
        (lambda: table("photos/pool.parquet", [*NAMES[:4], "f.png"]), "manifest's content changed"),
        (lambda: "--threshold=0.7", "threshold was None, now 0.7"),
        (lambda: "--shard-rows=3", "shard_rows was 10000, now 3"),
        (lambda: "--tile=32", "tile was None, now 32"),
    ],
)
def test_answers_of_something_else_are_refused(
    predict: Predict, capsys: pytest.CaptureFixture[str], change: Callable[[], str], words: str
) -> None:
    manifest = table("photos/pool.parquet", NAMES)
    out = predict(manifest)
    before = {path: path.read_bytes() for path in out.iterdir()}
    option = change()
    predict(manifest, *([option] if option.startswith("--") else []), code=2)
    assert words in said(capsys)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_pool_by_tiles_has_the_answers_of_predict(
    predict: Predict, tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((31, 60, 3), np.uint8)).save("photos/small.png")
    names = [*NAMES, "small.png"]
    manifest, tiles = table("photos/pool.parquet", names), ("--tile", "32")
    out = predict(manifest, *tiles)
    found, before = answers(out), parts(out)
    assert main(["predict", str(tiny_model), *(f"photos/{name}" for name in names), "--out", "p.csv", *tiles]) == 1
    with (place / "p.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    assert [row["file"] for row in found] == names
    for row, other in zip(found, expected, strict=True):
        assert (row["decision"] or "", row["error"] or "") == (other["decision"], other["error"])
        assert " ".join(map(str, row["box"] or [])) == other["box"]
        assert ("" if row["probability"] is None else f"{row['probability']:.4g}") == other["probability"][:6]
    assert "60 x 31 pixels, smaller than a tile of 32" in found[-1]["error"]
    capsys.readouterr()
    for options, words in (
        ((), "tile was 32, now None, overlap was 0.25, now None"),
        ((*tiles, "--overlap", "0.5"), "overlap was 0.25, now 0.5"),
    ):
        predict(manifest, *options, code=2)
        assert words in said(capsys)
    predict(manifest, *tiles)
    assert parts(out) == before


def test_a_pool_of_a_model_of_tiles(tiny_model: Path, place: Path) -> None:
    model = load(tiny_model)
    assert isinstance(model, Model)
    save(place / "of-tiles", dataclasses.replace(model.card, tile=32), model.network, model.maps)
    manifest = table("photos/pool.parquet", NAMES)
    assert main(["predict", "of-tiles", "--manifest", manifest, "--out", "own"]) == 1
    assert main(["predict", str(tiny_model), "--manifest", manifest, "--out", "asked", "--tile", "32"]) == 1
    assert by_name(Path("own")) == by_name(Path("asked"))
    assert "tile" not in json.loads(Path("own", "_manifest.json").read_text())


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_answers_about_another_folder_of_the_same_names_are_refused(
    predict: Predict, place: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    for folder in ("one", "two"):
        table(f"{folder}/pool.parquet", ["a.png"])
        Path(folder, "pool.csv").write_text("file\na.png\n")
    shutil.copy(place / "photos" / "a.png", "one")
    shutil.copy(place / "photos" / "far" / "c.png", "two/a.png")
    before = parts(predict(f"one/pool{suffix}", code=0))
    predict(f"two/pool{suffix}", code=2)
    assert "the folder of the pictures was" in said(capsys)
    assert parts(predict(str(place / "one" / f"pool{suffix}"), code=0)) == before
    other = predict(f"two/pool{suffix}", code=0, out="other")
    descriptions = {
        pq.read_metadata(out / "part-00000.parquet").metadata[b"leanet"] for out in (place / "answers", other)
    }
    assert len(descriptions) == 2


def test_answers_of_another_model_are_refused(
    predict: Predict, exported_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = table("photos/pool.parquet", NAMES)
    predict(manifest)
    assert main(["predict", str(exported_onnx), "--manifest", manifest, "--out", "answers"]) == 2
    assert "the model changed" in said(capsys)


def test_a_listing_stays_as_it_was(predict: Predict, place: Path) -> None:
    predict("photos")
    shutil.copy(place / "photos" / "a.png", place / "photos" / "new.png")
    assert len(answers(predict("photos"))) == PICTURES
    record = json.loads((place / "answers" / "_manifest.json").read_text())
    assert record["place"] == str(place / "photos")
    assert record["rows"] == PICTURES


def test_what_is_in_the_folder_is_kept(predict: Predict, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "answers").mkdir()
    (place / "answers" / "notes.txt").write_text("mine")
    predict("photos", code=2)
    assert "holds notes.txt" in said(capsys)
    (place / "answers" / "_manifest.json").write_text("[1]")
    predict("photos", code=2)
    assert "_manifest.json: damaged" in said(capsys)
    assert sorted(path.name for path in (place / "answers").iterdir()) == ["_manifest.json", "notes.txt"]


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("nowhere.parquet", "no such file"),
        ("nowhere.csv", "no such file"),
        ("nowhere", "no pictures and no tar shards"),
        ("nowhere/*.tar", "no pictures and no tar shards"),
        ("empty.parquet", "no rows"),
        ("empty.csv", "no rows"),
        ("bare.csv", "no columns. Its first row must name them"),
        ("headless.csv", "no column file. It has a.png"),
        ("twice.csv", "several columns file"),
        ("twice.parquet", "several columns file"),
        ("other.parquet", "no column file. It has image"),
        ("number.parquet", "expected text, found int64"),
        ("text.parquet", "not a readable Parquet file"),
        ("short.csv", "line 3: a row with more or fewer cells"),
        ("latin.csv", "not UTF-8"),
        ("mixed", "Name one kind"),
        ("memory://gone/photos/", "no such file, folder or bucket"),
        ("gone.parquet", "memory://gone: no such file, folder or bucket"),
        ("strange://x/", "strange"),
        ("photos/*.gif", "no pictures and no tar shards"),
    ],
)
def test_bad_manifests_are_refused_in_one_line(
    predict: Predict, place: Path, capsys: pytest.CaptureFixture[str], manifest: str, words: str
) -> None:
    table("empty.parquet", [])
    table("gone.parquet", ["memory://gone/a.png"])
    pq.write_table(pa.table({"image": ["a.png"]}), "other.parquet")
    pq.write_table(pa.table({"file": [1]}), "number.parquet")
    pq.write_table(pa.table([["a.png"], ["b.png"]], names=["file", "file"]), "twice.parquet")
    for name, text in (
        ("empty.csv", "file\n"),
        ("bare.csv", ""),
        ("headless.csv", "a.png\n"),
        ("twice.csv", "file,file\na.png,b.png\n"),
        ("short.csv", "file,id\na.png,1\nb.png\n"),
        ("text.parquet", "no table"),
    ):
        Path(name).write_text(text)
    Path("latin.csv").write_bytes("file\nbl\xfcte.png\n".encode("latin-1"))
    Path("mixed").mkdir()
    shutil.copy(place / "photos" / "a.png", "mixed")
    shard(place / "mixed" / "b.tar")
    predict(manifest, code=2)
    assert words in said(capsys)
    assert not parts(place / "answers")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["a.png", "--out", "answers"], "names the pictures. Leave out a.png"),
        (["--out", "answers", "--maps", "maps"], "--maps maps: --manifest has no overlays"),
        ([], "expected the name of a folder"),
        (["--out", "-"], "--out -: with --manifest, expected the name of a folder"),
        (["--out", "answers", "--column", "image"], "--column image: photos is no table. Leave it out."),
        (["--out", "answers", "--manifest", ""], "--manifest '': expected a file, a folder, a pattern or a URL"),
        (["--out", "answers", "--shard-rows", "0"], "--shard-rows 0: expected at least 1"),
    ],
)
def test_options_that_do_not_fit(
    tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["predict", str(tiny_model), "--manifest", "photos", *options]) == 2
    assert words in said(capsys)
    assert not (place / "answers").exists()


@pytest.mark.parametrize(("option", "value"), [("--column", "image"), ("--shard-rows", "3")])
def test_options_of_a_manifest_need_one(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert main(["predict", str(tiny_model), "photos", option, value]) == 2
    assert f"{option} {value}: is an option of --manifest. Leave it out." in said(capsys)


@pytest.mark.parametrize("threshold", ["nan", "inf", "2"])
def test_a_bad_threshold_can_be_corrected(
    predict: Predict, place: Path, capsys: pytest.CaptureFixture[str], threshold: str
) -> None:
    predict("photos", "--threshold", threshold, code=2)
    assert f"--threshold {threshold}" in said(capsys)
    assert not (place / "answers").exists()
    predict("photos", "--threshold", "0.5")


def test_a_damaged_model_can_be_corrected(
    predict: Predict, tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_model, place / "broken")
    (place / "broken" / "model.json").write_text("{}")
    assert main(["predict", "broken", "--manifest", "photos", "--out", "answers"]) == 2
    assert "model.json" in said(capsys)
    predict("photos")


def test_a_damaged_listing_names_the_remedy(predict: Predict, capsys: pytest.CaptureFixture[str]) -> None:
    listing = predict("photos") / "_listing.parquet"
    content = listing.read_bytes()
    for damaged in (b"", content[:-20], content.replace(b"a.png", b"z.png")):
        listing.write_bytes(damaged)
        capsys.readouterr()
        predict("photos", code=2)
        assert "_listing.parquet: damaged or changed. Choose another --out, which lists again." in said(capsys)


def test_damage_in_the_middle_of_a_listing_is_found(
    predict: Predict, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanet.data.manifest._ENDS", 4)  # only the ends are hashed
    out = predict("photos")
    listing, part = out / "_listing.parquet", out / "part-00000.parquet"
    content, column = listing.read_bytes(), pq.read_metadata(listing).row_group(0).column(0)
    end = column.dictionary_page_offset + column.total_compressed_size
    kind = column.data_page_offset + 1  # of the page, which is not among what its checksum covers
    for at in (column.data_page_offset - 1, end - 1, kind):
        damaged = bytearray(content)
        damaged[at] ^= 1
        listing.write_bytes(damaged)
        part.unlink(missing_ok=True)
        capsys.readouterr()
        predict("photos", code=2)
        assert re.search("_listing.parquet: not a readable.*Choose another --out, which lists again", said(capsys))
        assert not part.exists()


def test_a_model_that_cannot_make_maps_is_refused_before_the_folder_is_bound_to_it(
    predict: Predict, tiny_networks: None, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del tiny_networks
    model = made("CNN", "Direct", 2)
    save(place / "imported", replace(model.card, map_source=None, colorizer=None), model.network)
    assert main(["predict", "imported", "--manifest", "photos", "--out", "answers"]) == 2
    assert "imported: has no colorizer and cannot make anomaly maps" in said(capsys)
    assert not (place / "answers").exists()
    predict("photos")


def test_a_bucket_is_listed_as_a_folder_is(
    predict: Predict, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (place / "photos" / "a.png").read_bytes()
    memory = fsspec.filesystem("memory")
    for name in ("a.png", ".b.png", ".c/d.png", "far/.e.png", "Ground_Truth/f.png", "far/ground_truth/g.png"):
        memory.pipe(f"/listed/{name}", content)
    out = predict("memory://listed/", code=0, out="1")
    assert [row["file"] for row in answers(out)] == ["memory:///listed/a.png"]
    told = capsys.readouterr().out
    assert "left out, hidden: 3" in told
    assert "left out, folder of masks: 2" in told
    assert len(answers(predict("memory://listed/**/*.png", code=0, out="2"))) == 3
    assert len(answers(predict("memory://listed/.c/*.png", code=0, out="3"))) == 1


def test_the_packages_that_fsspec_needs_are_named(
    predict: Predict, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "smbclient", None)
    predict("smb://server/photos/", code=2)
    line = said(capsys)
    assert "smbprotocol" in line
    assert "fsspec is missing" not in line


def test_a_package_that_is_missing_is_named(
    predict: Predict, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    predict("s3://bucket/photos/", code=2)
    assert "s3fs is missing. Install it: pip install s3fs" in said(capsys)


def test_a_row_that_cannot_be_read_is_an_error_of_its_own(predict: Predict, place: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/b/a.png", (place / "photos" / "a.png").read_bytes())
    shard(place / "s.tar", ("a.png", (place / "photos" / "a.png").read_bytes()))
    rows = {
        "a.png": None,
        "gone.png": "no such file or directory",
        ".": "is a directory",
        None: "the row is empty",
        "memory://b/a.png": None,
        "memory://b/gone.png": "no such file or directory",
        "tar://a.png::s.tar": None,
        "tar://b.png::s.tar": "no such member in the tar shard",
        "tar://a.png::gone.tar": "no such file or directory",
        "tar://a.png": "expected tar://MEMBER::SHARD",
        "gone.tar": "no such file or directory",
        "z" * 300: "file name too long",
        "a\0b.png": "a name with a zero in it",
        "a\0b.tar": "a name with a zero in it",
        "tar://a.png::a\0b.tar": "a name with a zero in it",
        "memory://b/a\0b.png": "a name with a zero in it",
        "pool.parquet": "not an image, or of an unknown format",
    }
    (place / "s.tar").rename(place / "photos" / "s.tar")
    found = answers(predict(table("photos/pool.parquet", list(rows))))
    assert {row["file"] or None: row["error"] for row in found} == rows


def test_a_damaged_tar_shard_costs_no_other(predict: Predict, place: Path) -> None:
    content = [(f"{i}.png", (place / "photos" / "a.png").read_bytes()) for i in range(4)]
    whole = shard(place / "shards" / "1.tar", *content).read_bytes()
    step = len(whole) // 512 * 512 // 5
    for number, cut in enumerate((0, 100, 512, step, 2 * step, len(whole) - 10240)):
        (place / "shards" / f"2{number}.tar").write_bytes(whole[:cut])
    at = whole.index(b"2.png")
    (place / "shards" / "3.tar").write_bytes(whole[:at] + b"\xff" * 512 + whole[at + 512 :])
    (place / "shards" / "4.tar").write_bytes(b"\x1f\x8b" + bytes(3000))
    shard(place / "shards" / "5.tar", ("a.json", b"{}"))
    out = predict("shards/*.tar")
    found = {part: pq.read_table(io.BytesIO(data)).to_pylist() for part, data in parts(out).items()}
    listed = pq.read_table(out / "_listing.parquet")["file"].to_pylist()
    rows = dict(zip(listed, found.values(), strict=True))
    assert [row["error"] for row in rows["1.tar"]] == [None] * 4
    for name in listed:
        if name.startswith("2"):
            assert "damaged tar shard" in rows[name][-1]["error"], name
    assert [bool(row["error"]) for row in rows["3.tar"]] == [False, False, True]
    assert "damaged" in rows["4.tar"][0]["error"]
    assert [row["error"] for row in rows["5.tar"]] == ["a tar shard without pictures"]


@pytest.mark.parametrize("field", [slice(124, 136), slice(156, 157)])
def test_hostile_headers_end(predict: Predict, place: Path, field: slice) -> None:
    data = bytearray(shard(place / "s.tar", ("a.png", b"x" * 600), ("b.png", b"x" * 600)).read_bytes())
    generator = np.random.default_rng(0)
    for number in range(30):
        data[field] = generator.integers(0, 256, field.stop - field.start, dtype=np.uint8).tobytes()
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
        (place / "shards").mkdir(exist_ok=True)
        (place / "shards" / f"{number}.tar").write_bytes(data)
    assert all(row["error"] for row in answers(predict("shards")))


@pytest.mark.usefixtures("without_heif")
def test_what_no_suffix_tells_the_content_does(
    predict: Predict, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (place / "photos" / "a.png").read_bytes()
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    files = {"a": content, "b.heic": heic, "c.json": b"{}", "._d.png": content, "b\udcff.png": content}
    (place / "some").mkdir()
    for name, data in files.items():
        (place / "some" / name).write_bytes(data)
    shard(place / "s.tar", *files.items())
    assert [row["file"] for row in answers(predict("some", code=0, out="1"))] == ["a"]
    told = capsys.readouterr().out
    for words in (
        "left out, HEIC: 1",
        "left out, a name that is not UTF-8: 1",
        "left out, hidden: 1",
        "no picture: 1",
    ):
        assert words in told
    inside = {row["file"]: row["error"] for row in answers(predict("s.tar", out="2"))}
    heic_said = "HEIC is not read; convert to JPEG or PNG, or install the extra heif"
    assert inside == {"tar://a::s.tar": None, "tar://b.heic::s.tar": heic_said, "tar://b\\xff.png::s.tar": None}


def test_links_are_followed_to_files_alone(predict: Predict, place: Path) -> None:
    (place / "photos" / "again").symlink_to(place / "photos")
    (place / "photos" / "link.png").symlink_to("a.png")
    (place / "photos" / "gone.png").symlink_to("nowhere")
    os.mkfifo(place / "photos" / "pipe.png")
    assert {row["file"] for row in answers(predict("photos"))} == {*NAMES, "link.png"}


def test_many_errors_are_counted_by_kind(predict: Predict, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[str | None] = [*(f"gone{i}.png" for i in range(2 * BATCH)), "e.png", "e.png", "a.png"]
    predict(table("photos/pool.parquet", rows), "--shard-rows", "30")
    told = capsys.readouterr().out
    assert f"  {2 * BATCH}: no such file or directory\n  2: truncated file" in told
    assert f"1 of {2 * BATCH + 3} images predicted" in told


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_rows_are_read_from_anywhere(place: Path, rows: int) -> None:
    from leanet.data.manifest import open_manifest

    names = [f"{i}.png" for i in range(1000)]
    path = place / f"{rows}.parquet"
    pq.write_table(pa.table({"file": pa.array(names).dictionary_encode()}), path, row_group_size=rows)
    manifest = open_manifest(str(path), "file", place / "_listing.parquet")
    for first, last in ((0, 1), (0, 1000), (6, 8), (7, 14), (13, 500), (999, 1000)):
        assert list(manifest.read(first, last)) == list(zip(range(first, last), names[first:last], strict=True))


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_answers(folder: Path, place: Path) -> None:
    rows = [NAMES[i % PICTURES] for i in range(400)]
    manifest = table("photos/pool.parquet", rows)
    command = [
        sys.executable,
        "-m",
        "leanet.cli",
        "predict",
        str(folder),
        "--manifest",
        manifest,
        "--shard-rows",
        "40",
    ]

    def run(out: str, kill_at: int | None = None) -> None:
        with subprocess.Popen([*command, "--out", out], stdout=subprocess.DEVNULL) as process:
            while kill_at is not None and process.poll() is None:
                if len(list((place / out).glob("part-*"))) >= kill_at:
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.001)
        assert process.returncode == (1 if kill_at is None else -signal.SIGKILL)

    run("whole")
    for count in (1, 4):
        run("killed", count)
    run("killed")
    assert parts(place / "killed") == parts(place / "whole")
    assert len(parts(place / "whole")) == 10
    leftover = [path.name for path in (place / "killed").iterdir() if path.name.startswith(".")]
    assert leftover == []
