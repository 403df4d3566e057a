"""The report on a dataset: everything found is counted, and what would stop a run is a problem."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from profiles import DISPLAY_P3, SRGB, rgb, srgb_curve

from leanet.cli import main, parse
from leanet.data.check import check_dataset
from leanet.data.dataset import with_groups
from leanet.data.sources.folder import scan

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

SHARED = Path(__file__).parents[3] / "shared" / "data"


def save(path: Path, size: tuple[int, int] = (20, 10), mode: str = "RGB", seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


def test_a_good_set_has_no_problems(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / f"Negative/{index}.png", seed=index)
        save(tmp_path / f"Positive/rust/{index}.png", (30, 10 + index), "RGBA", seed=9 + index)
    done: list[int] = []
    report = check_dataset(scan(tmp_path), 3, on_progress=done.append)
    assert report.problems == ()
    assert done[-1] == 6
    assert (report.counts, report.kinds) == ({"normal": 3, "anomalous": 3}, {"rust": 3})
    assert (report.smallest, report.median, report.largest) == ((20, 10), (30, 10), (30, 12))
    assert (report.distinct_sizes, report.groups, report.largest_group[1]) == (4, 6, 1)
    assert report.formats == {"PNG RGB": 3, "PNG RGBA": 3}
    assert report.converted == {"RGBA to RGB": 3}


def test_problems_are_one_line_each(tmp_path: Path) -> None:
    for index in range(4):
        save(tmp_path / f"Negative/{index}.png", seed=index)
    save(tmp_path / "Negative/copy.png", seed=3)
    save(tmp_path / "Positive/same.png", seed=0)
    (tmp_path / "Positive/empty.png").touch()
    (tmp_path / "Positive/text.png").write_text("text")
    report = check_dataset(scan(tmp_path), 3)
    assert [file for file, _ in report.unreadable] == ["Positive/empty.png", "Positive/text.png"]
    assert report.duplicates.within == (("Negative/3.png", "Negative/copy.png"),)
    assert report.duplicates.across == (("Negative/0.png", "Positive/same.png"),)
    assert len(report.problems) == 4
    assert all("\n" not in problem for problem in report.problems)
    assert "1 anomalous images" in report.problems[0]
    assert "same picture in both classes" in report.problems[1]
    assert "empty file" in report.problems[2]
    assert len(check_dataset(scan(tmp_path), 3, skip_unreadable=True).problems) == 2


def test_profiles_and_shapes_are_counted(tmp_path: Path) -> None:
    wide, same = rgb("Display P3", DISPLAY_P3, srgb_curve()), rgb("sRGB IEC61966-2.1", SRGB, srgb_curve())
    sizes = [(40, 30), (40, 30), (30, 40), (60, 20), (21, 20), (20, 20)]
    for i, (size, profile) in enumerate(zip(sizes, (wide, wide, same, b"rubbish", b"", b""), strict=True)):
        path = tmp_path / ("Negative", "Positive")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, icc_profile=profile)
    report = check_dataset(scan(tmp_path), 2)
    assert report.profiles == {"Display P3 (converted to sRGB)": 2, "sRGB IEC61966-2.1 (sRGB)": 1}
    assert report.broken_profiles == 1
    assert report.squeezed == 4
    assert report.aspect == pytest.approx(4 / 3)


def test_anomalies_without_a_kind_are_counted_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(2):
        for j, place in enumerate(("Negative", "Positive", "Positive/rust")):
            save(tmp_path / place / f"{i}{j}.png", seed=10 * i + j)
    assert main(["check", str(tmp_path), "--n-splits", "2", "--no-estimate"]) == 2
    assert "kinds of anomaly: without a kind 2, rust 2" in capsys.readouterr().out.splitlines()


def test_normal_images_alone_are_checked_for_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(4):
        save(tmp_path / "good" / f"{i}.png", seed=i)
    assert main(["check", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "images: 4 normal, 0 anomalous" in lines
    assert any(line.startswith("note: normal images alone.") and "`leanet fit`" in line for line in lines)
    assert main(["check", str(tmp_path), "--abnormal-dir", "faulty"]) == 2
    save(tmp_path / "rust" / "5.png", seed=5)
    assert main(["check", str(tmp_path)]) == 2
    shutil.rmtree(tmp_path / "rust")
    (tmp_path / "good" / "4.png").write_bytes(b"no picture")
    assert main(["check", str(tmp_path)]) == 2
    (tmp_path / "bad").mkdir()
    assert main(["check", str(tmp_path)]) == 2
    (tmp_path / "bad" / "5.psd").write_bytes(b"8BPS" + bytes(200))
    assert main(["check", str(tmp_path)]) == 2
    assert "no anomalous images in it" in capsys.readouterr().err


def test_hundreds_of_copies_and_unreadable_files_are_counted_not_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, name in enumerate(("Negative", "Positive")):
        for i in range(6):
            save(tmp_path / name / f"{i}.png", seed=10 * label + i)
    for i in range(60):
        shutil.copy(tmp_path / "Negative" / "0.png", tmp_path / "Negative" / f"copy{i:03}.png")
        (tmp_path / "Positive" / f"empty{i:03}.png").touch()
    for i in range(12):
        for copy in range(2):
            save(tmp_path / "Positive" / f"pair{i:02}{copy}.png", seed=100 + i)
    assert main(["check", str(tmp_path), "--n-splits", "2", "--no-estimate"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 45
    assert any(line.endswith("copy008.png, 51 more") for line in lines)
    assert {"50 more are unreadable", "3 more sets of duplicates", "50 more problems"} <= set(lines)


def test_a_first_look_is_offered_with_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label, name in enumerate(("Negative", "Positive")):
        for i in range(4):
            save(tmp_path / "my set" / name / f"{i}.png", seed=10 * label + i)
    own = ["--n-splits", "2", "--colorizer", "Unet", "--adn", "CNN", "--caan", "Direct", "--image-size", "160"]
    assert main(["check", str(tmp_path / "my set"), *own]) == 0
    said = capsys.readouterr().out
    offered = re.search(r"a quick run takes \d+ (?:s|min): leanet (.*)", said)
    assert offered
    config = parse("run", shlex.split(offered[1])[1:])
    assert config.dataset == tmp_path / "my set"
    assert (config.data.image_size, config.compute.folds) == (128, "0")
    assert (config.data.n_splits, config.detector.adn, config.detector.caan) == (2, "CNN", "Direct")


def test_nothing_readable(tmp_path: Path) -> None:
    for file in ("Negative/a.png", "Positive/b.png"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    report = check_dataset(scan(tmp_path), 2)
    assert (report.smallest, report.formats) == (None, {})
    assert len(report.problems) == 3


def test_real_pepper() -> None:
    root = SHARED / "plantvillage_pepper"
    if not root.is_dir():
        pytest.skip(f"no real images at {root}")
    report = check_dataset(with_groups(scan(root), root / "groups.csv"), 5)
    assert (report.unreadable, report.duplicates.across) == ((), ())
    assert report.formats == {"JPEG RGB": 2474, "PNG RGBA": 1}
    assert (report.smallest, report.largest, report.distinct_sizes) == ((256, 256), (256, 256), 1)
    assert report.groups == 342
