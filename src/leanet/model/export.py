"""`leanet export`: a model as one graph from pixels of any size to probability, anomaly map and attention."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leanet.color.anomaly_map import scale_map
from leanet.color.constancy import white_balance
from leanet.config import Aspect, ExportConfig
from leanet.data.decode import decode
from leanet.data.shape import to_square
from leanet.errors import UserError, install
from leanet.files import beside, partial_of, refuse_other, unfinished
from leanet.lock import alone_in
from leanet.model.card import to_json
from leanet.model.deviation import deviation
from leanet.model.exported import DISTANCE, HEAT, METADATA, OUTPUTS, PAINTED, load_exported, no_statistics
from leanet.model.heat import heat_map
from leanet.model.model import Model, load
from leanet.model.predict_files import at_even_steps, find_files
from leanet.model.seal import seal
from leanet.networks.folding import fold_batch_norm

_log = logging.getLogger(__name__)

CALIBRATION_IMAGES = 300

ONNX_BYTES = 2_000_000_000
"""Most bytes of weights in one file: protobuf's limit is 2^31 bytes, and the graph needs a few."""

LARGEST_WEIGHT = 10_000_000
"""Most numbers of a weight that is looked for a second time."""

CONVOLUTIONS = {"Convolution", "ConvolutionBackpropData", "GroupConvolution"}
"""OpenVINO's names of the operations to convert to int8."""


class Graph(nn.Module):
    """The computation from an image's pixels to a result.

    Takes uint8 (H, W, 3) sRGB of any height and width. Returns the probability () and the CAAN's (), 0 if there is
    none; the anomaly map (S, S) in its unit; attention (h, w) at the finest point (ones without attention); the
    recolored image, uint8 (S, S, 3); the heat map (S, S); and, if the model has one, the distance () from the
    training images.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        if model.maps is None:
            raise UserError("this model has no colorizer and cannot be exported. Make one with `leanet fit`.")
        if model.card.map_coding != "true":
            raise UserError(
                "--map-coding authors: these maps need OpenCV, which a graph cannot call. Fit with 'true'."
            )
        _refuse_too_large(model)
        self.card = model.card
        self.maps = fold_batch_norm(model.maps)
        self.network = None if model.network is None else fold_batch_norm(model.network)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        rgb = squared(image, self.card.image_size, self.card.aspect).permute(2, 0, 1)[None].contiguous() / 255
        rgb = white_balance(rgb, self.card.white_balance)
        found = self.maps(rgb)
        delta_e, recoloured = found.values, self.maps.paint(rgb, found)
        painted = ((rgb if recoloured is None else recoloured)[0] * 255).round().to(torch.uint8).permute(1, 2, 0)
        nothing = delta_e.new_zeros(())
        if self.network is None:
            return nothing, nothing, delta_e[0, 0], torch.ones_like(delta_e[0, 0]), painted, delta_e[0, 0] * 1
        output = self.network(rgb, scale_map(delta_e, self.card.map_scale, self.card.normals_unit))
        probabilities = [
            nothing if x is None else (x[0, 1] - x[0, 0]).sigmoid() for x in (output.adn_logits, output.caan_logits)
        ]
        points = output.attention
        attention = points[min(points)][0, 0] if points else torch.ones_like(delta_e[0, 0])
        heat = heat_map(self.card.heat, self.card.heat_scales, delta_e, output.evidence)
        # An output of its own even where it is the anomaly map: the exporter joins equal ones.
        shown = (delta_e[0, 0], attention, painted, heat[0, 0] * 1)
        distance = () if output.distance is None else (output.distance[0],)
        return (*probabilities, *shown, *distance)

    @property
    def outputs(self) -> list[str]:
        """The names of what `forward` returns."""
        return [*OUTPUTS, PAINTED, HEAT, *([] if self.card.familiar_distances is None else [DISTANCE])]


def _refuse_too_large(model: Model) -> None:
    parts = [part for part in (model.maps, model.network) if part is not None]
    size = sum(p.numel() * p.element_size() for part in parts for p in part.parameters())
    if size > ONNX_BYTES:
        raise UserError(
            f"--adn {model.card.adn}: {size / 1e9:.1f} GB of weights; an ONNX file holds {ONNX_BYTES / 1e9:.0f}. "
            f"Fit with a smaller --image-size or another --adn."
        )


def resized(image: Tensor, size: int) -> Tensor:
    """`leanet.data.decode.resize` as matrix products: width first, then height, each rounded as in Pillow.

    Args:
        image: (H, W, 3), 0..255.
    Returns:
        float (size, size, 3), whole numbers in 0..255.
    Source: Pillow's BILINEAR resize: a triangle filter, one pixel of the coarser grid wide, in steps of 2^-22.
    """
    x = image.permute(2, 0, 1).double()
    x = ((x @ _weights(x.shape[2], size).T + 0.5 * _ONE) / _ONE).floor()
    return ((_weights(x.shape[1], size) @ x + 0.5 * _ONE) / _ONE).floor().float().permute(1, 2, 0)


_ONE = 2.0**22


def _weights(length: int, size: int) -> Tensor:
    """Each of `length` pixels' weight in each of `size` pixels: integers (size, length), rows sum to _ONE."""
    scale = torch.full((), 1.0, dtype=torch.float64) * length / size
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    distance = (torch.arange(length, dtype=torch.float64)[None] + 0.5 - centres[:, None]).abs() / scale.clamp(min=1)
    return _of_distances(distance)


