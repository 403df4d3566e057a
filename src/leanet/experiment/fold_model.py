"""The model of one fold: its detector with its map source, in memory, to predict other images than the run's."""

from __future__ import annotations

from leanet.config import COLOR_MAP, ColorizeConfig
from leanet.config.options import from_options
from leanet.experiment.detector_task import build_detector
from leanet.experiment.experiment import Experiment
from leanet.experiment.map_reader import map_scale
from leanet.experiment.map_tasks import new_source
from leanet.model.card import Card
from leanet.model.model import Model
from leanet.results.metrics import PLAIN_THRESHOLD
from leanet.training.checkpoint import load_weights


def fold_model(trained: Experiment, fold: int, threshold: float | None = None) -> Model:
    """The model of a fold's first training, on the CPU in float32.

    Args:
        trained: with at least this fold finished.
        threshold: of its decisions; 0.5 without one.
    Raises:
        UserError: its weights are missing or damaged.
    """
    run, d = trained.run, trained.detector
    asked = from_options(ColorizeConfig, run.folder.read_config(), dataset=run.images_in, out=run.folder.path)
    network = build_detector(d, run.side)
    load_weights(network, trained.folder(fold).weights)
    maps = new_source(asked, run)
    load_weights(maps.stored, run.folder.fold(fold).map_source(run.map_source).weights())
    card = Card(
        adn=d.adn,
        caan=d.caan,
        attention_points=d.attention_point,
        attention=d.attention,
        tune=d.tune or "all",
        image_size=run.side,
        white_balance=asked.data.white_balance,
        map_coding=run.map_coding,
        map_scale=map_scale(trained.config),
        normals_unit=run.maps(fold, unpack=False).normals_p99,
        threshold=PLAIN_THRESHOLD if threshold is None else threshold,
        origin=f"fold {fold} of a run",
        colorizer=asked.colorizer.colorizer if COLOR_MAP in asked.colorizer.maps else None,
        map_source=run.map_source,
    )
    return Model(card, network.eval(), maps.eval())
