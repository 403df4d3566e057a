"""The published program's fold folders: round trips, copies of a picture, flat memory, and what may be spoilt."""

from __future__ import annotations

import csv
import dataclasses
import shutil
import tracemalloc
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.color import rgb2lab

from leanet.cli import main
from leanet.compat import fold_files
from leanet.compat.folds import export_folds, import_folds
from leanet.data.splits import Fold, write_splits
from leanet.errors import UserError
from leanet.experiment.detect import detect
from leanet.experiment.open_run import Run, find
from leanet.experiment.run_folder import ImageRow, MapWriter, RunFolder, write_config, write_csv
from leanet.settings import ComputeConfig, DetectConfig, DetectorConfig

STEP = 0.005
FILES = ("RGB.npz", "Colored.npz", "Attention.npz", "Label.npz")
Array = NDArray[Any]
Spoil = Callable[[Path], object]


@dataclass(frozen=True)
class Made:
    """Images with, for each fold, maps and recoloured Lab of all of them, and the order of its two sides."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    maps: NDArray[np.float32]
    colored: NDArray[np.float32]
    sides: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def make(n: int, folds: int, side: int, seed: int = 0) -> Made:
    """Image i is tested in fold i % folds; labels take turns every `folds` images; the sides are shuffled."""
    r = np.random.default_rng(seed)
    images = r.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    labels = np.arange(n) // folds % 2
    maps = 40 * r.random((folds, n, side, side, 1), dtype=np.float32)
    colored = r.random((folds, n, side, side, 3), dtype=np.float32)
    number = np.arange(n) % folds
    sides = [
        (r.permutation(np.flatnonzero(number != f)), r.permutation(np.flatnonzero(number == f)))
        for f in range(folds)
    ]
    return Made(images, labels, maps, colored, sides)


def with_copies(made: Made) -> Made:
    """Of three folds: images 1, 7 and 2 become one picture, the first two of them tested in the same fold."""
    images = made.images.copy()
    images[[7, 2]] = images[1]
    return dataclasses.replace(made, images=images)


def save(made: Made, folder: Path) -> Path:
    """Write fold folders; labels' types, compression and small errors of the colours differ, as they may."""
    for f, sides in enumerate(made.sides):
        (folder / str(f)).mkdir(parents=True)
        savez = np.savez_compressed if f == 1 else np.savez
        blur = np.float32(5e-4 if f == 2 else 0)
        shape, dtype = ((-1,), np.int64) if f == 0 else ((-1, 1), np.float32 if f == 1 else np.bool_)
        savez(folder / str(f) / "RGB.npz", *(made.images[s].astype(np.float32) / 255 - blur for s in sides))
        savez(folder / str(f) / "Colored.npz", *(made.colored[f, s] for s in sides))
        savez(folder / str(f) / "Attention.npz", *(made.maps[f, s] for s in sides))
        savez(folder / str(f) / "Label.npz", *(made.labels[s].reshape(shape).astype(dtype) for s in sides))
    return folder


def make_run(path: Path, made: Made) -> Path:
    """A run folder as stage 1 leaves it, with these images, maps and folds."""
    folder = RunFolder(path)
    folder.pixels.mkdir(parents=True)
    np.save(folder.pixels / "made.npy", made.images)
    side = made.images.shape[1]
    files = [f"leaf {i}.png" for i in range(len(made.images))]
    images = [
        ImageRow(f, int(label), "", f, "", f"hash {f}", side, side)
        for f, label in zip(files, made.labels, strict=True)
    ]
    write_csv(folder.images, [f.name for f in dataclasses.fields(ImageRow)], map(dataclasses.astuple, images))
    folds = [Fold(*(tuple(files[i] for i in side) for side in sides)) for sides in made.sides]
    write_splits(folder.splits, folds, seed=0)
    write_config(folder.config, {}, {"pixels": "made.npy"})
    run = find(path)
    for f in range(len(folds)):
        writer = MapWriter(folder.fold(f).maps, len(files), side)
        writer.write(np.arange(len(files)), made.maps[f, ..., 0], made.colored[f, ..., 1:].transpose(0, 3, 1, 2))
        writer.close({"coding": "true", "fingerprint": run.fingerprint(f), "normals_p99": 1.0})
    return path