def squared(image: Tensor, size: int, aspect: Aspect) -> Tensor:
    """`leanet.data.shape.to_square`, as `resized` is `resize`."""
    if aspect == "squeeze":
        return resized(image, size)
    x = image.permute(2, 0, 1).double()
    down, across = (torch.full((), 1.0, dtype=torch.float64) * side for side in image.shape[:2])
    of_columns = _placed(x.shape[2], across, down, size, aspect)
    of_rows = _placed(x.shape[1], down, across, size, aspect)
    x = ((x @ of_columns.T + 0.5 * _ONE) / _ONE).floor()
    return ((of_rows @ x + 0.5 * _ONE) / _ONE).floor().float().permute(1, 2, 0)


def _placed(length: int, side: Tensor, other: Tensor, size: int, aspect: Aspect) -> Tensor:
    """As `_weights`, for a side of a picture and its other one, both float64 (), the former of `length` pixels."""
    pixel, place = (torch.arange(n, dtype=torch.float64) for n in (length, size))
    if aspect == "crop":
        kept = torch.minimum(side, other)
        first, scale = ((side - kept) / 2).floor(), kept / size
    else:
        count = (side * size / torch.maximum(side, other) + 0.5).floor().clamp(min=1)
        around = torch.remainder(place - ((size - count) / 2).floor(), 2 * count)
        place, first, scale, kept = torch.minimum(around, 2 * count - 1 - around), side * 0, side / count, side
    centres = first + (place + 0.5) * scale
    distance = (pixel[None] + 0.5 - centres[:, None]).abs() / scale.clamp(min=1)
    beyond = (pixel < first) | (pixel >= first + kept)
    return _of_distances(torch.where(beyond[None], 1.0, distance))


def _of_distances(distance: Tensor) -> Tensor:
    weights = (1 - distance).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True) * _ONE + 0.5).floor()


def export(config: ExportConfig) -> None:
    """Write a model as ONNX or OpenVINO, with its card as metadata; the card, not the graph, has the threshold.

    Raises:
        UserError: no such model, no colorizer in it, a missing extra, or --int8 without --format openvino.
    """
    openvino = config.format == "openvino"
    if config.int8 is not None and not openvino:
        raise UserError("--int8: only with --format openvino.")
    needed = ("onnx", "onnxscript", *(("openvino",) if openvino else ()), *(("nncf",) if config.int8 else ()))
    for name in needed:
        if importlib.util.find_spec(name) is None:
            extra = "openvino" if openvino else "export"
            raise UserError(f"--format {config.format}: {name} is missing. {install(extra)}")
    suffix = ".xml" if openvino else ".onnx"
    folder = config.model.resolve()
    out = config.out or folder.with_name(folder.name + suffix)
    if out.suffix != suffix:
        raise UserError(f"--out {out}: expected a name that ends in {suffix}.")
    _refuse_others(out, config.model, openvino)
    model = load(config.model)
    calibration = (
        None if config.int8 is None else calibration_images(config.int8, model.card.image_size, model.card.aspect)
    )
    try:
        with alone_in(out.parent, name=f"{partial_of(out).name}.lock"):
            if openvino:
                write_openvino(model, out, calibration)
            else:
                write_onnx(model, out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}). Choose another --out.") from None
    size = sum(path.stat().st_size for path in {out, out.with_suffix(".bin")} if path.exists())
    _log.info(f"exported: {out} ({size / 1e6:.0f} MB)")
    if calibration is not None:
        _log.info(f"int8 {deviation(model, load_exported(out), calibration)}")


