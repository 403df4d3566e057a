"""Read the authors' .h5 model files by their graph, because layer names contain numbers that vary by file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from leanet.compat.authors import THEIR_ADNS, THEIR_CAANS, check_names, from_keras_arrays
from leanet.compat.keras_graph import Graph, Node, graph_of
from leanet.errors import UserError, install
from leanet.networks.contract import POINTS
from leanet.networks.leanet import LEANet
from leanet.networks.registry import build_leanet

Layer = Mapping[str, Any]
"""One entry of a Keras model's config: class_name, config, name, inbound_nodes."""

_MISREADINGS = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError)
"""Errors of h5py and of parsing JSON on a file that is not a Keras model."""


def read_model_file(path: Path, adn: str, caan: str, attention_point: int) -> LEANet:
    """A LEA-Net from a file that the authors' program saved.

    Args:
        path: a Keras 2 .h5 file. Nothing in it is executed or unpickled.
        adn, caan, attention_point: the expected pair, as in `from_keras_arrays`.
    Returns:
        The model in evaluation mode; `adn.image_size` is the side of the file's input.
    Raises:
        UserError: h5py is missing; not such a file, or a truncated one; a graph, shapes or settings other than this
            pair's.
    """
    check_names(adn, caan, attention_point)
    layers, outputs, arrays = _read(path)
    found = _graph(layers, outputs)
    difference = _difference(_expected(adn, caan, attention_point), found, layers)
    if difference:
        raise UserError(
            f"{path}: {adn} with {caan} at attention point {attention_point} does not match: {difference}. "
            f"{_what_it_is(found, layers)}"
        )
    ordered = [array for at in found.in_keras_order() for array in arrays[at]]
    try:
        model = from_keras_arrays(adn, caan, attention_point, ordered)
    except UserError as error:
        raise UserError(f"{path}: {error} Save the model again with the authors' program.") from None
    model.adn.image_size = _image_size(path, layers)
    return model


def _expected(adn: str, caan: str, attention_point: int) -> Graph:
    with torch.device("meta"):
        return graph_of(build_leanet(adn, caan, [attention_point], 256))


def _what_it_is(found: Graph, layers: Sequence[Layer]) -> str:
    """The remedy for a mismatch: the pair that the file does hold."""
    for adn, caan, point in itertools.product(THEIR_ADNS, THEIR_CAANS, POINTS):
        if not _difference(_expected(adn, caan, point), found, layers):
            return f"The file holds --adn {adn} --caan {caan} --attention-point {point}."
    return "The file holds none of the authors' pairs. Give a file that their program saved."


def _read(path: Path) -> tuple[list[Layer], list[int], list[list[NDArray[Any]]]]:
    """A file's layers, the positions of the outputs, and each layer's arrays."""
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path}: h5py is needed to read it. {install('authors')}") from None
    try:
        with h5py.File(path, "r") as file:
            config = json.loads(file.attrs["model_config"])["config"]
            layers: list[Layer] = config["layers"]
            position = {layer["config"]["name"]: at for at, layer in enumerate(layers)}
            outputs = [position[name] for name, *_ in config["output_layers"]]
            _graph(layers, outputs)
            return layers, outputs, [_arrays(file["model_weights"], layer["config"]["name"]) for layer in layers]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Check the path.") from None
    except OSError:
        raise _foreign(path, "a truncated file, or no HDF5 file") from None
    except _MISREADINGS as error:
        raise _foreign(path, f"an HDF5 file without one ({error})") from None


def _foreign(path: Path, found: str) -> UserError:
    return UserError(
        f"{path}: expected a model saved by the authors' program, found {found}. Copy or save it again."
    )


def _arrays(weights: Any, layer: str) -> list[NDArray[Any]]:
    group = weights[layer]
    return [np.asarray(group[_text(name)]) for name in group.attrs["weight_names"]]


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _graph(layers: Sequence[Layer], outputs: Sequence[int]) -> Graph:
    """The file's graph, with nodes reordered to come after their inputs, as `Graph` requires."""
    position = {layer["config"]["name"]: at for at, layer in enumerate(layers)}
    nodes = []
    for layer in layers:
        calls = layer["inbound_nodes"]
        if len(calls) > 1:
            raise ValueError(f"layer {layer['config']['name']} is used {len(calls)} times")
        inputs = tuple(position[name] for name, *_ in calls[0]) if calls else ()
        nodes.append(Node(layer["class_name"], inputs, activation=layer["config"].get("activation", "")))
    if any(source >= at for at, node in enumerate(nodes) for source in node.inputs):
        raise ValueError("a layer stands before one that it reads")
    return Graph(nodes, list(outputs))


def _difference(expected: Graph, found: Graph, layers: Sequence[Layer]) -> str:
    """The first difference between the file's graph and the pair's; "" if there is none."""
    ours, theirs = expected.in_keras_order(), found.in_keras_order()
    our_place, their_place = ({at: i for i, at in enumerate(order)} for order in (ours, theirs))
    for i, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        node, other, name = expected.nodes[a], found.nodes[b], layers[b]["config"]["name"]
        if node.kind != other.kind:
            return f"layer {i} ({name}) must be {node.kind}, found {other.kind}"
        if [our_place[x] for x in node.inputs] != [their_place[x] for x in other.inputs]:
            return f"layer {i} ({name}) reads other layers than expected"
        for key, value in _settings(node).items():
            has = layers[b]["config"].get(key)
            if has != value:
                return f"layer {i} ({name}) must have {key} {value}, found {has}"
    return "" if len(ours) == len(theirs) else f"expected {len(ours)} layers, found {len(theirs)}"


def _settings(node: Node) -> dict[str, Any]:
    """The values that a layer's config must have, besides its weights' shapes."""
    settings: dict[str, Any] = {"activation": node.activation} if node.activation else {}
    if isinstance(node.module, nn.BatchNorm2d):
        settings["epsilon"] = node.module.eps
    elif isinstance(node.module, nn.Conv2d):
        settings |= {"padding": "same", "strides": list(node.module.stride)}
    elif isinstance(node.module, nn.MaxPool2d):
        size, stride = (int(str(n)) for n in (node.module.kernel_size, node.module.stride))
        settings |= {"padding": "same", "pool_size": [size] * 2, "strides": [stride] * 2}
    return settings


def _image_size(path: Path, layers: Sequence[Layer]) -> int:
    """Side of the model's input images in pixels."""
    shapes = [layer["config"]["batch_input_shape"] for layer in layers if layer["class_name"] == "InputLayer"]
    sides = {side for shape in shapes for side in shape[1:3]}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int) or side % 32 or not 64 <= side <= 512:
        raise UserError(f"{path}: expected square inputs of 64 to 512 px, found {shapes}.")
    return side
