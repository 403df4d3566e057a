"""What is chosen where nothing is asked for, and what asks for something else."""

from __future__ import annotations

import shlex
from pathlib import Path
from unittest.mock import patch

import pytest

from leanet.cli import main, parse
from leanet.config import CheckConfig, ColorizerConfig, DetectorConfig, RunConfig
from leanet.config.options import from_options, read_options, to_options
from leanet.errors import OptionError
from leanet.experiment.check import quick_command
from leanet.experiment.detector_task import recipe_of
from leanet.experiment.run_folder import write_config
from leanet.maps.registry import MAP_SOURCES, find_map_source

HEAD = "EfficientNet-Lite0-head-attention"


@pytest.mark.parametrize(
    ("given", "detector", "maps"),
    [
        ("", HEAD, "features"),
        ("--caan none", "EfficientNet-Lite0-head", "features"),
        ("--p-rate 0.1 --map-scale max", HEAD, "features"),
        ("--maps color", HEAD, "color"),
        ("--colorizer-epochs 3", HEAD, "color"),
        ("--adn timm/resnet18", "timm-resnet18-head-attention", "features"),
        ("--epochs 3", "ResNet18-ResNet-p2", "color"),
        ("--attention-point 3", "ResNet18-ResNet-p3", "color"),
        ("--caan MobileNet", "ResNet18-MobileNet-p2", "color"),
        ("--attention gated", "ResNet18-ResNet-p2-gated", "color"),
        ("--tune all", "ResNet18-ResNet-p2", "color"),
        ("--recipe authors", "ResNet18-ResNet-p2", "color"),
        ("--adn EfficientNet-Lite0 --tune all", "EfficientNet-Lite0-ResNet-p2", "color"),
        ("--adn CNN", "CNN-ResNet-p2", "color"),
    ],
)
def test_a_head_is_the_default_and_what_only_a_trained_network_has_chooses_one(
    given: str, detector: str, maps: str
) -> None:
    for verb in ("run", "fit"):
        config = parse(verb, ["leaves", "--out", "o", *given.split()])
        assert (config.detector.name, config.colorizer.map_source) == (detector, maps)


def test_the_baseline_of_a_trained_network_is_trained_too() -> None:
    for trained in (DetectorConfig("EfficientNet-Lite0", "MobileNet"), DetectorConfig("timm/resnet18", epochs=3)):
        assert trained.tune == trained.baseline().tune == "all"
    assert DetectorConfig("EfficientNet-Lite0").baseline().tune == "head"


@pytest.mark.parametrize(
    ("given", "ignores"),
    [
        ("", True),
        ("--light as-taken", False),
        ("--adn ResNet18", False),
        ("--adn ResNet18 --light ignored", True),
        ("--recipe authors", False),
    ],
)
def test_a_head_ignores_light_and_a_trained_network_does_if_asked(given: str, ignores: bool) -> None:
    config = parse("run", ["leaves", "--out", "o", *given.split()])
    assert config.detector.ignores_light is ignores
    assert recipe_of(config.detector, config.compute.recipe).other_light is ignores


def test_the_authors_recipe_ignores_no_light(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "leaves", "--out", "o", "--recipe", "authors", "--light", "ignored"]) == 2
    assert "--light ignored: recipe authors trains in the light as taken" in capsys.readouterr().err


def test_a_head_has_no_epochs() -> None:
    with pytest.raises(OptionError, match=r"epochs 5: a head has no epochs. Omit .* --tune all"):
        DetectorConfig("EfficientNet-Lite0", tune="head", epochs=5)


def test_feature_maps_have_no_coding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "leaves", "--out", "o", "--maps", "features", "--map-coding", "authors"]) == 2
    assert "only maps of color alone have a coding" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("maps", "remedy"),
    [
        (["color", "color"], "--maps color color: color stands there twice. Name each source once."),
        (["auto", "color"], "--maps auto color: auto stands alone. Omit it, or the others."),
        (["colour"], "unknown map source 'colour' (nearest: color): choose from color, features, reconstruction"),
    ],
)
def test_maps_that_are_none_are_refused(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], maps: list[str], remedy: str
) -> None:
    find_map_source("color")  # registers the package's
    own = {name: kind for name, kind in MAP_SOURCES.items() if kind.__module__.startswith("leanet.")}
    with patch.dict(MAP_SOURCES, own, clear=True):  # without those that other tests registered
        assert main(["run", str(leaves), "--out", str(tmp_path / "o"), "--n-splits", "2", "--maps", *maps]) == 2
    assert remedy in capsys.readouterr().err


def test_several_maps_are_named_in_one_order() -> None:
    assert ColorizerConfig(maps=("features", "color")).map_source == "color+features"


def test_the_record_of_one_map_by_its_earlier_name_is_read(tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", {"map_source": "features", "cross_fit": 5}, {"started": "today"})
    assert from_options(ColorizerConfig, read_options(tmp_path / "config.yaml")).maps == ("features",)


@pytest.mark.parametrize("maps", ["color", "features", "features color"])
def test_the_config_of_a_run_asks_for_the_same_run(tmp_path: Path, maps: str) -> None:
    config = parse("run", ["leaves", "--out", str(tmp_path / "o"), "--maps", *maps.split()])
    write_config(tmp_path / "config.yaml", to_options(config), {"started": "today"})
    again = parse("run", ["--config", str(tmp_path / "config.yaml")])
    assert isinstance(again, RunConfig)
    assert again == config


@pytest.mark.parametrize(
    "given",
    [
        "",
        "--maps color",
        "--maps features reconstruction color",
        "--adn EfficientNet-Lite0 --tune all",
        "--adn CNN --caan Direct --cross-fit 3",
        "--p-rate 0.1 --caan none",
        "--recipe authors",
    ],
)
def test_check_offers_the_same_run_in_few_options(given: str) -> None:
    asked = parse("check", ["leaves", "--image-size", "64", "--folds", "0", *given.split()])
    assert isinstance(asked, CheckConfig)
    offered = shlex.split(quick_command(asked))
    assert parse("run", offered[2:]) == parse("run", [*offered[2:5], *offered[5:9], *given.split()])
    assert len(offered) <= 9 + len(given.split())


def test_the_earlier_name_of_the_maps_in_a_config_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("map_source: colorizer\n")
    assert read_options(file)["maps"] == ["color"]
    file.write_text("map_source: features\nmaps: [color]\n")
    assert read_options(file)["maps"] == ["color"]
