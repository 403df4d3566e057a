"""Commands without the parts that dominate their time with tiny networks."""

from __future__ import annotations

from leanet.cli import parse
from leanet.config import ColorizeConfig, DetectConfig, RunConfig
from leanet.experiment.colorize import colorize
from leanet.experiment.detect import train_detectors


def train(verb: str, *arguments: str) -> None:
    """Train as `leanet run`, `colorize` or `detect` does, without a time estimate, results table or figures."""
    config = parse(verb, list(arguments))
    assert isinstance(config, RunConfig | ColorizeConfig | DetectConfig)
    for stage in config.stages() if isinstance(config, RunConfig) else [config]:
        if isinstance(stage, ColorizeConfig):
            colorize(stage)
        else:
            train_detectors(stage)
