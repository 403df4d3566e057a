"""The decode-once cache: what it holds, when it is found again, and what a damaged one or a full disk does."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from pictures import of_files, picture
from PIL import Image

from leanet.data.cache import Cache, build_cache, open_cache
from leanet.data.decode import decode, resize
from leanet.errors import UserError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    root.mkdir()
    for index in range(5):
        Image.fromarray(picture(20 + index, 30, seed=index)).save(root / f"{index}.png")
    return root


FILES = [f"{index}.png" for index in range(5)]


def test_cache_holds_the_resized_pixels_in_order(images: Path, tmp_path: Path) -> None:
    done: list[int] = []
    cache = build_cache(of_files(images, FILES), 16, tmp_path / "cache", on_progress=done.append)
    assert done == [1, 2, 3, 4, 5]
    assert isinstance(cache.pixels, np.memmap)
    assert not cache.pixels.flags.writeable
    assert (cache.pixels.shape, cache.pixels.dtype) == ((5, 16, 16, 3), np.uint8)
    for row, file in enumerate(FILES):
        np.testing.assert_array_equal(cache.pixels[row], resize(decode(images / file), 16))
        assert (cache.infos[row].width, cache.infos[row].height) == (30, 20 + row)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".npy"]


def test_second_call_decodes_nothing(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_cache(of_files(images, FILES), 16, tmp_path / "cache")
    monkeypatch.setattr("leanet.data.cache.decode_bytes", None)
    second = build_cache(of_files(images, FILES), 16, tmp_path / "cache")
    assert same(first, second)
    (images / "0.png").rename(images / "renamed.png")
    renamed = build_cache(of_files(images, ["renamed.png", *FILES[1:]]), 16, tmp_path / "cache")
    assert renamed.infos[0].file == "renamed.png"
    for files, size in ((FILES[1:], 16), (["renamed.png", *FILES[:0:-1]], 16), (["renamed.png"], 32)):
        with pytest.raises(TypeError):  # other content, order or size: it would have to decode
            build_cache(of_files(images, files), size, tmp_path / "cache")


def same(first: Cache, second: Cache) -> bool:
    return (first.infos, first.skipped) == (second.infos, second.skipped) and bool(
        np.array_equal(first.pixels, second.pixels)
    )


def test_unreadable_files_are_all_counted_and_nothing_is_left(images: Path, tmp_path: Path) -> None:
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:60])
    (images / "3.png").write_bytes(b"")
    (images / "4.png").unlink()
    with pytest.raises(UserError, match=r"1\.png: not a readable image \(truncated file\), and 2 more\. Rem"):
        build_cache(of_files(images, FILES), 16, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_unreadable_files_are_skipped_with_a_list(images: Path, tmp_path: Path) -> None:
    (images / "1.png").write_bytes(b"")
    (images / "3.png").write_text("text")
    made = build_cache(of_files(images, FILES), 16, tmp_path / "cache", skip_unreadable=True)
    found = build_cache(of_files(images, FILES), 16, tmp_path / "cache", skip_unreadable=True)
    for cache in (made, found):
        assert [info.file for info in cache.infos] == ["0.png", "2.png", "4.png"]
        assert cache.skipped == (
            ("1.png", "empty file"),
            ("3.png", "not an image, or of an unknown format"),
        )
        for row, info in enumerate(cache.infos):
            np.testing.assert_array_equal(cache.pixels[row], resize(decode(images / info.file), 16))
    with pytest.raises(UserError, match=r"1\.png: .* and 1 more"):
        build_cache(of_files(images, FILES), 16, tmp_path / "cache")


def test_no_readable_image_unwritable_folder_and_full_disk(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no readable image"):
        build_cache(of_files(images, []), 16, tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the pixel cache .*--out"):
        build_cache(of_files(images, FILES), 16, tmp_path / "file")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="Free some space"):
        build_cache(of_files(images, FILES), 16, tmp_path / "cache")
    (images / "1.png").write_bytes(b"")
    left = iter([10_000, 10])  # the rows of readable files are written a second time
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": next(left)}))
    with pytest.raises(UserError, match="Free some space"):
        build_cache(of_files(images, FILES), 16, tmp_path / "cache", skip_unreadable=True)
    assert not list((tmp_path / "cache").iterdir())


def test_interrupted_build_leaves_no_cache(images: Path, tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(of_files(images, FILES), 16, tmp_path / "cache", on_progress=stop)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("place", [200, -1])
def test_a_changed_cache_is_made_anew(images: Path, tmp_path: Path, place: int) -> None:
    made = build_cache(of_files(images, FILES), 16, tmp_path / "cache")
    before = made.path.read_bytes()
    changed = bytearray(before)
    changed[place] ^= 1
    made.path.write_bytes(changed)
    with pytest.raises(ValueError, match="changed pixels"):
        open_cache(made.path)
    healed = build_cache(of_files(images, FILES), 16, tmp_path / "cache")
    assert (made.healed, healed.healed, healed.path.read_bytes()) == (False, True, before)
    assert healed.sha256 == hashlib.sha256(before).hexdigest()
    np.testing.assert_array_equal(open_cache(made.path), healed.pixels)


def test_a_cache_of_an_earlier_version_without_a_hash_is_read(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_cache(of_files(images, FILES), 16, tmp_path / "cache")
    facts = first.path.with_suffix(".json")
    facts.write_text(json.dumps({k: v for k, v in json.loads(facts.read_text()).items() if k != "sha256"}))
    monkeypatch.setattr("leanet.data.cache.decode_bytes", None)
    assert same(first, build_cache(of_files(images, FILES), 16, tmp_path / "cache"))
    facts.unlink()
    np.testing.assert_array_equal(open_cache(first.path), first.pixels)
    facts.write_text("[]")
    with pytest.raises(ValueError, match="no facts"):
        open_cache(first.path)
