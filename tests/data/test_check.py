"""The report on a dataset: everything found is counted, and what would stop a run is a problem."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leanet.data.check import check_dataset
from leanet.data.folder import scan

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
    assert "empty file" in report.problems[0]
    assert "same picture in both classes" in report.problems[2]
    assert "1 anomalous images" in report.problems[3]
    assert len(check_dataset(scan(tmp_path), 3, skip_unreadable=True).problems) == 2


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
    report = check_dataset(scan(root, groups=root / "groups.csv"), 5)
    assert (report.unreadable, report.duplicates.across) == ((), ())
    assert report.formats == {"JPEG RGB": 2474, "PNG RGBA": 1}
    assert (report.smallest, report.largest, report.distinct_sizes) == ((256, 256), (256, 256), 1)
    assert report.groups == 342
