"""`leanet import-authors` and `leanet export-authors`."""

from __future__ import annotations

import hashlib
import logging

from leanet.compat.folds import export_folds, import_folds
from leanet.compat.model_file import read_model_file
from leanet.config import ExportAuthorsConfig, ImportAuthorsConfig
from leanet.errors import UserError
from leanet.model.card import Card
from leanet.model.model import save

_log = logging.getLogger(__name__)


def import_authors(config: ImportAuthorsConfig) -> None:
    """Convert the authors' model file into a model folder, or their fold folders into a run.

    Raises:
        UserError: a file without the options that name its networks, a folder with them, or an invalid source.
    """
    pair = {"--adn": config.adn, "--caan": config.caan, "--attention-point": config.attention_point}
    if config.source.is_dir():
        given = [option for option, value in pair.items() if value is not None]
        if given:
            raise UserError(f"{given[0]}: {config.source} is a folder of folds, without networks. Omit the option.")
        import_folds(config.source, config.out)
        return
    if config.adn is None or config.caan is None or config.attention_point is None:
        missing = next(option for option, value in pair.items() if value is None)
        raise UserError(
            f"{missing} is missing: name the ADN, the CAAN and the attention point that the file holds."
        )
    _import_model(config, config.adn, config.caan, config.attention_point)


def export_authors(config: ExportAuthorsConfig) -> None:
    """Write a run's folds in the format of the authors' program."""
    export_folds(config.run, config.out)


def _import_model(config: ImportAuthorsConfig, adn: str, caan: str, attention_point: int) -> None:
    network = read_model_file(config.source, adn, caan, attention_point)
    with config.source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = Card(
        adn=adn,
        caan=caan,
        attention_points=(attention_point,),
        image_size=network.adn.image_size,
        map_coding="authors",
        map_scale="max",
        normals_unit=None,
        threshold=0.5,
        origin=f"imported from {config.source.name}, a model of the authors' program, sha256 {digest}",
    )
    save(config.out, card, network)
    _log.info(
        f"model folder: {config.out}. It has no colorizer: pass an anomaly map of coding 'authors' with each image."
    )
