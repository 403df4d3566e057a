"""What a user can get wrong: one line that names the culprit and the remedy, exit code 2, nothing left behind."""

from __future__ import annotations

import errno
import json
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from leanet.cli import guarded, main, parse
from leanet.config import DemoConfig
from leanet.errors import UserError
from leanet.experiment.demo import demo, finish_demo

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

MAPS = ["--image-size", "64", "--n-splits", "2", "--colorizer-epochs", "1"]
OPTIONS = [*MAPS, "--epochs", "1"]
Refused = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four images a class, all different."""
    for label, name in enumerate(("Negative", "Positive")):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32), (40 * i, 200 * label, 30)).save(folder / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run `leanet run` on the data; it must be refused in one line and leave no run folder. Returns the line."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        out = tmp_path / "out"
        assert main(["run", str(data), "--out", str(out), *OPTIONS, *arguments]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert not out.exists()
        return lines[0]

    return run


def giant_png() -> bytes:
    """A few bytes that claim to be 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


def test_missing_class_folder(data: Path, refused: Refused) -> None:
    shutil.rmtree(data / "Positive")
    line = refused()
    assert "Positive" in line
    assert "--abnormal-dir" in line


def test_empty_class_folder(data: Path, refused: Refused) -> None:
    for file in (data / "Negative").iterdir():
        file.unlink()
    assert "Negative" in refused()


def test_fewer_images_than_folds(refused: Refused) -> None:
    line = refused("--n-splits", "5")
    assert "4 normal images" in line
    assert "--n-splits 4" in line


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"this is no picture", "not an image"),
        (giant_png(), "200 million"),
    ],
)
def test_bad_image_files(data: Path, refused: Refused, content: bytes, reason: str) -> None:
    (data / "Negative" / "bad leaf.png").write_bytes(content)
    line = refused()
    assert "Negative/bad leaf.png" in line
    assert reason in line
    assert "--skip-unreadable" in line


def test_truncated_image(data: Path, refused: Refused) -> None:
    whole = data / "Positive" / "whole.jpg"
    Image.effect_noise((200, 200), 90).convert("RGB").save(whole)
    whole.write_bytes(whole.read_bytes()[:4000])
    line = refused()
    assert "Positive/whole.jpg" in line
    assert "truncated" in line


def test_same_picture_in_both_classes(data: Path, refused: Refused) -> None:
    shutil.copy(data / "Negative" / "1.png", data / "Positive" / "copy.png")
    line = refused()
    assert "Negative/1.png" in line
    assert "Positive/copy.png" in line


def test_missing_dataset(data: Path, refused: Refused) -> None:
    shutil.rmtree(data)
    assert "no such dataset folder" in refused()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--attention-point", "6"], ["--attention-point 6", "1 2 3 4 5"]),
        (["--attention-point", "0"], ["--attention-point 0"]),
        (["--image-size", "100"], ["--image-size 100", "multiple of 32", "Try 96"]),
        (["--image-size", "1024"], ["--image-size 1024", "512"]),
        (["--p-rate", "0"], ["--p-rate 0"]),
        (["--caan", "Direct", "--caan-weight", "0.3"], ["--caan-weight 0.3", "Direct"]),
        (["--caan-weight", "nan"], ["--caan-weight nan"]),
        (["--caan-weight", "inf"], ["--caan-weight inf"]),
        (["--cross-fit", "3"], ["--cross-fit 3", "fold 0", "Use fewer"]),
        (["--n-splits", "1"], ["--n-splits 1", "at least 2"]),
        (["--folds", "7"], ["--folds 7", "0..1"]),
        (["--folds", "one"], ["--folds one"]),
        (["--epochs", "0"], ["--epochs 0"]),
        (["--lr", "5"], ["--lr 5"]),
        (["--seed", "-1"], ["--seed -1", "4294967295"]),
        (["--checkpoint-seconds", "-3"], ["--checkpoint-seconds -3"]),
        (["--colour", "red"], ["--colour", "leanet run --help"]),
        (["--adn", "Alexnet"], ["Alexnet", "ResNet18"]),
        (["--epochs", "many"], ["--epochs", "many"]),
        (["--device", "cuda:9"], ["--device cuda:9"]),
        (["--groups", "no/such.csv"], ["no/such.csv", "--groups"]),
        (["--config", "no/such.yaml"], ["no/such.yaml"]),
    ],
)
def test_bad_options(refused: Refused, arguments: list[str], expected: list[str]) -> None:
    line = refused(*arguments)
    for text in expected:
        assert text in line


