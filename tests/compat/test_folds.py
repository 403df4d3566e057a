"""The published program's fold folders: round trips, copies of a picture, and flat memory."""

from __future__ import annotations

import csv
import dataclasses
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_folds import (
    FILES,
    STEP,
    Made,
    assert_holds,
    make,
    make_large,
    make_run,
    parts_of_three,
    save,
    with_copies,
    with_other_things,
)
from skimage.color import rgb2lab

from leanet.cli import main
from leanet.compat import fold_files
from leanet.compat.folds import export_folds, import_folds
from leanet.config import ComputeConfig, DetectConfig, DetectorConfig
from leanet.experiment.detect import detect
from leanet.experiment.open_run import find

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

_parts_of_three = pytest.fixture(scope="module", autouse=True)(parts_of_three)


@pytest.fixture(scope="module")
def made() -> Made:
    """Twelve images of 64 px in three folds, three of them copies."""
    return with_copies(make(12, 3, 64))


@pytest.fixture(scope="module")
def good(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_other_things(made, tmp_path_factory.mktemp("good") / "folds")


@pytest.fixture(scope="module")
def large() -> Made:
    return make_large()


@pytest.fixture(scope="module")
def run(large: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that can be exported."""
    return make_run(tmp_path_factory.mktemp("large") / "run", large)


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, exported into an empty folder."""
    out = tmp_path_factory.mktemp("exported")
    export_folds(run, out)
    return out


def test_import_finds_every_image_again(made: Made, good: Path, tmp_path: Path) -> None:
    import_folds(good, tmp_path / "deep" / "run")
    run = find(tmp_path / "deep" / "run")
    assert_holds(run, made)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run"]
    for f, (_, test) in enumerate(made.sides):
        assert run.folds[f].test == tuple(f"{f}/test/{i}" for i in range(len(test)))
    hashes = [image.sha256 for image in run.images]
    assert sorted(hashes.count(h) for h in set(hashes)) == [1] * 9 + [3]


def test_import_measures_the_maps(made: Made, good: Path, tmp_path: Path) -> None:
    import_folds(good, tmp_path / "run")
    run = find(tmp_path / "run")
    assert run.map_coding == "authors"
    for f, (train, test) in enumerate(made.sides):
        attributes = run.maps(f).attributes
        normals = train[made.labels[train] == 0]
        assert attributes["coding"] == "authors"
        assert attributes["normals_p99"] == pytest.approx(np.quantile(made.maps[f, normals], 0.99), abs=2 * STEP)
        assert attributes["train_normals"] == pytest.approx(made.maps[f, normals].mean(), rel=1e-5)
        for name, label in (("test_normals", 0), ("test_anomalies", 1)):
            mean = made.maps[f, test[made.labels[test] == label]].mean()
            assert attributes[name] == pytest.approx(mean, rel=1e-5)
        means = np.array(attributes["mean_delta_e"])[run.rows(run.folds[f].train)]
        np.testing.assert_allclose(means, made.maps[f, train].mean((1, 2, 3)), rtol=1e-5)


def test_imported_run_is_one_to_detect_on(good: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    import_folds(good, tmp_path)  # an empty folder will do
    detector = DetectorConfig("CNN", "Direct", (1,), epochs=1, batch_size=4)
    compute = ComputeConfig(compile="off", precision="float32", device="cpu")
    rows = detect(DetectConfig(tmp_path, None, detector, compute, compare=False)).rows
    assert any("mean ΔE" in row.name for row in rows)
    tested = []
    for f in range(3):
        with (tmp_path / str(f) / "CNN-Direct-p1" / "predictions.csv").open(newline="") as file:
            tested += [row["file"] for row in csv.DictReader(file)]
    assert sorted(tested) == sorted(image.file for image in find(tmp_path).images)


def test_perfect_maps_are_no_damage_and_the_verbs_work(made: Made, tmp_path: Path) -> None:
    perfect = save(dataclasses.replace(made, maps=np.zeros_like(made.maps)), tmp_path / "folds")
    run = tmp_path / "run"
    assert main(["import-authors", str(perfect), "--out", str(run)]) == 0
    assert find(run).maps(0).normals_p99 > 0
    options = ["--adn", "CNN", "--caan", "Direct", "--attention-point", "1", "--epochs", "1", "--folds", "0"]
    assert main(["detect", str(run), *options, "--compile", "off", "--no-compare"]) == 0
    assert (run / "report" / "CNN-Direct-p1_examples.png").is_file()
    assert not (run / "report" / "colorizer_loss.png").exists()


def test_export_writes_what_the_published_program_reads(large: Made, exported: Path) -> None:
    lightness = rgb2lab(large.images)[..., :1] / 100
    for f, sides in enumerate(large.sides):
        loaded = {file: np.load(exported / str(f) / file) for file in FILES}
        assert {path.name for path in (exported / str(f)).iterdir()} == set(FILES)
        for name, numbers in zip(("arr_0", "arr_1"), sides, strict=True):
            rgb, colored, attention, labels = (loaded[file][name] for file in FILES)
            assert [a.dtype.str for a in (rgb, colored, attention, labels)] == ["<f4", "<f4", "<f4", "<i8"]
            assert [a.flags.c_contiguous for a in (rgb, colored, attention)] == [True] * 3
            np.testing.assert_array_equal(rgb, large.images[numbers].astype(np.float32) / 255)
            np.testing.assert_array_equal(labels, large.labels[numbers])
            assert colored.min() >= 0
            assert colored.max() <= 1
            np.testing.assert_allclose(colored[..., :1], lightness[numbers], rtol=0, atol=1e-5)
            stored = np.rint(large.colored[f, numbers, ..., 1:] * 255) / 255
            np.testing.assert_allclose(colored[..., 1:], stored, rtol=0, atol=1e-6)
            np.testing.assert_allclose(attention, large.maps[f, numbers], rtol=0, atol=STEP / 2 + 1e-5)
            assert attention.shape == (len(numbers), 256, 256, 1)


def test_exported_files_are_as_savez_makes_them(exported: Path) -> None:
    for path in exported.glob("*/*.npz"):
        with zipfile.ZipFile(path) as file:
            assert file.testzip() is None
            assert file.namelist() == ["arr_0.npy", "arr_1.npy"]
            assert {member.compress_type for member in file.infolist()} == {zipfile.ZIP_STORED}
    assert not list(exported.parent.glob("*.partial"))


def test_arrays_may_grow_beyond_what_a_plain_zip_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)  # really 2 GB, which real sets exceed
    rows = np.arange(600, dtype=np.float32).reshape(3, 200)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        fold_files.write_rows(file, "arr_0", rows.shape, [rows[:2], rows[2:]])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["arr_0"], rows)
    np.testing.assert_array_equal(np.concatenate([*fold_files.read_rows(tmp_path / "a.npz", "arr_0")]), rows)


def test_export_then_import_is_the_same_run(large: Made, run: Path, exported: Path, tmp_path: Path) -> None:
    import_folds(exported, tmp_path / "again")
    again, before = find(tmp_path / "again"), find(run)
    assert_holds(again, large)
    for f, (old, new) in enumerate(zip(before.folds, again.folds, strict=True)):
        for files, new_files in ((old.train, new.train), (old.test, new.test)):
            rows, new_rows = before.rows(files), again.rows(new_files)
            one, other = before.maps(f), again.maps(f)
            np.testing.assert_array_equal(one.delta_e(rows), other.delta_e(new_rows))
            np.testing.assert_array_equal(one.coded_ab(rows), other.coded_ab(new_rows))


def peak_of(action: Callable[[], object]) -> int:
    """The most memory, in bytes, that numpy and Python held during an action, above what they held before."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_import_takes_no_more_memory_for_more_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_files, "CHUNK", 4)
    peaks: list[int] = []
    for n in (8, 8, 56):  # the first only warms up what is loaded once
        folds = save(make(n, 2, 64), tmp_path / f"folds {len(peaks)}")
        peaks.append(peak_of(lambda f=folds: import_folds(f, f.with_name(f"run of {f.name}"))))  # type: ignore[misc]
    longer_by = (56 - 8) // 2 * 64 * 64 * 3 * 4
    assert peaks[2] - peaks[1] < longer_by / 2


def test_export_never_holds_a_whole_array(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_files, "CHUNK", 1)
    assert peak_of(lambda: export_folds(run, tmp_path / "out")) < 8 * 256 * 256 * 3 * 4