def _refuse_others(out: Path, model: Path, openvino: bool) -> None:
    """Raise UserError unless the file is new or an earlier export."""
    inputs = list(model.glob("*"))
    is_ours = _is_openvino_of_ours if openvino else _is_onnx_of_ours
    refuse_other(out, f"--out {out}", is_ours, inputs)
    if openvino:
        weights = out.with_suffix(".bin")
        refuse_other(weights, f"--out {out}: {weights}", lambda _: out.exists() and is_ours(out), inputs)


def _is_onnx_of_ours(path: Path) -> bool:
    import onnx

    try:
        return METADATA in {entry.key for entry in onnx.load(path, load_external_data=False).metadata_props}
    except Exception:  # protobuf raises its own classes for other files
        return False


def _is_openvino_of_ours(path: Path) -> bool:
    try:
        return ElementTree.parse(path).find(f"rt_info/{METADATA}") is not None
    except (ElementTree.ParseError, ValueError, LookupError):
        return False


def write_onnx(model: Model, path: Path) -> None:
    """Write the graph as ONNX, completely or not at all."""
    import onnx
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass, DeduplicateInitializersPass

    graph = Graph(model).eval()
    side = model.card.image_size
    example = torch.zeros((side + 3, side + 5, 3), dtype=torch.uint8)
    sizes = {"image": {0: torch.export.Dim("height", min=1), 1: torch.export.Dim("width", min=1)}}
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")  # about the exporter's internals
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            dynamic_shapes=sizes,
            input_names=["image"],
            output_names=graph.outputs,
            external_data=False,
        )
    assert program is not None
    for merge in (DeduplicateInitializersPass(LARGEST_WEIGHT), CommonSubexpressionEliminationPass()):
        merge(program.model)  # the feature map and the head read the same network of the same image
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {METADATA: to_json(model.card)})
    with beside(path) as partial:
        onnx.save(proto, partial)
        seal(partial, ".onnx")


def write_openvino(model: Model, path: Path, calibration: Sequence[NDArray[np.uint8]] | None) -> None:
    """Write the graph for OpenVINO, an .xml with a .bin beside it, completely or not at all.

    Args:
        model: the model to write.
        path: path of the .xml.
        calibration: training images, uint8 (H, W, 3), that set the ranges of an int8 variant; None: float32.
    """
    with no_statistics():
        import openvino

    with unfinished(path) as there:
        there.mkdir()
        write_onnx(model, there / "model.onnx")
        graph = openvino.convert_model(there / "model.onnx")
        if calibration is not None:
            graph = _quantized(graph, calibration)
        graph.set_rt_info(to_json(model.card), METADATA)
        xml, weights = there / path.name, (there / path.name).with_suffix(".bin")
        openvino.save_model(graph, xml, compress_to_fp16=False)
        seal(xml, ".xml", weights)
        # The .xml first: if interrupted here, its hash does not match the .bin, and the pair is refused.
        xml.replace(path)
        weights.replace(path.with_suffix(".bin"))


def calibration_images(dataset: Path, side: int, aspect: Aspect = "squeeze") -> list[NDArray[np.uint8]]:
    """Up to CALIBRATION_IMAGES evenly spaced images of a folder, uint8 (side, side, 3).

    Raises:
        UserError: no such folder, no image in it, or an unreadable image.
    """
    files = at_even_steps(find_files([str(dataset)]), CALIBRATION_IMAGES)
    return [to_square(decode(file), side, aspect) for file in files]


def _quantized(graph: Any, calibration: Sequence[NDArray[np.uint8]]) -> Any:
    """The graph with int8 convolutions; all other operations, above all on colors, stay in float32."""
    with no_statistics():
        import nncf

    nncf.set_log_level(logging.ERROR)
    others = {node.get_type_name() for node in graph.get_ops()} - CONVOLUTIONS
    return nncf.quantize(
        graph,
        nncf.Dataset(calibration, lambda image: {"image": image}),
        subset_size=len(calibration),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(types=sorted(others), validate=False),
    )
