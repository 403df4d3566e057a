"""What a run finds damaged in its folder it makes again, says so, and comes to the same results."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from leanet.cli import main
from leanet.errors import DamagedError
from leanet.files import read_csv, write_csv
from leanet.maps.store import ARRAYS, CHUNKS, DIGEST, Maps, MapWriter
from leanet.networks.registry import build_colorizer
from leanet.reading import sha256_of
from leanet.training.checkpoint import load_weights, made_from, save_weights

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")

IMAGES, SIDE = 5, 64


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five maps of noise, each another."""
    path = tmp_path_factory.mktemp("maps") / "maps.zarr"
    writer, generator = MapWriter(path, IMAGES, SIDE), np.random.default_rng(0)
    maps = generator.uniform(0, 20, (IMAGES, SIDE, SIDE)).astype(np.float32)
    writer.write(np.arange(IMAGES), maps, generator.uniform(0, 1, (IMAGES, 2, SIDE, SIDE)).astype(np.float32))
    writer.close({"normals_p99": 9.5, "mean_delta_e": maps.mean((1, 2)).tolist(), "coding": "true"})
    return path


@pytest.fixture
def maps(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "maps.zarr"))


def change_attribute(path: Path, **values: object) -> None:
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"] |= values
    (path / "zarr.json").write_text(json.dumps(content))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda p: flip(p / "delta_e" / "c.2.0.0"),
    "a flipped bit of the colours": lambda p: flip(p / "recoloured_ab" / "c.4.0.0.0"),
    "two exchanged": lambda p: shutil.copy(p / "delta_e" / "c.1.0.0", p / "delta_e" / "c.3.0.0"),
    "an empty one": lambda p: (p / "delta_e" / "c.0.0.0").write_bytes(b""),
    "one missing": lambda p: (p / "delta_e" / "c.0.0.0").unlink(),
    "another unit": lambda p: change_attribute(p, normals_p99=9.6),
    "other hashes": lambda p: change_attribute(p, **{CHUNKS: {"delta_e": "", "recoloured_ab": ""}}),
    "no digest": lambda p: change_attribute(p, **{DIGEST: None}),
    "a changed description": lambda p: (p / "delta_e" / "zarr.json").write_text(
        (p / "delta_e" / "zarr.json").read_text().replace('"clevel": 5', '"clevel": 6')
    ),
    "no JSON": lambda p: (p / "zarr.json").write_text("["),
    "nested": lambda p: (p / "zarr.json").write_text("[" * 100_000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_or_exchanged_maps_are_noticed(maps: Path, damage: str) -> None:
    Maps(maps, IMAGES, SIDE).verify()
    DAMAGES[damage](maps)
    with pytest.raises(DamagedError, match=r"maps.zarr: damaged anomaly maps. Run `leanet colorize` to make"):
        Maps(maps, IMAGES, SIDE).verify()


@pytest.mark.parametrize("unpack", [True, False])
def test_reading_alone_notices_a_changed_chunk(maps: Path, unpack: bool) -> None:
    flip(maps / "delta_e" / "c.2.0.0")
    with pytest.raises(DamagedError):
        Maps(maps, IMAGES, SIDE, unpack).delta_e(np.array([2]))
    flip(maps / "recoloured_ab" / "c.2.0.0.0")
    with pytest.raises(DamagedError):
        Maps(maps, IMAGES, SIDE, unpack).coded_ab(np.array([2]))


def test_maps_of_earlier_versions_are_read_and_have_the_same_identity(maps: Path) -> None:
    now = Maps(maps, IMAGES, SIDE)
    content = json.loads((maps / "zarr.json").read_text())
    content["attributes"] = {k: v for k, v in content["attributes"].items() if k not in (CHUNKS, ARRAYS, DIGEST)}
    (maps / "zarr.json").write_text(json.dumps(content))
    before = Maps(maps, IMAGES, SIDE)
    before.verify()
    assert before.identity == now.identity
    np.testing.assert_array_equal(before.delta_e(np.arange(IMAGES)), now.delta_e(np.arange(IMAGES)))
    (maps / "delta_e" / "c.0.0.0").write_bytes(b"random bytes, no chunk")
    with pytest.raises(DamagedError):
        before.verify()


@pytest.mark.parametrize("shape", [[5, 10**6, 10**6], [10**12, 64, 64], [5, 32, 32]])
def test_a_hostile_description_takes_no_memory(maps: Path, shape: list[int]) -> None:
    content = json.loads((maps / "zarr.json").read_text())
    content["attributes"] = {"normals_p99": 9.5, "mean_delta_e": [1.0] * IMAGES}  # as of an earlier version
    (maps / "zarr.json").write_text(json.dumps(content))
    described = json.loads((maps / "delta_e" / "zarr.json").read_text())
    described["shape"] = shape
    described["chunk_grid"]["configuration"]["chunk_shape"] = [1, *shape[1:]]
    (maps / "delta_e" / "zarr.json").write_text(json.dumps(described))
    with pytest.raises(DamagedError):
        Maps(maps, IMAGES, SIDE)


def test_weights_know_their_own_hash_and_refuse_what_is_not_finite(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, file = nn.Conv2d(3, 4, 3), tmp_path / "weights.safetensors"
    save_weights(network, file, "these images")
    first = file.read_bytes()
    save_weights(network, file, "these images")
    assert file.read_bytes() == first
    for at in range(0, len(first), 37):
        file.write_bytes(first[:at] + bytes([first[at] ^ 1]) + first[at + 1 :])
        with pytest.raises(DamagedError, match=r"weights\.safetensors: "):
            load_weights(network, file)
    file.write_bytes(first)
    plain = load_file(file)  # as an earlier version wrote them, without a hash
    save_file(plain, file, {"made_from": ""})
    load_weights(network, file)
    save_file({**plain, "bias": torch.full((4,), torch.nan)}, file, {"made_from": ""})
    with pytest.raises(DamagedError, match="NaN or infinite"):
        load_weights(network, file)
    save_file({**plain, "bias": torch.zeros(5)}, file, {"made_from": ""})
    with pytest.raises(DamagedError, match="another network"):
        load_weights(network, file)


def test_a_name_that_is_not_utf_8_is_read_as_it_was_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9,1.png")
    write_csv(tmp_path / "images.csv", ["file"], [[name]])
    assert read_csv(tmp_path / "images.csv") == [{"file": name}]


def test_a_run_makes_anew_what_is_damaged_and_says_so(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    data = ["colorize", str(leaves), "--out", str(out), "--image-size", "64", "--n-splits", "2", "--folds", "0"]
    colorize = [*data, "--colorizer-epochs", "1", "--compile", "off", "--max-per-class", "8"]
    detect = [
        "detect",
        str(out),
        "--folds",
        "0",
        "--epochs",
        "1",
        "--adn",
        "CNN",
        "--caan",
        "Direct",
        "--no-compare",
    ]
    assert main(colorize) == 0
    assert main(detect) == 0
    capsys.readouterr()
    detector, made = out / "0" / "CNN-Direct-p2", out / "0"
    kept = [
        made / "colorizer" / "weights.safetensors",
        detector / "predictions.csv",
        detector / "weights.safetensors",
    ]
    kept += sorted(p for p in (made / "maps.zarr").rglob("*") if p.is_file())
    before = {path: path.read_bytes() for path in kept}
    flip(made / "maps.zarr" / "delta_e" / "c.0.0.0")
    flip(made / "colorizer" / "weights.safetensors")
    flip(next((out / "pixels").glob("*.npy")))
    (made / "colorizer" / "history.csv").write_text("no,history\n1")
    for name in ("predictions.csv", "weights.safetensors", "metrics.json", "config.yaml"):
        (detector / "history.csv").write_text("epoch,loss\n1,low\n")
        (detector / name).write_bytes((detector / name).read_bytes()[:-30])
        if name in ("predictions.csv", "weights.safetensors"):
            (detector / "checkpoint.safetensors").write_text("no tensors")
        assert main(colorize) == 0
        said = capsys.readouterr().out
        if name == "predictions.csv":
            assert ".npy: damaged; the pixel cache was made again" in said
            assert f"{made / 'maps.zarr'}: damaged; these anomaly maps are made again" in said
            assert f"{kept[0]}: damaged; this colorizer is trained again" in said
        assert main(detect) == 0
        said = capsys.readouterr().out
        assert f"{detector}: damaged or incomplete; this detector is trained again" in said
        assert ("checkpoint.safetensors: damaged; its training starts over" in said) == (name[0] in "pw")
        assert {path: path.read_bytes() for path in kept} == before


COLORIZE = ["--image-size", "64", "--n-splits", "2", "--max-per-class", "8", "--colorizer-epochs", "1"]
COLORIZE += ["--compile", "off"]


@pytest.fixture(scope="module")
def made_run(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two folds."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["colorize", str(leaves), "--out", str(out), *COLORIZE]) == 0
    assert main(["detect", str(out), *DETECT]) == 0
    return out


@pytest.fixture
def run_copy(made_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_run, tmp_path / "run"))


def contents(run: Path, *names: str) -> dict[str, bytes]:
    """The bytes of the files with these names in both folds."""
    files = (path for name in names for path in run.glob(f"[01]/**/{name}") if path.is_file())
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in files}


def exchange(run: Path, name: str) -> None:
    """Exchange what has this name in the two folds."""
    one, other, spare = run / "0" / name, run / "1" / name, run / "spare"
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


DETECTOR = "CNN-Direct-p2"


DETECT = ["--epochs", "1", "--adn", "CNN", "--caan", "Direct", "--no-compare", "--compile", "off"]


@pytest.mark.parametrize(
    "names", [["colorizer/weights.safetensors"], ["maps.zarr", f"{DETECTOR}/weights.safetensors"]]
)
def test_what_two_folds_exchanged_is_made_anew(
    leaves: Path, run_copy: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    said = {
        "colorizer/weights.safetensors": "trained on other images, or by another version; it is trained",
        "maps.zarr": "maps.zarr: another fold's; these anomaly maps are made again",
        f"{DETECTOR}/weights.safetensors": "damaged or incomplete; this detector is trained again",
    }
    before = contents(run_copy, "weights.safetensors", "predictions.csv", "c.*", "zarr.json")
    for name in names:
        exchange(run_copy, name)
    assert before != contents(run_copy, "weights.safetensors", "predictions.csv", "c.*", "zarr.json")
    assert main(["colorize", str(leaves), "--out", str(run_copy), *COLORIZE]) == 0
    assert main(["detect", str(run_copy), *DETECT]) == 0
    printed = capsys.readouterr().out
    assert [printed.count(text) for text in said.values()] == [2 * (name in names) for name in said]
    assert printed.count(": mean ΔE of") == 2  # maps are made again too where their colorizer was trained again
    assert before == contents(run_copy, "weights.safetensors", "predictions.csv", "c.*", "zarr.json")


def test_a_changed_probability_is_noticed(run_copy: Path) -> None:
    file = run_copy / "0" / DETECTOR / "predictions.csv"
    before = file.read_bytes()
    rows = read_csv(file)
    write_csv(file, list(rows[0]), [[*(row | {"adn_probability": "0.25"}).values()] for row in rows])
    assert main(["detect", str(run_copy), *DETECT]) == 0
    assert file.read_bytes() == before


def test_a_run_of_an_earlier_version_without_hashes_is_done(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for metrics in run_copy.glob("*/*/metrics.json"):
        content = json.loads(metrics.read_text())
        assert sorted(content.pop("sha256")) == ["history.csv", "predictions.csv", "weights.safetensors"]
        metrics.write_text(json.dumps(content))
    for config in run_copy.glob("*/*/config.yaml"):
        config.write_text("".join(s for s in config.read_text().splitlines(True) if "maps_made_from" not in s))
    assert main(["detect", str(run_copy), *DETECT]) == 0
    assert f"{DETECTOR}: all requested folds are already finished" in capsys.readouterr().out


def make_maps_a_little_otherwise(run: Path) -> None:
    """Leave fold 0 as a colorizer trained on another number of threads does, before it has made its maps."""
    weights = run / "0" / "colorizer" / "weights.safetensors"
    network = build_colorizer("Unet", 64)
    load_weights(network, weights)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.001)
    save_weights(network, weights, made_from(weights))
    shutil.rmtree(run / "0" / "maps.zarr")


def test_a_detector_whose_maps_were_made_anew_a_little_otherwise_is_trained_anew(
    leaves: Path, run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run_copy, "predictions.csv")
    make_maps_a_little_otherwise(run_copy)
    (run_copy / "0" / DETECTOR / "checkpoint.safetensors").write_text("of the earlier maps")
    assert main(["colorize", str(leaves), "--out", str(run_copy), *COLORIZE]) == 0
    assert main(["detect", str(run_copy), *DETECT]) == 0
    said = capsys.readouterr().out
    assert said.count("its anomaly maps were made again; this detector is trained again") == 1
    assert "checkpoint" not in said
    after = contents(run_copy, "predictions.csv")
    assert [path for path in before if after[path] != before[path]] == [f"0/{DETECTOR}/predictions.csv"]
    assert main(["detect", str(run_copy), *DETECT]) == 0
    assert "made again" not in capsys.readouterr().out


@pytest.mark.parametrize("fact", ["maps_made_from", "side"])
def test_a_detector_of_other_maps_is_refused(run_copy: Path, capsys: pytest.CaptureFixture[str], fact: str) -> None:
    config = run_copy / "0" / DETECTOR / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["recorded"] |= {"maps": "others", fact: "others"}
    config.write_text(yaml.safe_dump(content))
    assert main(["detect", str(run_copy), *DETECT]) == 2
    assert "made with other images or anomaly maps than this run's" in capsys.readouterr().err


@pytest.mark.parametrize("recorded", ["a hash", "a name"])
@pytest.mark.parametrize("differ", [True, False])
def test_a_run_goes_on_where_its_pixels_are_still_decoded_alike(
    leaves: Path, run_copy: Path, capsys: pytest.CaptureFixture[str], recorded: str, differ: bool
) -> None:
    """As if an earlier version had made the pixel cache: with another name and, if they differ, other pixels."""
    cache, config = next((run_copy / "pixels").glob("*.npy")), run_copy / "config.yaml"
    cache.with_suffix(".json").unlink()
    earlier = cache.rename(cache.with_name("0123456789abcdef-64.npy"))
    if differ:
        flip(earlier)
    content = yaml.safe_load(config.read_text())
    assert content["recorded"].pop("pixels_sha256") == sha256_of(earlier) or differ
    content["recorded"]["pixels"] = earlier.name
    if recorded == "a hash":
        content["recorded"]["pixels_sha256"] = sha256_of(earlier)
        earlier.unlink()
    config.write_text(yaml.safe_dump(content))
    assert main(["colorize", str(leaves), "--out", str(run_copy), *COLORIZE]) == 2 * differ
    said = capsys.readouterr()
    if differ:
        assert "made from other pixels, by a version that decoded these images differently" in said.err
    else:
        assert "all requested folds are already finished" in said.out
        assert yaml.safe_load(config.read_text())["recorded"]["pixels"] == cache.name


def test_a_lost_config_is_named(leaves: Path, run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_copy / "config.yaml").unlink()
    assert main(["colorize", str(leaves), "--out", str(run_copy), *COLORIZE]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {run_copy / 'config.yaml'}: missing or damaged; ")
    assert line.count("\n") == 1
