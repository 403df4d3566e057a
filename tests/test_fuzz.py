"""Whatever stands in a file that we read: it is read, or refused in one line, never a traceback or a crash."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from leanet.cli import main
from leanet.config import DetectConfig, RunConfig
from leanet.config.options import from_options, read_config_file, to_arguments, to_options
from leanet.data.cache import open_pixels
from leanet.data.dataset import Dataset, Sample, with_groups
from leanet.data.sources.folder import scan
from leanet.data.splits import Fold, read_splits, write_splits
from leanet.errors import UserError
from leanet.experiment.predictions import COLUMNS, read_predictions
from leanet.experiment.run_folder import DetectorFolder, RunFolder, read_config, write_config
from leanet.files import write_csv, write_json
from leanet.maps.store import ARRAYS, CHUNKS, DIGEST, Maps, MapWriter
from leanet.model.card import Card, read_card, to_json
from leanet.model.exported import OUTPUTS, PAINTED, load_exported
from leanet.model.seal import seal
from leanet.serve.server import read_token
from leanet.training.checkpoint import Checkpoint, Progress, load_weights, save_weights

QUICK, MANY = 50, 200
IMAGES, SIDE = 3, 64

HOSTILE = [
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"true", b"-1", b"0", b"1.5", b'""', b'"a"', b"[]", b"{}", b"[[1]]"),
    *(b"9" * 30, b"9" * 5000, b"0x" + b"f" * 5000, b"1:" * 3000 + b"1", b"[" * 100_000, b'{"a":' * 100_000),
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", b'"\\ud800"', b'"\\u0000"', b"\n", b"\r", b"," * 50, b'"', b"'", b"#"),
    *(b"&a [*a, *a]", b"!!python/object:os.system x", b"!!timestamp x", b"!!binary =", b"!!bool x", b"<<: 1"),
    *(b"../../../etc/passwd", b"a" * 300_000, b"2024-99-99", b"2024-01-01", b"%TAG ! x", b"---\n---\n", b"? [1]"),
]
"""Values for any place of a text: of other types, out of range, nested, of other encodings, for other parsers."""


@st.composite
def spoilt(draw: st.DrawFn, valid: bytes) -> bytes:
    """A file's content with something wrong in it, or something else altogether."""
    how = draw(st.sampled_from(["value", "value", "flip", "cut", "insert", "random"]))
    if how == "random":
        return draw(st.binary(max_size=300))
    at = draw(st.integers(0, len(valid) - 1))
    if how == "cut":
        return valid[:at]
    if how == "flip":
        data = bytearray(valid)
        for place in [at, *draw(st.lists(st.integers(0, len(valid) - 1), max_size=3))]:
            data[place] ^= draw(st.integers(1, 255))
        return bytes(data)
    hostile = draw(st.sampled_from(HOSTILE))
    if how == "insert":
        return valid[:at] + hostile + valid[at:]
    values = list(re.finditer(rb'"[^"\n]*"|[^\s",:\[\]{}]+', valid))
    chosen = values[draw(st.integers(0, len(values) - 1))]
    return valid[: chosen.start()] + hostile + valid[chosen.end() :]


@dataclass(frozen=True)
class Loader:
    """A file, and what reads it."""

    file: Path
    read: Callable[[], object]


def card(**changes: object) -> Card:
    values = {"colorizer": "Unet", "map_threshold": 4.0, "validation": {"auroc": 0.9, "what": "a test"}, **changes}
    return Card("CNN", "Direct", (2,), 64, "true", "normals", 7.5, 0.3, "made", **values)  # type: ignore[arg-type]


def small_network() -> nn.Module:
    return nn.Conv2d(1, 2, 3)


