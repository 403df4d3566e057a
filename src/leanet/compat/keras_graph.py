"""The graph of the authors' Keras models, and the order in which Keras lists its layers.

Their files hold weights in the order of `model.layers`, which interleaves ADN and CAAN differently at every
attention point. The order follows from the graph, which this module builds from our own modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from leanet.networks.basic_block import BasicBlock
from leanet.networks.caan.mobilenet import Bottleneck, MobileNet, SqueezeExcite
from leanet.networks.contract import ADN, CAAN, POINTS
from leanet.networks.layers import FlattenHWC, GlobalAverage
from leanet.networks.leanet import LEANet

KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "Conv2D",
    nn.BatchNorm2d: "BatchNormalization",
    nn.ReLU: "Activation",
    nn.MaxPool2d: "MaxPooling2D",
    nn.Linear: "Dense",
    FlattenHWC: "Flatten",
    GlobalAverage: "GlobalAveragePooling2D",
    # Their Direct resizes the map to its own size first, then halves it; ours clips, then halves.
    nn.Hardtanh: "Resizing",
    nn.AvgPool2d: "Resizing",
}


@dataclass(frozen=True)
class Node:
    """One Keras layer.

    Attributes:
        kind: its Keras class, such as "Conv2D".
        inputs: positions of the nodes that it reads, in call order.
        module: our equivalent module, which may hold weights; None for additions and the like.
        activation: Keras' name of the layer's activation; "" for layers without such a setting.
        place: name of its weights in our network, for messages.
    """

    kind: str
    inputs: tuple[int, ...]
    module: nn.Module | None = None
    activation: str = ""
    place: str = ""


@dataclass
class Graph:
    """Nodes, each after its inputs, and the positions of the model's outputs, in order."""

    nodes: list[Node] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def add(
        self, kind: str, *inputs: int, module: nn.Module | None = None, activation: str = "", place: str = ""
    ) -> int:
        """Append a node and return its position."""
        self.nodes.append(Node(kind, inputs, module, activation, place))
        return len(self.nodes) - 1

    def in_keras_order(self) -> list[int]:
        """Positions of the nodes that an output needs, as `model.layers` lists them.

        They are sorted by decreasing depth, the longest path to any output; ties are in the order of the first
        visit in a pre-order depth-first walk from the outputs.
        """
        visited: dict[int, int] = {}
        stack = self.outputs[::-1]
        while stack:
            at = stack.pop()
            if at not in visited:
                visited[at] = len(visited)
                stack += self.nodes[at].inputs[::-1]
        depth = dict.fromkeys(visited, 0)
        for at in sorted(visited, reverse=True):  # nodes come after their inputs, so this node's depth is known
            for source in self.nodes[at].inputs:
                depth[source] = max(depth[source], depth[at] + 1)
        return sorted(visited, key=lambda at: (-depth[at], visited[at]))


def graph_of(model: LEANet) -> Graph:
    """The authors' graph of a LEA-Net, including the input layers."""
    graph = Graph()
    image = graph.add("InputLayer")
    guides, caan_output = [], None
    if model.caan is not None:
        x = graph.add("InputLayer")
        for point, stage in zip(POINTS, model.caan.stages, strict=True):
            x = _walk(graph, stage, x, f"caan.stages.{point - 1}")
            guides.append(x)
        if model.caan.head is not None:
            caan_output = _head(graph, model.caan, x)
    x = image
    for point, stage in zip(POINTS, model.adn.stages, strict=True):
        x = _walk(graph, stage, x, f"adn.stages.{point - 1}")
        if point in model.attention_points:
            attention = graph.add("Activation", graph.add("Lambda", guides[point - 1]), activation="sigmoid")
            x = graph.add("Add", x, graph.add("Multiply", x, attention))
    graph.outputs = [_head(graph, model.adn, x)]
    if caan_output is not None:
        graph.outputs.append(caan_output)
    return graph


def _head(graph: Graph, network: ADN | CAAN, x: int) -> int:
    head = network.head
    assert isinstance(head, nn.Sequential)
    if not isinstance(network, MobileNet):
        return _walk(graph, head, x, f"{_name(network)}.head", last=network.activation)
    norm_relu, _, hidden, _, logits, _ = head
    x = graph.add("GlobalAveragePooling2D", _walk(graph, norm_relu, x, "caan.head.0"))
    x = graph.add("Conv2D", graph.add("Reshape", x), module=hidden, activation="linear", place="caan.head.2")
    x = graph.add("Activation", x, activation="relu")
    x = graph.add("Conv2D", x, module=logits, activation="sigmoid", place="caan.head.4")
    return graph.add("Reshape", x)


def _name(network: ADN | CAAN) -> str:
    return "adn" if isinstance(network, ADN) else "caan"


def _walk(graph: Graph, module: nn.Module, x: int, place: str, last: str = "linear") -> int:
    """Append the layers of a module that reads node x and return its output; `last`: the last activation."""
    if isinstance(module, BasicBlock):
        return _basic_block(graph, module, x, place)
    if isinstance(module, Bottleneck):
        body = _walk(graph, module.body, x, f"{place}.body")
        return graph.add("Add", body, x) if module.residual else body
    if isinstance(module, SqueezeExcite):
        gate = graph.add("GlobalAveragePooling2D", x)
        gate = graph.add("Dense", gate, module=module.hidden, activation="relu", place=f"{place}.hidden")
        gate = graph.add("Dense", gate, module=module.gate, activation="hard_sigmoid", place=f"{place}.gate")
        return graph.add("Multiply", x, graph.add("Reshape", gate))
    if isinstance(module, nn.Sequential):
        return _sequence(graph, module, x, place, last)
    return x if isinstance(module, nn.Identity) else _layer(graph, module, x, place, last)


def _sequence(graph: Graph, modules: nn.Sequential, x: int, place: str, last: str) -> int:
    layers: Sequence[nn.Module] = list(modules)
    for i, layer in enumerate(layers):
        following = layers[i + 1] if i + 1 < len(layers) else None
        weighted = isinstance(layer, nn.Conv2d | nn.Linear)
        if isinstance(layer, nn.ReLU) and isinstance(layers[i - 1], nn.Conv2d | nn.Linear):
            continue  # VGG16's ReLU is part of the layer before
        inside = "relu" if weighted and isinstance(following, nn.ReLU) else "linear"
        x = _walk(graph, layer, x, f"{place}.{i}", last=inside if following is not None else last)
    return x


def _basic_block(graph: Graph, block: BasicBlock, x: int, place: str) -> int:
    y = _walk(graph, block.first, x, f"{place}.first")
    y = _walk(graph, block.second, y, f"{place}.second")
    y = _walk(graph, block.norm, y, f"{place}.norm")
    skip = _walk(graph, block.skip, x, f"{place}.skip")
    return graph.add("Activation", graph.add("Add", skip, y), activation="relu")


def _layer(graph: Graph, module: nn.Module, x: int, place: str, last: str) -> int:
    kind = next(kind for base, kind in KINDS.items() if isinstance(module, base))
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        kind = "DepthwiseConv2D"
    activation = {"Activation": "relu", "Conv2D": last, "DepthwiseConv2D": last, "Dense": last}.get(kind, "")
    return graph.add(kind, x, module=module, activation=activation, place=place)
