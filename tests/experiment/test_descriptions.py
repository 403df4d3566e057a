"""Descriptions of images, which a run computes once: counted through a map source that has them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TinyADN
from torch import Tensor

import leanet
from leanet import AnomalyMap, ColorizeConfig, ColorizerConfig, ComputeConfig, DataConfig, MapSource
from leanet.config import DetectConfig, DetectorConfig, FitConfig
from leanet.errors import UserError
from leanet.experiment import fit
from leanet.experiment.description_task import DescribeImages
from leanet.experiment.estimate import MAPS as MAPS_PART
from leanet.experiment.estimate import time_of, unfinished
from leanet.experiment.feature_task import ComputeFeatures
from leanet.experiment.open_run import Run, find, normal_rows, parts_of_training_side
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.tasks import Worker
from leanet.maps.registry import MAP_SOURCES
from leanet.maps.source import History, Normals
from leanet.networks.registry import ADNS
from leanet.training.session import Session

DESCRIBED: Counter[bytes] = Counter()
"""How often each image was described."""

DATA = DataConfig(image_size=64, n_splits=2)
MAPS = ColorizerConfig(maps=("counted",))
COMPUTE = ComputeConfig(device="cpu")
IMAGES = 40


class CountedMap(MapSource):
    """The distance of an image's mean color from that of the normal images, the same at each pixel."""

    unit = "distance"
    step = 1e-4
    described_by = "mean color"

    mean: Tensor

    def __init__(self, image_size: int, config: ColorizerConfig) -> None:
        super().__init__(image_size, config)
        self.register_buffer("mean", torch.zeros(3))

    def fit(self, normals: Normals, session: Session) -> History:
        del session  # nothing is trained in steps
        assert normals.descriptions is not None
        self.mean = torch.from_numpy(normals.descriptions[normals.rows].mean(0))
        return ()

    def forward(self, images: Tensor) -> AnomalyMap:
        return self.compare(images.mean((2, 3)))

    def describe(self, images: Tensor) -> Tensor:
        DESCRIBED.update(image.numpy().tobytes() for image in images)
        return images.mean((2, 3))

    def compare(self, descriptions: Tensor) -> AnomalyMap:
        distances = (descriptions - self.mean).square().sum(1).sqrt()
        return AnomalyMap(distances[:, None, None, None].expand(-1, 1, 64, 64), self.unit)


class KnownADN(TinyADN):
    """A network that counts as pretrained."""

    pretrained = True

    def load_pretrained(self, weights: str) -> None:
        del weights
        torch.manual_seed(0)
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(MAP_SOURCES, "counted", CountedMap)
    monkeypatch.setitem(ADNS, "Known", KnownADN)
    DESCRIBED.clear()
    yield
    DESCRIBED.clear()


@pytest.fixture
def config(leaves: Path, tmp_path: Path) -> ColorizeConfig:
    return ColorizeConfig(leaves, tmp_path / "run", DATA, MAPS, COMPUTE)


def maps_of(run: Run, number: int) -> np.ndarray:
    return run.maps(number).delta_e(np.arange(len(run.images)))


def test_each_image_is_described_once_for_all_folds_and_inner_parts(config: ColorizeConfig) -> None:
    leanet.colorize(dataclasses.replace(config, colorizer=dataclasses.replace(MAPS, cross_fit=2)))
    assert len(DESCRIBED) == IMAGES
    assert set(DESCRIBED.values()) == {1}


def test_maps_are_those_of_the_images_themselves(config: ColorizeConfig) -> None:
    leanet.colorize(config)
    run = find(config.out)
    colors = run.pixels.mean((1, 2)) / 255
    for number in range(2):
        expected = np.linalg.norm(colors - colors[normal_rows(run, number)].mean(0), axis=1)
        np.testing.assert_allclose(maps_of(run, number)[:, 5, 5], expected, atol=CountedMap.step)