def text_loaders(folder: Path) -> dict[str, Loader]:
    """Files of text: a card, options, splits, lists of images, groups, predictions, metrics, a secret."""
    folder.mkdir()
    (folder / "model.json").write_text(to_json(card(), indent=1))
    plain = {k: v for k, v in json.loads(to_json(card())).items() if k != "card_sha256"}
    (folder / "old").mkdir()
    (folder / "old" / "model.json").write_text(json.dumps({**plain, "format": 1}))
    run = RunFolder(folder / "run")
    options = {**to_options(RunConfig(Path("leaves"), Path("out"))), "adn": "CNN"}
    write_config(run.config, options, {"pixels": "a.npy", "images_in": "/leaves", "maps_from": "/run"})
    names = [f"{kind}/{i}.png" for kind in ("Negative", "Positive") for i in range(4)]
    header = ["file", "label", "kind", "group", "mask", "sha256", "width", "height"]
    write_csv(run.images, header, [[n, int(n[0] == "P"), "", n, "", "0" * 64, 64, 64] for n in names])
    dataset = Dataset(folder, tuple(Sample(n, int(n[0] == "P"), "", n, None) for n in names), ())
    write_splits(run.splits, [Fold(tuple(names[:3] + names[4:7]), (names[3], names[7]))], 0)
    for name in names:
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).touch()
    write_csv(folder / "groups.csv", ["file", "group"], [[n, n[-5]] for n in names])
    detector = DetectorFolder(folder / "detector")
    write_csv(detector.predictions, COLUMNS, [[n, int(n[0] == "P"), 0, 0.25, 0.5, 0] for n in names])
    sides = {side: {"images": 4, "anomalous": 2} for side in ("train", "validation")}
    write_json(detector.metrics, {**sides, "epoch": 3, "adn": {"auroc": 0.5}, "caan": None})
    (folder / "token").write_text("secret\n")
    config = run.config

    def recorded() -> DetectConfig:
        return from_options(DetectConfig, read_config(config), run=folder, out=None)

    return {
        "card": Loader(folder / "model.json", lambda: read_card(folder)),
        "card of format 1": Loader(folder / "old" / "model.json", lambda: read_card(folder / "old")),
        "config file": Loader(config, lambda: to_arguments(read_config_file(config), RunConfig, config, [])),
        "recorded options": Loader(config, recorded),
        "images.csv": Loader(run.images, run.read_images),
        "splits": Loader(run.splits, lambda: read_splits(run.splits, dataset)),
        "groups": Loader(folder / "groups.csv", lambda: with_groups(scan(folder / "data"), folder / "groups.csv")),
        "predictions": Loader(detector.predictions, lambda: read_predictions(detector.predictions)),
        "metrics": Loader(detector.metrics, detector.read_metrics),
        "token": Loader(folder / "token", lambda: read_token(folder / "token")),
    }


def made_maps(path: Path) -> Path:
    writer, noise = MapWriter(path, IMAGES, SIDE), np.random.default_rng(0)
    maps = noise.uniform(0, 20, (IMAGES, SIDE, SIDE)).astype(np.float32)
    writer.write(np.arange(IMAGES), maps, noise.uniform(0, 1, (IMAGES, 2, SIDE, SIDE)).astype(np.float32))
    writer.close({"normals_p99": 9.5, "mean_delta_e": maps.mean((1, 2)).tolist(), "coding": "true"})
    return path


def exported(path: Path) -> Path:
    """A graph that is none of ours but for its outputs' names and its card."""
    import onnx
    from onnx import TensorProto, helper

    names = [*OUTPUTS, PAINTED]
    nodes = [helper.make_node("Cast", ["image"], [name], to=TensorProto.FLOAT) for name in names]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["h", "w", 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["h", "w", 3]) for name in names]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    helper.set_model_props(model, {"leanet": to_json(card())})
    onnx.save(model, path)
    seal(path, ".onnx")
    return path


def binary_loaders(folder: Path) -> dict[str, Loader]:
    """Files of bytes: maps and their parts, weights, a checkpoint, pixels, an exported model."""
    folder.mkdir()
    new, old = made_maps(folder / "new.zarr"), made_maps(folder / "old.zarr")
    group = json.loads((old / "zarr.json").read_text())
    group["attributes"] = {k: v for k, v in group["attributes"].items() if k not in (CHUNKS, ARRAYS, DIGEST)}
    (old / "zarr.json").write_text(json.dumps(group))
    torch.manual_seed(0)
    weights, plain = folder / "weights.safetensors", folder / "plain.safetensors"
    save_weights(small_network(), weights, "images")
    save_file(load_file(weights), plain, {"made_from": ""})
    network = small_network()
    optimizer = torch.optim.AdamW(network.parameters(), foreach=False)
    network(torch.zeros(1, 1, 4, 4)).sum().backward()
    optimizer.step()
    checkpoint = Checkpoint(folder / "checkpoint.safetensors", "f", 0.0)
    checkpoint.save(network, optimizer, Progress(epoch=1, sums=[0.5], history=[{"loss": 0.5}]))
    np.save(folder / "pixels.npy", np.zeros((2, 8, 8, 3), np.uint8))
    onnx = exported(folder / "m.onnx")

    def read_maps(path: Path) -> None:
        maps = Maps(path, IMAGES, SIDE, unpack=False)
        maps.verify()
        maps.delta_e(np.arange(IMAGES))
        maps.coded_ab(np.arange(IMAGES))

    parts = {
        "": "zarr.json",
        " array": "delta_e/zarr.json",
        " chunk": "delta_e/c.1.0.0",
        " colours": "recoloured_ab/c.1.0.0.0",
    }
    found = {
        f"{age} maps{part}": Loader(path / file, lambda path=path: read_maps(path))  # type: ignore[misc]
        for age, path in (("new", new), ("old", old))
        for part, file in parts.items()
    }
    return found | {
        "weights": Loader(weights, lambda: load_weights(small_network(), weights)),
        "plain weights": Loader(plain, lambda: load_weights(small_network(), plain)),
        "checkpoint": Loader(checkpoint.path, lambda: checkpoint.load(network, optimizer)),
        "pixels": Loader(folder / "pixels.npy", lambda: open_pixels_or_refuse(folder / "pixels.npy")),
        "onnx": Loader(onnx, lambda: load_exported(onnx)),
    }


