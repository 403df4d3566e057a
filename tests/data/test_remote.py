"""Objects that cannot be read, in buckets that answer and in buckets that do not."""

from __future__ import annotations

from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from leanet.data import remote
from leanet.errors import UserError

BUCKET = "memory://leaves-of-a-store"


@pytest.fixture
def denied(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A bucket with a file; every path with a name in this set is denied."""
    names: set[str] = set()
    read = MemoryFileSystem.cat_file

    def cat_file(system: MemoryFileSystem, path: str, **given: Any) -> Any:
        if path.rpartition("/")[2] in names:
            raise PermissionError("403")
        return read(system, path, **given)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_: (_ for _ in ()).throw(PermissionError("no list")))
    monkeypatch.setattr(remote, "_ANSWERED", {})
    fsspec.filesystem("memory").pipe("/leaves-of-a-store/a.png", b"abc")
    return names


def test_a_denied_object_is_that_objects_error_while_another_can_be_read(denied: set[str]) -> None:
    denied.add("gone.png")
    assert remote.fetch(f"{BUCKET}/a.png", 0, 3) == b"abc"
    with pytest.raises(remote.NotReadError, match="permission denied"):
        remote.fetch(f"{BUCKET}/gone.png", 0, 3)


def test_a_file_that_was_deleted_since_still_tells_that_the_bucket_answers(denied: set[str]) -> None:
    assert remote.fetch(f"{BUCKET}/a.png", 0, 3) == b"abc"
    fsspec.filesystem("memory").rm("/leaves-of-a-store/a.png")
    denied.add("gone.png")
    with pytest.raises(remote.NotReadError, match="permission denied"):
        remote.fetch(f"{BUCKET}/gone.png", 0, 3)


def test_credentials_that_no_longer_hold_stop_everything(denied: set[str]) -> None:
    assert remote.fetch(f"{BUCKET}/a.png", 0, 3) == b"abc"
    denied |= {"a.png", "b.png"}
    with pytest.raises(UserError, match=r"access denied \(403\)\. Check the credentials"):
        remote.fetch(f"{BUCKET}/b.png", 0, 3)


def test_a_bucket_that_denies_the_first_object_stops_everything(denied: set[str]) -> None:
    denied.add("b.png")
    with pytest.raises(UserError, match=r"access denied \(no list\)"):
        remote.fetch(f"{BUCKET}/b.png", 0, 3)


@pytest.mark.parametrize("url", ["s3:///a.png", "gs:///a.png"])
def test_an_address_without_a_bucket_is_that_objects_error(url: str) -> None:
    with pytest.raises(remote.NotReadError, match="no bucket in the address"):
        remote.fetch(url, 0, 3)
