"""A CSV or Parquet manifest as a data set: its columns, where its files lie, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import picture
from PIL import Image

from leanet.cli import main
from leanet.config import DataConfig
from leanet.data.cache import build_cache
from leanet.data.dataset import Dataset
from leanet.data.masks import mask_pixels, refuse_other_sizes
from leanet.data.registry import list_images, open_source
from leanet.errors import UserError

HEADER = "file,label,kind,group,split,mask,camera"
ROWS = (
    "a.png,0,,tree 1,train,,canon",
    "b.png,normal,,tree 1,test,,nikon",
    "c.png,1,rust,tree 2,train,m.png,canon",
    "sub/d.png,Positive,,,test,,nikon",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with four pictures of 36 x 24 pixels and a mask."""
    (tmp_path / "sub").mkdir()
    for seed, name in enumerate(("a.png", "b.png", "c.png", "sub/d.png")):
        Image.fromarray(picture(24, 36, seed)).save(tmp_path / name)
    Image.fromarray(np.full((24, 36), 255, np.uint8)).save(tmp_path / "m.png")
    return tmp_path


def written(home: Path, *rows: str, header: str = HEADER) -> Path:
    path = home / "m.csv"
    path.write_text("\n".join((header, *rows)), encoding="utf-8")
    return path


def facts(dataset: Dataset) -> list[tuple[object, ...]]:
    return [(s.file, s.label, s.kind, s.group, s.mask, s.facts.get("camera")) for s in dataset.samples]