def open_pixels_or_refuse(path: Path) -> None:
    """What reads a pixel cache turns these two into a line of its own."""
    try:
        open_pixels(path)
    except (OSError, ValueError) as error:
        raise UserError(" ".join(str(error).split())[:100]) from None


@pytest.fixture(scope="module")
def loaders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loader]:
    home = tmp_path_factory.mktemp("fuzz")
    return text_loaders(home / "text") | binary_loaders(home / "binary")


TEXTS = ["card", "card of format 1", "config file", "recorded options", "images.csv", "splits", "groups"]
TEXTS += ["predictions", "metrics", "token"]
BINARIES = [f"{age} maps{part}" for age in ("new", "old") for part in ("", " array", " chunk", " colours")]
BINARIES += ["weights", "plain weights", "checkpoint", "pixels", "onnx"]


def fuzz(loader: Loader, examples: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Read a file with so many faults, one after another."""
    valid = loader.file.read_bytes()
    loader.read()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(spoilt(valid))
    def read(content: bytes) -> None:
        loader.file.write_bytes(content)
        said = ""
        try:
            loader.read()
        except UserError as error:
            said = str(error)
        assert said.isprintable()
        assert len(said) < 1000

    try:
        read()
    finally:
        loader.file.write_bytes(valid)
        capsys.readouterr()


@pytest.mark.parametrize("name", [*TEXTS, *BINARIES])
def test_a_spoilt_file_is_read_or_refused_in_one_line(
    loaders: dict[str, Loader], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fuzz(loaders[name], QUICK, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TEXTS, *BINARIES])
def test_many_spoilt_files_are_read_or_refused_in_one_line(
    loaders: dict[str, Loader], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fuzz(loaders[name], MANY, capsys)
    assert MANY * len([*TEXTS, *BINARIES]) >= 2000


@pytest.mark.parametrize("name", [*TEXTS, *BINARIES])
def test_what_is_no_regular_file_is_not_read(loaders: dict[str, Loader], name: str) -> None:
    loader = loaders[name]
    aside = loader.file.with_name("aside")
    loader.file.rename(aside)
    try:
        for other in (lambda p: p.symlink_to("/dev/zero"), os.mkfifo):
            other(loader.file)
            if name == "checkpoint":  # its training starts over
                assert loader.read() == Progress()
            else:
                with pytest.raises(UserError):
                    loader.read()
            loader.file.unlink()
    finally:
        aside.rename(loader.file)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["info", "{model}", "--config", "/dev/zero"], "/dev/zero"),
        (["run", "{data}", "--out", "{out}", "--groups", "/dev/zero"], "/dev/zero"),
        (["serve", "{model}", "--token-file", "/dev/zero"], "/dev/zero"),
        (["info", "{model}"], "model.json"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    loaders: dict[str, Loader], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], place: str
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").symlink_to("/dev/zero")
    data = loaders["groups"].file.with_name("data")
    given = [a.format(data=data, out=tmp_path / "out", model=tmp_path / "model") for a in arguments]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert place in said
    assert "not a regular file" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [-1.0, None, float("nan"), float("inf"), True, "7.5", 10**400, [], [[2]]])
@pytest.mark.parametrize("key", ["normals_unit", "threshold", "image_size", "map_coding"])
def test_a_card_with_such_a_value_is_refused(tmp_path: Path, key: str, value: object) -> None:
    content = {k: v for k, v in json.loads(to_json(card())).items() if k != "card_sha256"}
    content |= {"format": 1, key: value}
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"model\.json: damaged, not a model's card"):
        read_card(tmp_path)


def test_every_changed_byte_of_an_exported_file_is_noticed(loaders: dict[str, Loader], tmp_path: Path) -> None:
    valid = loaders["onnx"].file.read_bytes()
    file = tmp_path / "m.onnx"
    for at in [*range(0, len(valid), 13), *range(len(valid) - 90, len(valid))]:
        file.write_bytes(valid[:at] + bytes([valid[at] ^ 1]) + valid[at + 1 :])
        with pytest.raises(UserError, match=r"m\.onnx: damaged, or not written by `leanet export`"):
            load_exported(file)
    shutil.copy(loaders["onnx"].file, file)
    assert load_exported(file).card == card()


def test_cells_longer_than_the_csv_module_reads_are_refused(loaders: dict[str, Loader]) -> None:
    loader = loaders["images.csv"]
    valid = loader.file.read_text()
    text = io.StringIO()
    csv.writer(text).writerow(["a" * 200_000, 0, "", "g", "", "0", 64, 64])
    loader.file.write_text(valid + text.getvalue())
    try:
        with pytest.raises(UserError, match=r"images\.csv: damaged"):
            loader.read()
    finally:
        loader.file.write_text(valid)
