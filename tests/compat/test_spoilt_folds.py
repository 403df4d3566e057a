"""The published program's fold folders: what is wrong is refused by name, and nothing half-written stays."""

from __future__ import annotations

import shutil
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_folds import FILES, Array, make, make_large, make_run, parts_of_three, with_copies, with_other_things

from leanet.compat.folds import export_folds, import_folds
from leanet.errors import UserError

Spoil = Callable[[Path], object]

_parts_of_three = pytest.fixture(scope="module", autouse=True)(parts_of_three)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_other_things(with_copies(make(12, 3, 64)), tmp_path_factory.mktemp("good") / "folds")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that can be exported."""
    return make_run(tmp_path_factory.mktemp("large") / "run", make_large())


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
        (lambda f: shutil.rmtree(f / "2"), ["every fold holds the picture", "expected once per copy"]),
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
        (change("2/RGB.npz", put(0, (4, 0, 0, 0), 0.5)), ["1x, fold 2 0x", "expected the same images"]),
        (exchange, ["every fold holds the picture", "it is tested 0x (in no fold); expected once per copy"]),
        (one_tested_twice, ["every fold holds the picture 0/test/4 1x", "tested 2x (in fold 0, 1); expected once"]),
        (
            change("1/Label.npz", lambda b: [1 - b[0], b[1]]),
            ["the same picture, labeled", "expected one label"],
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
    with pytest.raises(UserError, match=r"needs 0\.1 GB; 0\.1 GB are free"):
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