def assert_holds(run: Run, made: Made) -> None:
    """The run has the folds of `made`, in their order, with the same pixels, labels, maps and a*b*."""
    assert len(run.folds) == len(made.sides)
    for f, (fold, sides) in enumerate(zip(run.folds, made.sides, strict=True)):
        assert sorted(fold.train + fold.test) == sorted(image.file for image in run.images)
        for files, numbers in zip((fold.train, fold.test), sides, strict=True):
            rows = run.rows(files)
            np.testing.assert_array_equal(run.pixels[rows], made.images[numbers])
            np.testing.assert_array_equal(run.labels[rows], made.labels[numbers])
            delta_e = run.maps(f).delta_e(rows)
            np.testing.assert_allclose(delta_e, made.maps[f, numbers, ..., 0], rtol=0, atol=STEP / 2 + 1e-5)
            coded_ab = run.maps(f).coded_ab(rows).transpose(0, 2, 3, 1)
            np.testing.assert_allclose(coded_ab, made.colored[f, numbers, ..., 1:], rtol=0, atol=0.5 / 255 + 1e-6)


@pytest.fixture(scope="module", autouse=True)
def _parts_of_three() -> Iterator[None]:
    """Sides of 8 and of 4 images are read and written in several parts, the last one smaller."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_files, "CHUNK", 3)
        yield


@pytest.fixture(scope="module")
def made() -> Made:
    """Twelve images of 64 px in three folds, three of them copies."""
    return with_copies(make(12, 3, 64))


@pytest.fixture(scope="module")
def good(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fold folders of `made`, with other things beside them, as in a dataset's folder."""
    folder = save(made, tmp_path_factory.mktemp("good") / "folds")
    (folder / "Positive").mkdir()
    (folder / "7").write_text("a file, no fold")
    return folder


@pytest.fixture(scope="module")
def large() -> Made:
    """Ten images of 256 px in five folds, one of them white."""
    made = make(10, 5, 256, seed=1)
    made.images[4] = 255
    return made


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


def arrays(path: Path) -> list[Array]:
    with np.load(path) as file:
        return [file["arr_0"], file["arr_1"]]


def change(file: str, edit: Callable[[list[Array]], object]) -> Spoil:
    """A spoiler that edits the arrays [train, test] of a file; what the edit returns, if a list, replaces them."""

    def spoil(folds: Path) -> None:
        both = arrays(folds / file)
        edited = edit(both)
        np.savez(folds / file, *(edited if isinstance(edited, list) else both))

    return spoil


def put(side: int, at: tuple[int, ...], value: float) -> Callable[[list[Array]], None]:
    def edit(both: list[Array]) -> None:
        both[side][at] = value

    return edit


def cut(file: str, keep: float) -> Spoil:
    def spoil(folds: Path) -> None:
        content = (folds / file).read_bytes()
        (folds / file).write_bytes(content[: int(len(content) * keep)])

    return spoil


def flip(file: str, back: int = 4) -> Spoil:
    """Flip a bit before the second array: by default a low one of the last value, which only the checksum tells."""

    def spoil(folds: Path) -> None:
        content = bytearray((folds / file).read_bytes())
        content[content.rindex(b"PK\x03\x04") - back] ^= 1
        (folds / file).write_bytes(content)

    return spoil


def shorten(file: str) -> Spoil:
    """An array whose header claims more images than there are."""

    def spoil(folds: Path) -> None:
        with zipfile.ZipFile(folds / file) as old:
            members = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(folds / file, "w") as new:
            for name, content in members.items():
                new.writestr(name, content[:-64] if name == "arr_1.npy" else content)

    return spoil


def write(file: str, content: bytes) -> Spoil:
    return lambda folds: (folds / file).write_bytes(content)


def savez(file: str, **named: Array) -> Spoil:
    return lambda folds: np.savez(folds / file, **named)  # type: ignore[arg-type]


def no_folds(folds: Path) -> None:
    for f in range(3):
        shutil.rmtree(folds / str(f))


def small_images(folds: Path) -> None:
    for f in range(3):
        for file in FILES[:3]:
            change(f"{f}/{file}", lambda both: [a[:, :48, :48] for a in both])(folds)


def smaller_second_fold(folds: Path) -> None:
    for file in FILES[:3]:
        change(f"1/{file}", lambda both: [a[:, :32, :32].repeat(2, 1).repeat(2, 2) for a in both])(folds)
        change(f"1/{file}", lambda both: [np.pad(a, ((0, 0), (0, 32), (0, 32), (0, 0))) for a in both])(folds)


