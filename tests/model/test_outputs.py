"""Nothing of a user's is written over by `predict` and `export`; what cannot be written costs no other file."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leanet.cli import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two pictures in it."""
    for i, name in enumerate(("a.png", "b.png")):
        Image.new("RGB", (40, 30), (90 * i, 120, 30)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its hash."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command is refused with."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    "out",
    [
        "a.png",
        "b.png",
        "link.csv",
        "hard.csv",
        "model/model.json",
        "notes.csv",
        "folder",
        "pipe",
        "/dev/null",
        "/dev/stdout",
        "a.png/x.csv",
        "n" * 300,
    ],
)
def test_a_table_is_written_over_nothing_else(
    tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    (place / "model").symlink_to(tiny_model)
    (place / "link.csv").symlink_to("b.png")
    (place / "hard.csv").hardlink_to(place / "b.png")
    (place / "notes.csv").write_text("file,remark\na.png,mine\n")
    (place / "folder").mkdir()
    os.mkfifo(place / "pipe")
    before = contents(place)
    assert out.removesuffix("/x.csv") in refused(capsys, "predict", "model", "a.png", "--out", out)
    assert contents(place) == before


def test_a_table_replaces_an_earlier_one(tiny_model: Path, place: Path) -> None:
    earlier = "file,probability,decision,adn_probability,caan_probability,mean_delta_e,peak_delta_e,box,error\n"
    (place / "p.csv").write_text(earlier + "old.png,,,,,,,,gone\n")
    assert main(["predict", str(tiny_model), "a.png", "--out", "p.csv"]) == 0
    assert "old.png" not in (place / "p.csv").read_text()


def test_a_dash_is_standard_output_and_nothing_but_the_table_is_on_it(
    tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty.png").touch()
    assert main(["predict", str(tiny_model), "a.png", "empty.png", "--out", "-"]) == 1
    said = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [row["file"] for row in rows] == ["a.png", "empty.png"]
    assert "1 of 2 images predicted" in said.err
    assert sorted(p.name for p in place.iterdir()) == ["a.png", "b.png", "empty.png"]


def test_maps_replace_earlier_maps_and_nothing_else(
    tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["predict", str(tiny_model), "a.png", "b.png", "--maps", "maps"]
    assert main(asked) == 0
    assert main(asked) == 0
    made = contents(place / "maps")
    assert sorted(made) == ["a.npy", "a.png", "b.npy", "b.png"]
    np.save(place / "other.npy", np.zeros((64, 64), np.float32))
    for name, own in (("a.png", "b.png"), ("b.npy", "other.npy")):
        photos = place / f"photos of {name}"
        photos.mkdir()
        (photos / name).write_bytes((place / own).read_bytes())
        before = contents(place)
        assert f"{name}: exists" in refused(capsys, *asked[:-1], photos)
        assert contents(place) == before


def test_maps_are_no_guests_of_a_model_or_of_the_table(
    tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["predict", tiny_model, "a.png"]
    assert "--maps" in refused(capsys, *asked, "--maps", tiny_model)
    assert sorted(p.name for p in tiny_model.glob("a.*")) == []
    for out, maps in (("maps/a.png", "maps"), ("maps", "maps"), ("maps", "maps/inner")):
        assert f"--out {out}" in refused(capsys, *asked, "--out", out, "--maps", maps)
    assert sorted(p.name for p in place.iterdir()) == ["a.png", "b.png"]


def test_long_names_get_shorter_ones_of_their_own(tiny_model: Path, place: Path) -> None:
    stem = "é" * 125  # 250 bytes, all but the longest that takes the ending .jpeg
    for name in (f"{stem}.jpeg", f"{stem}.png"):
        Image.new("RGB", (40, 30), "teal").save(place / name)
    assert main(["predict", str(tiny_model), f"{stem}.jpeg", f"{stem}.png", "--maps", "maps"]) == 0
    names = {p.name for p in (place / "maps").iterdir()}
    assert names == {f"{base}{ending}" for base in (stem, "é" * 124 + "-2") for ending in (".png", ".npy")}


def test_a_map_that_cannot_be_written_costs_no_other(tiny_model: Path, place: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "large.png")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        code = main(["predict", str(tiny_model), "large.png", "a.png", "--maps", "maps", "--out", "p.csv"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    with (place / "p.csv").open(newline="") as file:
        large, small = csv.DictReader(file)
    assert large["error"] == "overlay and map not written: File too large"
    assert float(large["probability"]) >= 0
    assert small["error"] == ""
    assert sorted(p.name for p in (place / "maps").iterdir()) == ["a.npy", "a.png"]


def test_a_full_disk_leaves_no_half_table(
    tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        line = refused(capsys, "predict", tiny_model, "a.png", "--out", "p.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "p.csv: File too large. Free some space" in line
    assert sorted(p.name for p in place.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(("suffix", "form"), [(".onnx", "onnx"), (".xml", "openvino"), (".bin", "openvino")])
@pytest.mark.parametrize("content", [b"precious", b"<net><rt_info/></net>"])
def test_what_is_no_export_is_not_written_over(
    tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str], suffix: str, form: str, content: bytes
) -> None:
    (place / f"m{suffix}").write_bytes(content)
    out = "m.onnx" if form == "onnx" else "m.xml"
    line = refused(capsys, "export", tiny_model, "--out", out, "--format", form)
    assert f"m{suffix}: exists" in line
    assert (place / f"m{suffix}").read_bytes() == content


@pytest.mark.slow
def test_an_openvino_export_is_written_over_an_earlier_one(tiny_model: Path, place: Path) -> None:
    command = ["export", str(tiny_model), "--out", "m.xml", "--format", "openvino"]
    assert main(command) == 0
    made = contents(place)
    assert main(command) == 0
    assert contents(place).keys() == made.keys()


def test_one_prediction_at_a_time_draws_into_a_folder(
    tiny_model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = "import sys; from pathlib import Path; from leanet.lock import alone_in\n"
    hold += "with alone_in(Path('maps')): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        line = refused(capsys, "predict", tiny_model, "a.png", "--out", "p.csv", "--maps", "maps")
        other.communicate()
    assert line.startswith("error: maps: in use by ")
    assert not (place / "p.csv").exists()
