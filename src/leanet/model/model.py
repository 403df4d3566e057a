"""A trained model in its folder: weights as safetensors, and a JSON card that describes them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanet.color.anomaly_map import scale_map
from leanet.color.constancy import white_balance
from leanet.color.opencv_lab import check_opencv
from leanet.config import ComputeConfig
from leanet.data.decode import checked_images
from leanet.data.shape import to_square
from leanet.data.tensors import images_to_tensor
from leanet.errors import UnknownNameError, UserError, install
from leanet.files import beside, is_free, write_text
from leanet.maps.registry import build_map_source
from leanet.maps.source import AnomalyMap, MapSource
from leanet.model.anomaly_model import NO_COLORIZER, AnomalyModel, checked_maps
from leanet.model.card import (
    CARD,
    COLORIZER,
    WEIGHTS,
    Card,
    check_hash,
    read_card,
    sha256_of_file,
    to_json,
)
from leanet.model.heat import heat_map
from leanet.model.known import Known, write_known
from leanet.model.result import Result, make_result
from leanet.networks.leanet import LEANet, LEANetOutput, joined, probability
from leanet.networks.registry import build_leanet
from leanet.training.checkpoint import built_for_weights, load_weights, save_weights
from leanet.training.compute import Compute, resolve_for_prediction
from leanet.training.prediction import in_single_threads, predictor

FLOAT32 = Compute(torch.device("cpu"), bfloat16=False, compiled=False)


@dataclass(frozen=True)
class Model(AnomalyModel):
    """A LEA-Net with its card and, unless imported, its map source; or only a map source with a threshold.

    Attributes:
        maps: source of the anomaly maps; None if the caller must pass them.
        compute: device and precision of the predictions.
        at_once: threads that may call it at once with a gain.
    """

    card: Card
    network: LEANet | None
    maps: MapSource | None = None
    compute: Compute = FLOAT32
    at_once: int = 1

    def predict_pixels(
        self,
        images: Sequence[NDArray[np.uint8]],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        paint: bool = False,
    ) -> list[Result]:
        """See `AnomalyModel`."""
        checked_images(images, sizes)
        if not len(images):
            return []
        side = self.card.image_size
        if anomaly_maps is not None:
            anomaly_maps = checked_maps(anomaly_maps, (len(images), side, side))
        elif self.maps is None:
            raise UserError(NO_COLORIZER)
        pixels = np.stack([to_square(image, side, self.card.aspect) for image in images])
        rgb = white_balance(
            images_to_tensor(pixels, np.arange(len(pixels))).to(self.compute.device), self.card.white_balance
        )
        recoloured: NDArray[np.uint8] | None = None
        if anomaly_maps is None:
            found: AnomalyMap = self._make_maps(rgb)
            delta_e = found.values
            recoloured = self._paint(rgb, found) if paint else None
        else:
            delta_e = torch.from_numpy(anomaly_maps)[:, None]
        maps = delta_e[:, 0].cpu().numpy()
        shapes = sizes or [image.shape[:2] for image in images]
        output, heat = None, None
        if self.network is not None:
            output = self._outputs(rgb, scale_map(delta_e, self.card.map_scale, self.card.normals_unit))
            if self.card.heat != "map":
                heat = heat_map(self.card.heat, self.card.heat_scales, delta_e, output.evidence)[:, 0].cpu().numpy()
        return [self._result(i, output, maps[i], recoloured, shapes[i], heat) for i in range(len(images))]

    def _outputs(self, rgb: Tensor, maps: Tensor) -> LEANetOutput:
        """The network's outputs; a head's one image at a time, since four orientations of each fill the cache."""
        assert self.network is not None, "checked before"
        if self.network.head is None:
            whole: LEANetOutput = self._detector(rgb, maps)
            return whole

        def of_image(i: int) -> LEANetOutput:
            one: LEANetOutput = self._detector(rgb[i : i + 1], maps[i : i + 1])
            return one

        return joined(list(in_single_threads(of_image, range(len(rgb)), self.compute.device)))

    def _result(
        self,
        i: int,
        output: LEANetOutput | None,
        anomaly_map: NDArray[np.float32],
        recoloured: NDArray[np.uint8] | None,
        size: tuple[int, ...],
        heat: NDArray[np.float32] | None,
    ) -> Result:
        painted = None if recoloured is None else recoloured[i]
        if output is None:
            return make_result(self.card, size, anomaly_map, None, None, None, painted)
        adn = float(probability(output.adn_logits[i : i + 1])[0])
        caan = None if output.caan_logits is None else float(probability(output.caan_logits[i : i + 1])[0])
        finest = output.attention[min(output.attention)][i, 0].float().cpu().numpy() if output.attention else None
        shown = None if heat is None else heat[i]
        distance = None if output.distance is None else float(output.distance[i])
        result = make_result(self.card, size, anomaly_map, adn, caan, finest, painted, shown, distance)
        if output.components is None:
            return result
        return dataclasses.replace(result, components=output.components[i].float().cpu().numpy())

    @functools.cached_property
    def _make_maps(self) -> Callable[..., Any]:
        assert self.maps is not None, "checked before"
        self.maps.compiled = self.compute.compiled
        return predictor(self.maps, self.compute)

    @torch.inference_mode()
    def _paint(self, rgb: Tensor, found: AnomalyMap) -> NDArray[np.uint8] | None:
        """The recolored images of uint8 (N, 3, H, W) as uint8 (N, H, W, 3); None if the map source makes none."""
        assert self.maps is not None, "checked before"
        painted = self.maps.paint(rgb, found)
        return None if painted is None else (painted * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    @functools.cached_property
    def _detector(self) -> Callable[..., Any]:
        assert self.network is not None, "checked before"
        return predictor(self.network, self.compute)


def _built(card: Card) -> LEANet:
    """The network that a card describes."""
    network = build_leanet(
        card.adn, card.caan, card.attention_points, card.image_size, card.attention, tune=card.tune
    )
    if card.familiar_distances is not None:
        assert network.head is not None, "only a card with a head has distances"
        network.head.add_familiarity()
    return network


def save(
    folder: Path,
    card: Card,
    network: LEANet | None,
    maps: MapSource | None = None,
    known: Known | None = None,
) -> None:
    """Write a model's folder, completely or not at all.

    Args:
        known: what it keeps of its training images, if anything.
    Raises:
        UserError: the folder exists and is not empty, or cannot be written.
    """
    refuse_existing(folder)
    try:
        with beside(folder) as partial:
            partial.mkdir()
            if network is not None:
                save_weights(network, partial / WEIGHTS)
                card = dataclasses.replace(card, weights_sha256=sha256_of_file(partial / WEIGHTS))
            if maps is not None:
                save_weights(maps.stored, partial / COLORIZER)
                card = dataclasses.replace(card, colorizer_sha256=sha256_of_file(partial / COLORIZER))
            if known is not None:
                write_known(partial, known)
            write_text(partial / CARD, to_json(card, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot write there ({error.strerror}). Choose another --out.") from None


def refuse_existing(folder: Path) -> None:
    """Raise UserError if the path of a new model folder is in use."""
    if not is_free(folder):
        raise UserError(f"{folder}: exists already and is not an empty folder. Choose another --out.")


def load(folder: Path, compute: ComputeConfig | None = None, at_once: int = 1) -> Model:
    """Read a model's folder.

    Args:
        folder: folder that `leanet fit` or `leanet import-authors` made.
        compute: device and precision ('auto' is float32); by default the CPU in float32.
        at_once: as in `leanet.model.load`.
    Raises:
        OptionError: this machine lacks the device.
        UserError: no such model, an unknown format, a damaged file, or OpenCV is missing for maps of the authors'
            coding.
    """
    card = read_card(folder)
    computes_on = FLOAT32 if compute is None else resolve_for_prediction(compute)
    if card.map_source and card.map_coding == "authors":
        try:
            check_opencv()
        except ImportError as error:
            raise UserError(
                f"{folder}: its anomaly maps have the authors' coding. {error} {install('authors')}"
            ) from None
    network, maps = None, None
    try:
        if card.adn:
            check_hash(folder / WEIGHTS, card.weights_sha256)
            network = built_for_weights(lambda: _built(card))
            load_weights(network, folder / WEIGHTS)
        if card.map_source:
            check_hash(folder / COLORIZER, card.colorizer_sha256)
            source = card.map_source
            maps = built_for_weights(lambda: build_map_source(source, card.image_size, card.maps))
            load_weights(maps.stored, folder / COLORIZER)
    except UnknownNameError as error:
        raise UserError(f"{folder / CARD}: {error} Register it before you load the model.") from None
    except (RuntimeError, TypeError, ValueError):
        raise UserError(f"{folder / CARD}: does not match the weights beside it. Make the model again.") from None
    for module in (network, maps):
        if module is not None:
            module.eval()
    if computes_on.device.type != "cpu":
        at_once = 1
    elif at_once > 1:
        torch.set_num_threads(1)
    return Model(card, network, maps, computes_on, at_once)