def test_a_refused_command_leaves_no_folds_to_the_next(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_data = ["run", str(data), "--out", str(data), *OPTIONS]
    assert main([*in_data, "--cross-fit", "9"]) == 2
    assert "--cross-fit 9" in capsys.readouterr().err
    assert not (data / "splits.json").exists()


def test_authors_coding_without_opencv(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    line = refused("--map-coding", "authors")
    assert "--map-coding authors" in line
    assert 'pip install -c constraints.txt -e ".[authors]"' in line


@pytest.mark.parametrize("command", ["check", "fit"])
def test_authors_coding_without_opencv_in_other_commands(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    if command == "fit":  # of normal images alone
        shutil.rmtree(data / "Positive")
    out = ["--out", str(tmp_path / "model")] if command == "fit" else []
    assert main([command, str(data), *out, "--map-coding", "authors"]) == 2
    assert "error: --map-coding authors" in capsys.readouterr().err


def test_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "run/history.csv")

    assert guarded(full) == 2
    assert "run/history.csv: No space left on device. Free some space" in capsys.readouterr().err


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR])
def test_what_the_system_refuses_is_one_line(capsys: pytest.CaptureFixture[str], code: int) -> None:
    def refused() -> int:
        raise OSError(code, "reason", "run/\x1b[31m\nconfig.yaml")

    assert guarded(refused) == 2
    assert capsys.readouterr().err == "error: run/\\x1b[31m\\nconfig.yaml: reason. Choose another name or place.\n"


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["colour"]) == 2
    assert "unknown command 'colour'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image_sise: 64\n", "unknown key 'image_sise'"),
        ("- a list\n", "mapping"),
        ("image_size: [64\n", "not a YAML file"),
    ],
)
def test_bad_config_files(tmp_path: Path, refused: Refused, text: str, expected: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    line = refused("--config", str(config))
    assert expected in line
    assert str(config) in line


def test_options_of_other_commands_are_for_a_runs_own_config_file(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("lr: 0.0003\nseeds: 2\n")
    with pytest.raises(UserError, match="unknown key 'lr'"):
        parse("study", ["data", "--out", "out", "--config", str(file)])
    file.write_text(file.read_text() + "recorded: {versions: {}}\n")
    assert parse("study", ["data", "--out", "out", "--config", str(file)]).seeds == 2


def test_out_is_a_file(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["run", str(data), "--out", str(tmp_path / "file"), *OPTIONS]) == 2
    assert "Choose another folder" in capsys.readouterr().err


def test_unwritable_output(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["colorize", str(data), "--out", "/proc/leanet", *MAPS]) == 2
    line = capsys.readouterr().err
    assert "/proc/leanet" in line
    assert "Choose another folder" in line


def test_detect_before_colorize(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(tmp_path / "nothing")]) == 2
    assert "leanet colorize" in capsys.readouterr().err
    out = tmp_path / "out"
    small = [*MAPS, "--compile", "off"]
    assert main(["colorize", str(data), "--out", str(out), "--folds", "0", *small]) == 0
    capsys.readouterr()
    assert main(["detect", str(out), "--folds", "1"]) == 2
    assert "leanet colorize" in capsys.readouterr().err
    assert not (out / "1").exists()


def test_run_folder_of_other_data_or_options(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    small = [*MAPS, "--compile", "off", "--folds", "0"]
    assert main(["colorize", str(data), "--out", out, *small]) == 0
    capsys.readouterr()
    assert main(["colorize", str(data), "--out", out, *small, "--seed", "1"]) == 2
    assert "--seed 0, now 1" in capsys.readouterr().err
    Image.new("RGB", (32, 32), "teal").save(data / "Negative" / "0.png")
    assert main(["colorize", str(data), "--out", out, *small]) == 2
    line = capsys.readouterr().err
    assert "another data set" in line
    assert "Negative/0.png" in line


def test_skip_unreadable_lists_what_it_drops(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "Negative" / "bad.png").write_bytes(b"")
    small = [*MAPS, "--compile", "off", "--folds", "0", "--skip-unreadable"]
    assert main(["colorize", str(data), "--out", str(tmp_path / "out"), *small]) == 0
    assert "skipped: Negative/bad.png (empty file)" in capsys.readouterr().out
    assert "bad.png" not in (tmp_path / "out" / "images.csv").read_text()


def test_check_reports_problems(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "Negative" / "bad.png").write_bytes(b"")
    shutil.copy(data / "Negative" / "1.png", data / "Positive" / "copy.png")
    assert main(["check", str(data), "--n-splits", "9"]) == 2
    said = capsys.readouterr().out
    for text in ("bad.png", "same picture in both classes", "too few for 9 folds"):
        assert text in said


def test_check_finds_groups_that_no_fold_can_hold(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"Negative/{i}.png,big" for i in range(3)] + [f"Positive/{i}.png,big" for i in range(3)]
    (data / "groups.csv").write_text("\n".join(["file,group", *lines, "Negative/3.png,a", "Positive/3.png,b"]))
    assert main(["check", str(data), "--n-splits", "2", "--groups", str(data / "groups.csv")]) == 2
    assert "The likely reason is group big of 6 images" in capsys.readouterr().out


def test_check_of_good_data_estimates_the_run(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--image-size", "64", "--n-splits", "2", "--adn", "CNN", "--caan", "Direct"]
    assert main(["check", str(data), *small]) == 0
    said = capsys.readouterr().out
    assert "4 normal, 4 anomalous" in said
    assert "estimated time on this machine" in said


def test_check_refuses_options_that_a_run_refuses(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--image-size", "64", "--n-splits", "2", "--no-estimate"]
    assert main(["check", str(data), *small, "--caan", "Direct", "--caan-weight", "2"]) == 2
    assert "--caan-weight 2: Direct has no loss" in capsys.readouterr().err


def test_demo_deletes_nothing_but_an_earlier_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images.csv").write_text("precious")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "not an earlier demo" in capsys.readouterr().err
    assert (tmp_path / "images.csv").read_text() == "precious"
    assert main(["demo", "--out", str(tmp_path / "images.csv")]) == 2


def test_a_demo_that_was_stopped_goes_on_and_one_that_is_done_starts_anew(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    demo(DemoConfig(out))
    (out / "0").mkdir()
    (out / "0" / "history.csv").write_text("an hour's work")
    demo(DemoConfig(out))
    assert (out / "0" / "history.csv").exists()
    finish_demo(DemoConfig(out))
    demo(DemoConfig(out))
    assert not (out / "0").exists()
    (out / "0").mkdir()
    demo(DemoConfig(out, seed=1))
    assert not (out / "0").exists()


def test_demo_keeps_what_was_put_beside_an_earlier_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".leanet-demo", "images.csv", "notes.txt"):
        (tmp_path / name).write_text("precious")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "notes.txt: no demo made this" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == [".leanet-demo", "images.csv", "notes.txt"]


@pytest.mark.parametrize("name", ["config.yaml", "images.csv", "report/notes.txt", "0/1.txt", "1/maps.zarr"])
def test_a_run_is_written_over_nothing_of_the_data_sets(
    data: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    own = data / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("precious: 1\n")
    before = sorted(data.rglob("*"))
    assert main(["run", str(data), "--out", str(data), *OPTIONS]) == 2
    assert f"{data / name.split('/')[0]}: exists" in capsys.readouterr().err
    assert own.read_text() == "precious: 1\n"
    assert sorted(data.rglob("*")) == before


@pytest.mark.parametrize("name", ["all", "held-out"])
def test_a_fit_deletes_nothing_that_no_fit_made(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    own = tmp_path / "model.work" / name / "photo.txt"
    own.parent.mkdir(parents=True)
    own.write_text("precious")
    assert main(["fit", str(data), "--out", str(tmp_path / "model"), *OPTIONS]) == 2
    assert f"{own.parent}: exists" in capsys.readouterr().err
    assert own.read_text() == "precious"
    assert [p.name for p in own.parent.parent.iterdir()] == [name]


def test_a_refused_fit_leaves_nothing(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(data), "--out", str(tmp_path / "model"), *OPTIONS, "--n-splits", "9"]) == 2
    assert "9" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.fixture(scope="module")
def colorized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the first stage of one fold done."""
    home = tmp_path_factory.mktemp("damage")
    for label, name in enumerate(("Negative", "Positive")):
        (home / "data" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32), (40 * i, 200 * label, 30)).save(home / "data" / name / f"{i}.png")
    small = [*MAPS, "--compile", "off", "--folds", "0"]
    assert main(["colorize", str(home / "data"), "--out", str(home / "out"), *small]) == 0
    return home / "out"


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("config.yaml", "[", "--out"),
        ("images.csv", "file,label\na,b\n", "leanet colorize"),
        ("splits.json", "{}", "splits.json"),
        ("0/maps.zarr/zarr.json", "{}", "leanet colorize"),
        ("0/maps.zarr/delta_e/zarr.json", "no json", "leanet colorize"),
    ],
)
def test_damaged_run_folders(
    colorized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, remedy: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(colorized, run)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text(content)
    capsys.readouterr()
    options = ["--adn", "CNN", "--caan", "none", "--folds", "0", "--epochs", "1"]
    assert main(["detect", str(run), *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert name.split("/")[-1] in lines[0] or "maps.zarr" in lines[0]
    assert remedy in lines[0]


def test_another_map_coding_than_the_runs(
    colorized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (colorized / "config.yaml").read_bytes()
    data, options = str(colorized.parent / "data"), [*MAPS, "--map-coding", "authors"]
    assert main(["colorize", data, "--out", str(colorized), *options]) == 2
    assert "--map-coding true, now authors" in capsys.readouterr().err
    assert main(["detect", str(colorized), "--folds", "0", "--map-coding", "authors"]) == 2
    line = capsys.readouterr().err
    for text in ("--map-coding authors", "made with --map-coding true", "leanet colorize --map-coding authors"):
        assert text in line
    assert (colorized / "config.yaml").read_bytes() == before
    run = tmp_path / "run"
    shutil.copytree(colorized, run)
    (run / "config.yaml").write_text(before.decode().replace("map_coding: 'true'", "map_coding: authors"))
    assert main(["detect", str(run), "--folds", "0"]) == 2  # folds of two codings in one run
    assert "maps.zarr: made with --map-coding true" in capsys.readouterr().err


def test_missing_pixel_cache(colorized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(colorized, run)
    shutil.rmtree(run / "pixels")
    capsys.readouterr()
    assert main(["detect", str(run), "--folds", "0"]) == 2
    assert "pixel cache is missing" in capsys.readouterr().err


def test_a_pixel_cache_that_was_cut_off_is_made_anew(
    colorized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(colorized, run)
    (pixels,) = (run / "pixels").glob("*.npy")
    whole = pixels.read_bytes()
    for content in (whole[:-100], b"", whole.replace(b"|u1", b"|i1", 1), b"PK\x03\x04 an archive"):
        pixels.write_bytes(content)
        capsys.readouterr()
        assert main(["detect", str(run), "--folds", "0"]) == 2
        assert "damaged. Run `leanet colorize` to make it again" in capsys.readouterr().err
        small = [*MAPS, "--compile", "off", "--folds", "0"]
        assert main(["colorize", str(colorized.parent / "data"), "--out", str(run), *small]) == 0
        assert f"{pixels.name}: damaged; the pixel cache was made again" in capsys.readouterr().out
        assert pixels.read_bytes() == whole


def test_a_fold_with_one_normal_image_to_train_on_is_refused(data: Path, refused: Refused) -> None:
    (data / "Negative" / "3.png").unlink()
    assert "1 normal image to train on; at least 2 are needed" in refused()
    (data / "Negative" / "2.png").unlink()
    assert "2 normal images; at least 3 are needed" in refused("--n-splits", "3")


def swap_between_sides(splits: Path) -> None:
    """Exchange a train and a test image of the same class in every fold, as a person might."""
    content = json.loads(splits.read_text())
    fold = content["folds"][0]
    one, other = (next(f for f in fold[side] if f.startswith("Negative")) for side in ("train", "test"))
    text = splits.read_text().replace(one, "?").replace(other, one).replace("?", other)
    splits.write_text(text)


def test_maps_of_another_split_are_refused(
    colorized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(colorized, run)
    swap_between_sides(run / "splits.json")
    capsys.readouterr()
    assert main(["detect", str(run), "--folds", "0"]) == 2
    line = capsys.readouterr().err
    assert "maps.zarr: made from another images.csv or splits.json" in line
    assert "leanet colorize" in line


def test_maps_with_a_chunk_missing_are_refused(
    colorized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(colorized, run)
    next((run / "0" / "maps.zarr" / "delta_e").glob("c.*")).unlink()
    capsys.readouterr()
    assert main(["detect", str(run), "--folds", "0"]) == 2
    assert "damaged anomaly maps" in capsys.readouterr().err


def test_out_with_results_of_another_run_is_refused(
    colorized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(colorized, run)
    out.mkdir()
    shutil.copy(run / "images.csv", out)
    (out / "splits.json").write_text((run / "splits.json").read_text().replace('"seed": 0', '"seed": 1'))
    capsys.readouterr()
    assert main(["detect", str(run), "--folds", "0", "--out", str(out)]) == 2
    assert "results of another run" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == ["images.csv", "splits.json"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--p-rate", "1,5"], "--p-rate 1,5: expected a number."),
        (["--image-size", "abc"], "--image-size abc: expected a whole number."),
        (["--epochs", "1.5"], "--epochs 1.5: expected a whole number."),
        (["--attention-point", "1", "a"], "--attention-point 1 a: expected whole numbers."),
        (["--hold-out"], "--hold-out: expected a value after it."),
        (["--bogus", "3"], "unknown option --bogus."),
        (["--img-size", "3"], "unknown option --img-size. Did you mean --image-size?"),
        (["--imag-size", "3", "--sed", "4"], "unknown option --imag-size, --sed."),
        (["--image-size", "64", "128"], "unexpected 128."),
    ],
)
def test_a_wrong_argument_is_named_with_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert main(["run", str(tmp_path), "--out", str(tmp_path / "out"), *given]) == 2
    assert capsys.readouterr().err == f"error: {said} See leanet run --help.\n"


def test_missing_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert capsys.readouterr().err == "error: missing DATASET, --out. See leanet run --help.\n"
    assert main(["import-authors"]) == 2
    assert capsys.readouterr().err == "error: missing SOURCE, --out. See leanet import-authors --help.\n"
    assert main(["serve"]) == 2
    assert capsys.readouterr().err == "error: missing MODEL. See leanet serve --help.\n"


def test_a_config_file_may_follow_an_equals_sign(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("dataset: leaves\nimage_size: 128\n")
    assert parse("check", [f"--config={tmp_path / 'c.yaml'}"]).data.image_size == 128