EXPECTED = [
    ("a.png", 0, "", "tree 1", None, "canon"),
    ("b.png", 0, "", "tree 1", None, "nikon"),
    ("c.png", 1, "rust", "tree 2", "m.png", "canon"),
    ("sub/d.png", 1, "", "sub/d.png", None, "nikon"),
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_rows_of_a_csv_file(home: Path, delimiter: str) -> None:
    path = written(home, *(row.replace(",", delimiter) for row in ROWS), header=HEADER.replace(",", delimiter))
    dataset = list_images(path, DataConfig(), 0)
    assert facts(dataset) == EXPECTED
    assert "column split: not used" in dataset.notes[0]
    assert [info.file for info in build_cache(dataset, 64, home / "cache").infos] == [row[0] for row in EXPECTED]


def test_the_same_in_parquet_with_numbers_gaps_and_bytes(home: Path) -> None:
    names, rows = HEADER.split(","), [row.split(",") for row in ROWS]
    columns = {name: [row[i] or None for row in rows] for i, name in enumerate(names)}
    table = pa.table({**columns, "label": [0.0, 0.0, 1.0, 1.0], "thumbnail": [b"x"] * 4, "box": [[1]] * 4})
    pq.write_table(table, home / "m.parquet")
    assert facts(list_images(home / "m.parquet", DataConfig(), 0)) == EXPECTED
    (home / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"broken\.parquet: not a readable Parquet file"):
        list_images(home / "broken.parquet", DataConfig(), 0)


def test_other_names_of_columns_and_of_the_normal_label(home: Path) -> None:
    path = written(home, "a.png,Healthy", "b.png,healthy", "c.png,rust", "sub/d.png,scab", header="Path,Class")
    columns = ("file=path", "label=CLASS")
    found = list_images(path, DataConfig(columns=columns, normal=("healthy",)), 0)
    assert [(s.label, s.kind) for s in found.samples] == [(0, ""), (0, ""), (1, "rust"), (1, "scab")]
    with pytest.raises(UserError, match=r"m\.csv: line 2: unknown label 'Healthy'\. Write 0 or 1.* --normal"):
        list_images(path, DataConfig(columns=columns), 0)
    with pytest.raises(UserError, match=r"no normal images\. The labels are Healthy, healthy, rust, scab"):
        list_images(path, DataConfig(columns=columns, normal=("helthy",)), 0)


def test_spellings_of_a_kind_are_one_and_those_of_groups_are_said(home: Path) -> None:
    path = written(home, "a.png,0,,T 1", "c.png,1,Rust,t1", "sub/d.png,1,rust,", header="file,label,kind,group")
    found = list_images(path, DataConfig(), 0)
    assert [s.kind for s in found.samples] == ["", "Rust", "Rust"]
    assert found.notes == ("groups that differ only in case or spaces count as different: T 1 / t1",)


def test_absolute_paths_urls_and_backslashes(home: Path) -> None:
    url = (home / "c.png").as_uri()
    path = written(home, f"{home}/a.png,0", "./b.png,0", f"{url},1", "sub\\d.png,1", header="file,label")
    dataset = list_images(path, DataConfig(), 0)
    assert [s.file for s in dataset.samples] == [f"{home}/a.png", "b.png", url, "sub/d.png"]
    assert len(build_cache(dataset, 64, home / "cache").infos) == 4
    gone = list_images(written(home, "a.png,0", f"{url}x,1", header="file,label"), DataConfig(), 0)
    with pytest.raises(UserError, match=r"file:///.*c\.pngx: not a readable image \(no such file"):
        build_cache(gone, 64, home / "other")


def test_masks_may_be_urls_and_folders(home: Path) -> None:
    (home / "parts").mkdir()
    halves = np.zeros((2, 24, 36), np.uint8)
    halves[0, :12], halves[1, :, 30:] = 255, 9
    for i, half in enumerate(halves):
        Image.fromarray(half).save(home / f"parts/{i}.png")
    url = (home / "m.png").as_uri()
    path = written(home, "a.png,0,", f"c.png,1,{url}", "sub/d.png,1,parts", header="file,label,mask")
    dataset = list_images(path, DataConfig(), 0)
    infos = build_cache(dataset, 64, home / "cache").infos
    refuse_other_sizes(dataset, {info.file: (info.width, info.height) for info in infos})
    assert mask_pixels(url).all()
    np.testing.assert_array_equal(mask_pixels(str(home / "parts")), halves.any(0))


def test_a_manifest_in_an_object_store(home: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("a.png", "c.png"):
        store.pipe(f"/leaves/{name}", (home / name).read_bytes())
    store.pipe("/leaves/m.csv", b"file,label\na.png,0\nc.png,1\n")
    dataset = list_images(Path("memory://leaves/m.csv"), DataConfig(), 0)
    assert len(build_cache(dataset, 64, home / "cache").infos) == 2
    store.rm("/leaves/c.png")
    with pytest.raises(UserError, match=r"memory://leaves/c\.png: not a readable image \(no such file"):
        build_cache(dataset, 64, home / "other")
    with pytest.raises(UserError, match=r"memory://leaves/no\.csv: no such file"):
        list_images(Path("memory://leaves/no.csv"), DataConfig(), 0)


@pytest.mark.parametrize(
    ("rows", "header", "text"),
    [
        (["a.png,0", "a.png,1"], "file,label", "a.png is normal in line 2 and anomalous in line 3. Keep one label"),
        (["a.png,0", "./a.png,0"], "file,label", "a.png is in line 2 and in line 3. Keep one"),
        (["a.png,0", ",1"], "file,label", "line 3 names no file"),
        (["a.png,0", "c.png,2"], "file,label", "line 3: unknown label '2'"),
        (["a.png,0,x"], "file,label", "not a CSV file .line 2: more cells than the 2 columns"),
        (["a.png,0"], "image,label", "no column file. It has image, label; name others with --columns"),
        (["a.png,0"], "file,label,Label", "several columns label"),
        (["a.png,0"], "file,label", "no anomalous images. .*only `leanet fit` works"),
        ([], "", "no column file. It has none"),
    ],
)
def test_what_is_refused(home: Path, rows: list[str], header: str, text: str) -> None:
    with pytest.raises(UserError, match=rf"m\.csv: .*{text}"):
        list_images(written(home, *rows, header=header), DataConfig(), 0)


def test_rows_without_a_label_are_left_out_and_normal_ones_suffice_for_fit(home: Path) -> None:
    path = written(home, "a.png,0", "b.png,", "c.png,0", header="file,label")
    source = open_source(path, DataConfig())
    assert not source.has_anomalies()
    found = list_images(path, DataConfig(), 0, normals_only=True)
    assert [s.file for s in found.samples] == ["a.png", "c.png"]
    assert found.notes == ("left out, without a label: 1 of 3 rows",)


def test_missing_files_and_masks_of_another_size_are_problems_of_the_check(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (36, 25)).save(home / "tall.png")
    path = written(home, *ROWS, "e.png,1,,,,,")
    assert main(["check", str(path), "--n-splits", "2", "--no-estimate"]) == 2
    assert "e.png: not a readable image (no such file or directory)" in capsys.readouterr().out
    path = written(home, *(row.replace("m.png", "tall.png") for row in ROWS))
    assert main(["check", str(path), "--n-splits", "2", "--no-estimate"]) == 2
    assert "tall.png: the mask has 36 x 25 pixels, its image c.png 36 x 24" in capsys.readouterr().out
    path = written(home, *(row.replace("m.png", "no.png") for row in ROWS))
    assert main(["check", str(path), "--n-splits", "2", "--no-estimate"]) == 2
    assert "no.png: cannot read the mask of c.png (no such file or directory)" in capsys.readouterr().out
    path = written(home, *(row.replace("m.png", "m\0.png") for row in ROWS))
    assert main(["check", str(path), "--n-splits", "2", "--no-estimate"]) == 2
    assert "cannot read the mask of c.png (embedded null byte)" in capsys.readouterr().out
    (home / "m.txt").write_text("file,label")
    assert main(["check", str(home / "m.txt")]) == 2
    assert "no such dataset folder. A manifest's name ends in .csv or .parquet" in capsys.readouterr().err
    assert main(["check", str(home / "none.csv")]) == 2
    assert "none.csv: no such file or directory. Check the path of the manifest." in capsys.readouterr().err


@pytest.mark.parametrize("pair", ["file", "path=file", "file="])
def test_columns_are_pairs(pair: str) -> None:
    with pytest.raises(UserError, match=r"columns .*: expected FIELD=COLUMN, FIELD one of file, label, kind"):
        DataConfig(columns=(pair,))
