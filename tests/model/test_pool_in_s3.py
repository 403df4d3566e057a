"""Pools in S3 by the real client, s3fs, from a server on this machine: `pip install s3fs "moto[server]"`."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from leanet.cli import main
from leanet.data import remote

pytestmark = pytest.mark.slow

NAMES = ("a.png", "b.png", "c.png", "broken.png")


@pytest.fixture(scope="module")
def content() -> dict[str, bytes]:
    """Three pictures, and the beginning of one."""
    generator, found = np.random.default_rng(0), {}
    for name in NAMES:
        stream = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(stream, "PNG")
        found[name] = stream.getvalue()[: 600 if name == "broken.png" else None]
    return found


@pytest.fixture(scope="module")
def bucket(content: dict[str, bytes]) -> Iterator[str]:
    """A bucket with the pictures as objects and in a shard, and manifests of them."""
    s3fs: Any = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            patch.setenv(name, "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        forget(s3fs)
        system = s3fs.S3FileSystem()
        system.mkdir("s3://pool")
        system.pipe({f"pool/photos/{name}": data for name, data in content.items()})
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        system.pipe("pool/shards/0.tar", stream.getvalue())
        table = io.BytesIO()
        pq.write_table(pa.table({"file": [f"photos/{name}" for name in NAMES]}), table)
        system.pipe("pool/pool.parquet", table.getvalue())
        system.pipe("pool/pool.csv", b"file\n" + b"".join(f"photos/{name}\n".encode() for name in NAMES))
        yield "s3://pool"
        forget(s3fs)
    server.stop()


def forget(s3fs: Any) -> None:
    """Drop connections that were made with other credentials."""
    s3fs.S3FileSystem.clear_instance_cache()
    remote._file_system.cache_clear()
    remote._ANSWERED.clear()


@pytest.mark.parametrize("manifest", ["pool.parquet", "pool.csv", "photos/", "photos/*.png", "shards/*.tar"])
def test_answers_about_a_bucket_are_those_about_files(
    tiny_model: Path,
    bucket: str,
    content: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manifest: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name, data in content.items():
        Path("photos", name).write_bytes(data)
    assert main(["predict", str(tiny_model), "--manifest", f"{bucket}/{manifest}", "--out", "far"]) == 1
    assert main(["predict", str(tiny_model), "--manifest", "photos", "--out", "near"]) == 1
    far, near = (
        {row.pop("file").partition("::")[0].rpartition("/")[2]: row["error"] for row in rows(out)}
        for out in ("far", "near")
    )
    assert far == near
    assert set(far) == set(NAMES)


def rows(out: str) -> list[dict[str, Any]]:
    """All answers."""
    return [row for part in sorted(Path(out).glob("part-*")) for row in pq.read_table(part).to_pylist()]


@pytest.mark.parametrize("manifest", ["{}gone/pool.parquet", "{}gone/photos/", "rows.parquet", "shard.parquet"])
def test_a_missing_bucket_is_one_line(
    tiny_model: Path,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    manifest: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"file": [f"{bucket}/photos/a.png", "s3://poolgone/a.png"]}), "rows.parquet")
    pq.write_table(pa.table({"file": ["s3://poolgone/0.tar"]}), "shard.parquet")
    assert main(["predict", str(tiny_model), "--manifest", manifest.format(bucket), "--out", "answers"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "s3://poolgone" in line
    assert "no such file, folder or bucket. Check the name." in line


@pytest.mark.parametrize("manifest", ["pool.parquet", "photos/", "rows.parquet"])
def test_missing_credentials_are_one_line(
    tiny_model: Path,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    manifest: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"file": [f"{bucket}/photos/a.png"]}), "rows.parquet")
    given = manifest if manifest == "rows.parquet" else f"{bucket}/{manifest}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget(pytest.importorskip("s3fs"))
    assert main(["predict", str(tiny_model), "--manifest", given, "--out", "answers"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "access denied (Unable to locate credentials). Check the credentials." in line


def test_an_object_that_is_not_there_is_a_row(
    tiny_model: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"file": [f"{bucket}/photos/gone.png", f"{bucket}/photos/a.png"]}), "rows.parquet")
    forget(pytest.importorskip("s3fs"))
    assert main(["predict", str(tiny_model), "--manifest", "rows.parquet", "--out", "answers"]) == 1
    assert [row["error"] for row in rows("answers")] == ["no such file or directory", None]
