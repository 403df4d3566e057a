"""Sources of images that are no folder: the contract, what breaks it, and the way into the cache and a run."""

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from leanet.cli import main, parse
from leanet.config import ColorizerConfig, ComputeConfig, DataConfig, DetectorConfig, RunConfig
from leanet.config.options import to_options
from leanet.config.shown import AUTO
from leanet.data import registry
from leanet.data.cache import build_cache
from leanet.data.check import check_dataset
from leanet.data.dataset import Dataset, Sample
from leanet.data.decode import decode_bytes, resize
from leanet.data.registry import list_images, register_source
from leanet.data.source import DataSource
from leanet.errors import OptionError, UserError
from leanet.experiment.predictions import read_predictions
from leanet.experiment.run import run
from leanet.experiment.run_folder import RunFolder, write_config

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

SHELVES: dict[str, Mapping[str, tuple[bytes, int]]] = {}
"""Data sets in memory: by name, the bytes and the label of each image."""

IN_MEMORY = DataConfig(source="memory", image_size=64, n_splits=2)


class Memory(DataSource):
    def scan(self) -> Dataset:
        shelf = SHELVES[self.dataset.name]
        samples = [Sample(name, label, read=partial(bytes, data)) for name, (data, label) in shelf.items()]
        return Dataset(self.dataset, tuple(samples), ())


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source under its name, and twelve pictures on a shelf of it."""
    monkeypatch.setattr(registry, "SOURCES", dict(registry.SOURCES))
    register_source("memory")(Memory)
    monkeypatch.setitem(SHELVES, "shelf", {f"leaf {i}": (png(i), int(i >= 6)) for i in range(12)})


def png(seed: int) -> bytes:
    stream = BytesIO()
    Image.fromarray(picture(70 + seed, 64, seed)).save(stream, "PNG")
    return stream.getvalue()


def test_a_dictionary_of_bytes_fills_the_cache(tmp_path: Path) -> None:
    dataset = list_images(Path("shelf"), IN_MEMORY, 0)
    assert [(s.file, s.label, s.group) for s in dataset.samples[5:7]] == [
        ("leaf 5", 0, "leaf 5"),
        ("leaf 6", 1, "leaf 6"),
    ]
    cache = build_cache(dataset, 64, tmp_path)
    assert [info.file for info in cache.infos] == list(SHELVES["shelf"])
    for row, (name, (data, _)) in enumerate(SHELVES["shelf"].items()):
        np.testing.assert_array_equal(cache.pixels[row], resize(decode_bytes(data, Path(name)).pixels, 64))
        assert cache.infos[row].sha256 == hashlib.sha256(data).hexdigest()
    assert check_dataset(dataset, 2).problems == ()


def test_groups_and_the_limit_apply_to_every_source(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("file,group\nleaf 0,one\nleaf 1,one\n")
    grouped = list_images(Path("shelf"), dataclasses.replace(IN_MEMORY, groups=tmp_path / "groups.csv"), 0)
    assert [s.group for s in grouped.samples[:3]] == ["one", "one", "leaf 2"]
    few = list_images(Path("shelf"), dataclasses.replace(IN_MEMORY, max_per_class=2), 0)
    assert [len(few.of_class(label)) for label in (0, 1)] == [2, 2]
    normals = list_images(Path("shelf"), IN_MEMORY, 0, normals_only=True)
    assert [s.file for s in normals.samples] == [f"leaf {i}" for i in range(6)]


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([Sample("a", 0), Sample("b", 1), Sample("a", 1)], "shelf: 2 images are named a. Give each"),
        ([Sample("a", 2)], r"shelf/a: label 2; expected 0 \(normal\) or 1 \(anomalous\)"),
        ([Sample("a", True)], "shelf/a: label True; expected 0"),
        ([Sample("", 0)], "shelf: .*file=''.*: expected text"),
        ([Sample("a\udc80", 0)], "expected text"),
        ([Sample("a", 0, kind=3)], "kind=3.*: expected text"),  # type: ignore[arg-type]
        ([], "shelf: no images in it"),
    ],
)
def test_images_without_names_or_labels_of_their_own_are_refused(
    samples: list[Sample], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Memory, "scan", lambda _: Dataset(Path("shelf"), tuple(samples), ()))
    with pytest.raises(UserError, match=text):
        list_images(Path("shelf"), IN_MEMORY, 0)


def test_what_cannot_be_read_is_named_like_an_unreadable_file(tmp_path: Path) -> None:
    def gone() -> bytes:
        raise OSError("the server is away")

    whole = list_images(Path("shelf"), IN_MEMORY, 0)
    dataset = dataclasses.replace(whole, samples=(*whole.samples, Sample("leaf 12", 1, read=gone)))
    with pytest.raises(UserError, match=r"shelf/leaf 12: not a readable image \(the server is away\)\. Remove"):
        build_cache(dataset, 64, tmp_path / "cache")
    assert check_dataset(dataset, 2).unreadable == (("leaf 12", "the server is away"),)
    cache = build_cache(dataset, 64, tmp_path / "cache", skip_unreadable=True)
    assert (len(cache.infos), cache.skipped) == (12, (("leaf 12", "the server is away"),))
    text = dataclasses.replace(whole, samples=(Sample("a", 0, read=lambda: "text"),))  # type: ignore[arg-type, return-value]
    with pytest.raises(UserError, match="shelf/a: its source read str; expected the bytes of an image file"):
        build_cache(text, 64, tmp_path / "other")


def test_an_unknown_source_is_answered_with_the_known() -> None:
    with pytest.raises(
        OptionError, match=r"source no: no such source .* choose from folder, label-studio, manifest, memory\."
    ):
        list_images(Path("shelf"), DataConfig(source="no"), 0)


def test_the_command_line_reads_folders_and_says_so_of_a_file_that_asks_for_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--help"]) == 0
    assert "--source" not in capsys.readouterr().out
    file = tmp_path / "config.yaml"
    for source in (AUTO, "memory"):
        write_config(file, to_options(RunConfig(Path("shelf"), tmp_path, DataConfig(source=source))), {})
        if source == AUTO:
            assert parse("run", ["--config", str(file)]).data == DataConfig()
            assert parse("detect", ["--config", str(file), "a-run"]).run == Path("a-run")
    with pytest.raises(UserError, match=r"config\.yaml: source memory: only Python callers can set this"):
        parse("run", ["--config", str(file)])


def test_a_run_on_pictures_that_lie_in_no_folder(tmp_path: Path) -> None:
    config = RunConfig(
        Path("shelf"),
        tmp_path / "run",
        IN_MEMORY,
        ColorizerConfig(colorizer="AE", colorizer_epochs=1),
        DetectorConfig(adn="CNN", caan="Direct", epochs=1),
        ComputeConfig(folds="0"),
        compare=False,
    )
    run(config)
    folder = RunFolder(config.out)
    assert [image.file for image in folder.read_images()] == list(SHELVES["shelf"])
    predicted = read_predictions(folder.fold(0).detector(config.detector.name).predictions)
    assert set(predicted.files) < set(SHELVES["shelf"])
    assert folder.read_config()["source"] == "memory"