def exchange(folds: Path) -> None:
    """Fold 0 tests what fold 1 tests, and trains on the rest: its own test images are tested nowhere."""
    for file in FILES:
        shutil.copy(folds / "1" / file, folds / "0" / file)


def one_tested_twice(folds: Path) -> None:
    """Fold 0 tests an image that another fold tests too, instead of training on it."""
    for file in FILES:
        change(f"0/{file}", lambda both: [both[0][1:], np.concatenate([both[1], both[0][:1]])])(folds)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: (f / "1/Colored.npz").unlink(), ["1/Colored.npz", "missing", "Attention.npz"]),
        (lambda f: (f / "2/Label.npz").unlink(), ["2/Label.npz", "missing"]),
        (lambda f: shutil.rmtree(f / "1"), ["two or more fold folders", "found 0, 2"]),
        (lambda f: shutil.copytree(f / "0", f / "4"), ["without a gap", "found 0, 1, 2, 4"]),
        (no_folds, ["two or more fold folders", "found none"]),
        (lambda f: shutil.rmtree(f / "2"), ["every fold holds the picture", "once each is expected"]),
        (lambda f: shutil.rmtree(f), ["cannot read this folder"]),
        (change("0/Attention.npz", put(1, (2, 5, 6, 0), np.nan)), ["0/Attention.npz", "image 2 of arr_1", "nan"]),
        (change("0/Attention.npz", put(0, (1, 5, 6, 0), -0.5)), ["0/Attention.npz", "image 1 of arr_0", "-0.5"]),
        (change("2/Attention.npz", put(0, (7, 0, 0, 0), np.inf)), ["2/Attention.npz", "inf", "from 0 to 328"]),
        (change("2/Attention.npz", put(0, (7, 0, 0, 0), 1e4)), ["2/Attention.npz", "10000", "from 0 to 328"]),
        (change("1/RGB.npz", put(0, (3, 1, 1, 1), 200)), ["1/RGB.npz", "image 3 of arr_0", "200", "0 to 1"]),
        (change("1/RGB.npz", put(1, (0, 1, 1, 1), np.nan)), ["1/RGB.npz", "image 0 of arr_1", "nan"]),
        (change("1/Colored.npz", put(0, (3, 1, 1, 1), -0.1)), ["1/Colored.npz", "-0.1", "0 to 1"]),
        (change("0/Label.npz", put(0, (2,), 2)), ["0/Label.npz", "label 2 of arr_0 is 2", "0 (normal)"]),
        (change("1/Label.npz", put(1, (2, 0), np.nan)), ["1/Label.npz", "label 2 of arr_1 is nan"]),
        (change("1/Label.npz", lambda b: [b[0], 0 * b[1]]), ["1/Label.npz", "arr_1 has no anomalous image"]),
        (change("1/Label.npz", lambda b: [b[0], b[1].repeat(2, 1)]), ["1/Label.npz", "(4, 2)", "(N, 1)"]),
        (change("0/Label.npz", lambda b: [b[0][:7], b[1]]), ["0/RGB.npz", "(8, 64, 64, 3)", "(7, 64, 64, 3)"]),
        (change("0/Colored.npz", lambda b: [b[0][:7], b[1]]), ["0/Colored.npz", "(7, 64", "(8, 64, 64, 3)"]),
        (change("0/Attention.npz", lambda b: [b[0][..., 0], b[1]]), ["0/Attention.npz", "(8, 64, 64, 1)"]),
        (change("0/Attention.npz", lambda b: [b[0], b[1].astype(int)]), ["0/Attention.npz", "int64", "float32"]),
        (change("0/Colored.npz", lambda b: [b[0], b[1][..., :2]]), ["0/Colored.npz", "(4, 64, 64, 2)"]),
        (change("1/Attention.npz", lambda b: [b[0], b[1][:, ::2, ::2]]), ["1/Attention.npz", "(4, 32, 32, 1)"]),
        (change("0/RGB.npz", lambda b: [b[0].ravel(), b[1]]), ["0/RGB.npz", "(98304,)", "(N, side, side, 3)"]),
        (small_images, ["0/RGB.npz", "(8, 48, 48, 3)", "a multiple of 32 from 64 to 512"]),
        (smaller_second_fold, ["1/RGB.npz", "(8, 96, 96, 3)", "(8, 64, 64, 3)", "64 px of fold 0"]),
        (change("1/RGB.npz", lambda b: [b[0]]), ["1/RGB.npz", "arr_1 (test)", "found arr_0"]),
        (savez("1/RGB.npz", x=np.zeros(3)), ["1/RGB.npz", "arr_0 (train)", "found x"]),
        (savez("1/RGB.npz"), ["1/RGB.npz", "found none"]),
        (change("0/RGB.npz", lambda b: [b[0].astype(object), b[1]]), ["0/RGB.npz", "Python objects"]),
        (change("0/Label.npz", lambda b: [b[0].astype(object), b[1]]), ["0/Label.npz", "Python objects"]),
        (change("0/Label.npz", lambda b: [b[0].astype(str), b[1]]), ["0/Label.npz", "numbers (N,)"]),
        (change("0/RGB.npz", lambda b: [np.asfortranarray(b[0]), b[1]]), ["0/RGB.npz", "Fortran order"]),
        (cut("2/Attention.npz", 0.6), ["2/Attention.npz", "cannot be read", "zip"]),
        (cut("2/RGB.npz", 0), ["2/RGB.npz", "cannot be read"]),
        (flip("0/Colored.npz"), ["0/Colored.npz", "arr_0 cannot be read", "CRC"]),
        (flip("1/Colored.npz", 40_000), ["1/Colored.npz", "arr_0"]),
        (shorten("0/Colored.npz"), ["0/Colored.npz", "arr_1 cannot be read", "(4, 64, 64, 3)"]),
        (write("0/RGB.npz", b"\x93NUMPY no zip at all"), ["0/RGB.npz", "cannot be read"]),
        (change("2/RGB.npz", put(0, (4, 0, 0, 0), 0.5)), ["1x, fold 2 0x", "the same images are expected"]),
        (exchange, ["every fold holds the picture", "it is tested 0x (in no fold); once each is expected"]),
        (one_tested_twice, ["every fold holds the picture 0/test/4 1x", "tested 2x (in fold 0, 1); once each"]),
        (
            change("1/Label.npz", lambda b: [1 - b[0], b[1]]),
            ["the same picture, labelled", "one label for each picture"],
        ),
    ],
)  # fmt: skip
def test_spoilt_folds_are_refused_and_nothing_is_written(
    good: Path, tmp_path: Path, spoil: Spoil, expected: list[str]
) -> None:
    shutil.copytree(good, tmp_path / "folds")
    spoil(tmp_path / "folds")
    with pytest.raises(UserError) as caught:
        import_folds(tmp_path / "folds", tmp_path / "deep" / "run")
    line = str(caught.value)
    assert line.startswith(str(tmp_path / "folds"))
    assert "\n" not in line
    for text in expected:
        assert text in line
    assert {path.name for path in tmp_path.iterdir()} <= {"folds"}


