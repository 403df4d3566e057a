"""Map sources that are one network, which learns to paint normal images."""

from __future__ import annotations

import functools
from abc import abstractmethod

from torch import nn

from leanet.config import ColorizerConfig, RecipeName
from leanet.maps.source import History, MapSource, Normals
from leanet.training.colorization import RECIPES, NormalImages, loss
from leanet.training.loop import train
from leanet.training.recipe import Recipe
from leanet.training.session import Session


class TrainedMap(MapSource):
    """A map source whose `network` paints images and is trained by the colorizer's recipe.

    Attributes:
        network: what `build` makes.
    """

    def __init__(self, image_size: int, config: ColorizerConfig) -> None:
        super().__init__(image_size, config)
        self.network = self.build(image_size, config)

    @staticmethod
    @abstractmethod
    def build(image_size: int, config: ColorizerConfig) -> nn.Module:
        """The network with new weights, drawn from torch's global generator."""

    @staticmethod
    @abstractmethod
    def data(normals: Normals, recipe: Recipe, compiled: bool) -> NormalImages:
        """The images as training pairs; `compiled` says whether to compile elementwise functions."""

    @property
    def stored(self) -> nn.Module:
        """The network alone, which keeps the names of the weights that earlier versions wrote."""
        return self.network

    def fit(self, normals: Normals, session: Session) -> History:
        """Train the network by the session's recipe."""
        build = functools.partial(self.build, self.image_size, self.config)
        key = type(self), self.image_size, self.config
        engine = session.engines.get(key, build, loss, session.compute)
        recipe = recipe_of(self.config, session.recipe)
        data = self.data(normals, recipe, session.compute.compiled)
        history = train(engine, data, recipe, session.seed, session.checkpoint, session.on_images)
        self.network.load_state_dict(engine.bare_model.state_dict())
        return history

    @classmethod
    def image_passes(cls, config: ColorizerConfig, recipe: RecipeName, images: int) -> int:
        """Images that the network trains on, summed over the epochs."""
        return recipe_of(config, recipe).image_passes_for(images)


def recipe_of(config: ColorizerConfig, recipe: RecipeName) -> Recipe:
    """The recipe with the user's overrides."""
    return RECIPES[recipe].override(config.colorizer_epochs, config.colorizer_batch_size, config.colorizer_lr)