def test_a_resumed_run_reads_the_descriptions_and_makes_damaged_ones_again(config: ColorizeConfig) -> None:
    leanet.colorize(config)
    run, file = find(config.out), RunFolder(config.out).descriptions("counted")
    before, content = maps_of(run, 1), file.read_bytes()
    for damaged, times in (
        (content, 1),
        (content[:-1] + bytes([content[-1] ^ 1]), 2),
        (content[:200], 3),
        (b"", 4),
    ):
        file.write_bytes(damaged)
        run.folder.fold(1).maps.rename(config.out.parent / f"maps-{times}")
        leanet.colorize(config)
        assert set(DESCRIBED.values()) == {times}
        assert file.read_bytes() == content
        np.testing.assert_array_equal(maps_of(find(config.out), 1), before)


def test_maps_by_another_version_of_the_source_are_made_again(
    config: ColorizeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    leanet.colorize(config)
    before = [maps_of(find(config.out), number) for number in range(2)]
    monkeypatch.setattr(CountedMap, "version", "2")
    monkeypatch.setattr(CountedMap, "unit", "doubled")
    compare = CountedMap.compare
    monkeypatch.setattr(
        CountedMap, "compare", lambda self, d: AnomalyMap(2 * compare(self, d).values, CountedMap.unit)
    )
    leanet.colorize(config)
    for number in range(2):
        np.testing.assert_allclose(maps_of(find(config.out), number), 2 * before[number], atol=2 * CountedMap.step)


def test_descriptions_by_another_source_of_the_name_are_made_again(
    config: ColorizeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    leanet.colorize(config)
    worker = Worker({config.out: find(config.out)})
    assert DescribeImages(config).done(worker)
    monkeypatch.setattr(CountedMap, "described_by", "mean color, in another way")
    assert not DescribeImages(config).done(worker)


def test_both_trainings_of_a_fit_share_descriptions_and_pooled_features(
    leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[ComputeFeatures] = []
    compute = ComputeFeatures.run

    def counted(task: ComputeFeatures, worker: Worker) -> None:
        computed.append(task)
        compute(task, worker)

    monkeypatch.setattr(ComputeFeatures, "run", counted)
    monkeypatch.setattr(fit, "estimate", lambda *_: None)  # which describes images of its own
    leanet.fit(FitConfig(leaves, tmp_path / "model", DATA, MAPS, DetectorConfig("Known", tune="head"), COMPUTE))
    assert len(DESCRIBED) == IMAGES
    assert set(DESCRIBED.values()) == {1}
    assert len(computed) == 1
    assert not (tmp_path / "model.work").exists()


def test_an_estimate_counts_descriptions_once_and_no_passes_of_a_fit(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = dataclasses.replace(make_run(20, 20), folder=RunFolder(tmp_path), map_source="counted")
    first = ColorizeConfig(Path("d"), tmp_path, DATA, MAPS, COMPUTE)
    detector = DetectConfig(tmp_path, detector=DetectorConfig("Known", tune="head"), compute=COMPUTE)
    tasks = unfinished(first, [detector], run)
    assert [task.key for task in tasks[:3]] == ["descriptions for counted", "fold 0: counted", "fold 0: maps"]
    assert tasks[2].needs == ("descriptions for counted", "fold 0: counted")
    assert time_of(tasks, run).parts[MAPS_PART] > 0
    DescribeImages(first).path.parent.mkdir()
    DescribeImages(first).path.touch()
    assert unfinished(first, [detector], run)[0].key == "fold 0: counted"


def test_few_groups_make_fewer_parts(make_run: Callable[..., Run]) -> None:
    run = dataclasses.replace(make_run(10, 10, 4), map_source="counted")  # of three groups two are in training
    assert set(parts_of_training_side(run, 0, 5, 0)) == {0, 1}
    with pytest.raises(UserError, match="--cross-fit 5"):
        parts_of_training_side(dataclasses.replace(run, map_source="color"), 0, 5, 0)