@pytest.mark.parametrize("action", [import_folds, export_folds])
def test_what_is_there_already_is_kept(
    good: Path, run: Path, tmp_path: Path, action: Callable[[Path, Path], None]
) -> None:
    source = good if action is import_folds else run
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="exists and is not an empty folder"):
            action(source, out)
    with pytest.raises(UserError, match="cannot write there"):
        action(source, tmp_path / "file" / "out")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_export_refuses_other_sizes_and_numbers_of_folds(tmp_path: Path) -> None:
    for name, made, expected in (
        ("size", make(10, 5, 64), "64 px and 5 folds"),
        ("folds", make(8, 2, 256), "256 px and 2 folds"),
    ):
        with pytest.raises(UserError, match=f"{expected}.*--image-size 256 --n-splits 5"):
            export_folds(make_run(tmp_path / name, made), tmp_path / "out")
    with pytest.raises(UserError, match="not a run folder"):
        export_folds(tmp_path, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_export_names_the_folds_without_maps(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "1" / "maps.zarr")
    shutil.rmtree(tmp_path / "run" / "3" / "maps.zarr")
    with pytest.raises(UserError, match=r"no anomaly maps in fold 1,3; .*--folds 1,3"):
        export_folds(tmp_path / "run", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_export_says_how_much_room_it_needs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 90_000_000))
    with pytest.raises(UserError, match=r"0\.1 GB are needed, 0\.1 GB are free"):
        export_folds(run, tmp_path / "deep" / "out")
    assert not list(tmp_path.iterdir())


def test_export_that_fails_half_way_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match=r"out: cannot write there \(No space left on device\)"):
        export_folds(run, tmp_path / "out")
    assert not list(tmp_path.iterdir())
