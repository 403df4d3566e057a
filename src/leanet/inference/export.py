"""`leanet export`: a model as one graph, from pixels of any size to probability, anomaly map and attention."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import json
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from leanet.color.anomaly_map import anomaly_map, scale_map
from leanet.color.lab import decode_lab, encode_lab, rgb_to_lab
from leanet.errors import UserError
from leanet.experiment.display import note
from leanet.inference.model import Model, load
from leanet.networks.folding import fold_batch_norm
from leanet.settings import ExportConfig

OUTPUTS = ("probability", "caan_probability", "anomaly_map", "attention")


class Graph(nn.Module):
    """Everything between an image's pixels and a result.

    Takes uint8 (H, W, 3) sRGB of any height and width; gives probability () and the CAAN's (), 0 where there is
    none; anomaly map (S, S) in ΔE00, and attention (h, w) at the finest point (ones without attention).
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        if model.colorizer is None:
            raise UserError("this model has no colorizer, so it is no whole to export. Make one with `leanet fit`.")
        if model.card.map_coding != "true":
            raise UserError(
                "--map-coding authors: these maps need OpenCV, which no graph can hold. Fit with 'true'."
            )
        self.card = model.card
        self.colorizer = fold_batch_norm(model.colorizer)
        self.network = None if model.network is None else fold_batch_norm(model.network)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rgb = resized(image, self.card.image_size).permute(2, 0, 1)[None].contiguous() / 255
        lab = rgb_to_lab(rgb)
        lightness = encode_lab(lab)[:, :1]
        chroma = self.colorizer(lightness)
        delta_e = anomaly_map(lab, decode_lab(torch.cat([lightness, chroma], 1)))
        nothing = delta_e.new_zeros(())
        if self.network is None:
            return nothing, nothing, delta_e[0, 0], torch.ones_like(delta_e[0, 0])
        output = self.network(rgb, scale_map(delta_e, self.card.map_scale, self.card.normals_unit))
        probabilities = [
            nothing if x is None else (x[0, 1] - x[0, 0]).sigmoid() for x in (output.adn_logits, output.caan_logits)
        ]
        points = output.attention
        attention = points[min(points)][0, 0] if points else torch.ones_like(delta_e[0, 0])
        return probabilities[0], probabilities[1], delta_e[0, 0], attention


def resized(image: Tensor, size: int) -> Tensor:
    """`leanet.data.pixels.resize` in plain products: first across, then down, each rounded as Pillow does.

    Args:
        image: (H, W, 3), 0..255.
    Returns:
        float (size, size, 3), whole numbers in 0..255.
    Source: Pillow's resize with BILINEAR: a triangle as wide as one pixel of the coarser grid, in steps of 2^-22.
    """
    x = image.double()
    x = ((torch.einsum("ow,hwc->hoc", _weights(x.shape[1], size), x) + 0.5 * _ONE) / _ONE).floor()
    return ((torch.einsum("oh,hwc->owc", _weights(x.shape[0], size), x) + 0.5 * _ONE) / _ONE).floor().float()


_ONE = 2.0**22


def _weights(length: int, size: int) -> Tensor:
    """How much each of `length` pixels counts in each of `size`: whole numbers (size, length), rows sum to _ONE."""
    scale = torch.full((), 1.0, dtype=torch.float64) * length / size
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    distance = (torch.arange(length, dtype=torch.float64)[None] + 0.5 - centres[:, None]).abs() / scale.clamp(min=1)
    weights = (1 - distance).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True) * _ONE + 0.5).floor()


def export(config: ExportConfig) -> None:
    """Write a model as ONNX, its card as metadata: the threshold is said, not baked in.

    Raises:
        UserError: no such model, one without a colorizer, or the extra `export` is missing.
    """
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f'--format onnx: {name} is missing. Install it: pip install "leanet[export]".')
    model = load(config.model)
    out = config.out or config.model.with_suffix(".onnx")
    write_onnx(model, out)
    note(f"exported: {out} ({out.stat().st_size / 1e6:.0f} MB)")


def write_onnx(model: Model, path: Path) -> None:
    """Write the graph to a file, whole or not at all."""
    import onnx

    graph = Graph(model).eval()
    side = model.card.image_size
    example = torch.zeros((side + 3, side + 5, 3), dtype=torch.uint8)
    sizes = {"image": {0: torch.export.Dim("height", min=1), 1: torch.export.Dim("width", min=1)}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter's own insides
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            dynamic_shapes=sizes,
            input_names=["image"],
            output_names=list(OUTPUTS),
            external_data=False,
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"leanet": json.dumps(dataclasses.asdict(model.card))})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    onnx.save(proto, partial)
    partial.replace(path)
