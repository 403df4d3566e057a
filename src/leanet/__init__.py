"""leanet: color anomaly detection with LEA-Net (Katafuchi & Tokunaga, arXiv 2109.05493).

The names in `__all__` are the public API. Each is imported on first use, because importing torch takes seconds.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from leanet.color.anomaly_map import anomaly_map
    from leanet.color.ciede2000 import ciede2000
    from leanet.color.lab import rgb_to_lab
    from leanet.config import (
        ColorizeConfig,
        ColorizerConfig,
        ComputeConfig,
        DataConfig,
        DetectConfig,
        DetectorConfig,
        FitConfig,
        RunConfig,
        StudyConfig,
    )
    from leanet.data.dataset import Dataset, Sample
    from leanet.data.registry import register_source
    from leanet.data.source import DataSource
    from leanet.errors import UserError
    from leanet.experiment.colorize import colorize
    from leanet.experiment.detect import detect
    from leanet.experiment.executors.registry import register_executor
    from leanet.experiment.fit import fit
    from leanet.experiment.run import run
    from leanet.experiment.study import study
    from leanet.maps.registry import register_map_source
    from leanet.maps.source import AnomalyMap, MapSource
    from leanet.model.anomaly_model import AnomalyModel
    from leanet.model.picture import Picture
    from leanet.model.result import Result
    from leanet.networks.contract import ADN, CAAN, Colorizer
    from leanet.networks.external_attention import external_attention
    from leanet.networks.leanet import LEANet
    from leanet.networks.registry import (
        build_colorizer,
        build_leanet,
        register_adn,
        register_caan,
        register_colorizer,
    )

__version__ = "0.2.0"

__all__ = [
    "ADN",
    "CAAN",
    "AnomalyMap",
    "AnomalyModel",
    "ColorizeConfig",
    "Colorizer",
    "ColorizerConfig",
    "ComputeConfig",
    "DataConfig",
    "DataSource",
    "Dataset",
    "DetectConfig",
    "DetectorConfig",
    "FitConfig",
    "LEANet",
    "MapSource",
    "Picture",
    "Result",
    "RunConfig",
    "Sample",
    "StudyConfig",
    "UserError",
    "anomaly_map",
    "build_colorizer",
    "build_leanet",
    "ciede2000",
    "colorize",
    "detect",
    "external_attention",
    "fit",
    "load",
    "register_adn",
    "register_caan",
    "register_colorizer",
    "register_executor",
    "register_map_source",
    "register_source",
    "rgb_to_lab",
    "run",
    "study",
]

_HOMES = {
    "color.anomaly_map": ("anomaly_map",),
    "color.ciede2000": ("ciede2000",),
    "color.lab": ("rgb_to_lab",),
    "config": (
        "ColorizeConfig",
        "ColorizerConfig",
        "ComputeConfig",
        "DataConfig",
        "DetectConfig",
        "DetectorConfig",
        "FitConfig",
        "RunConfig",
        "StudyConfig",
    ),
    "data.dataset": ("Dataset", "Sample"),
    "data.registry": ("register_source",),
    "data.source": ("DataSource",),
    "errors": ("UserError",),
    "experiment.colorize": ("colorize",),
    "experiment.detect": ("detect",),
    "experiment.executors.registry": ("register_executor",),
    "experiment.fit": ("fit",),
    "experiment.run": ("run",),
    "experiment.study": ("study",),
    "maps.registry": ("register_map_source",),
    "maps.source": ("AnomalyMap", "MapSource"),
    "model.anomaly_model": ("AnomalyModel",),
    "model.picture": ("Picture",),
    "model.result": ("Result",),
    "networks.contract": ("ADN", "CAAN", "Colorizer"),
    "networks.external_attention": ("external_attention",),
    "networks.leanet": ("LEANet",),
    "networks.registry": (
        "build_colorizer",
        "build_leanet",
        "register_adn",
        "register_caan",
        "register_colorizer",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> AnomalyModel:
    """Load a trained model from its folder or an exported file.

    Args:
        path: folder that `leanet fit` or `leanet import-authors` made, or an .onnx or .xml file of `leanet export`,
            which needs no torch.
        device: 'cpu', 'cuda', 'mps', or 'auto' for CUDA or MPS if present. Exported files run on the CPU only.
        precision: 'float32', or, for a folder, 'bfloat16': faster if the processor has it in hardware, but less
            exact.
    Raises:
        leanet.errors.UserError: no such model, a damaged one, a missing library, or a device or precision that
            this machine or the file lacks.
    """
    from leanet.model.load import load as load_model  # torch is heavy, and --help must be instant

    return load_model(path, device=device, precision=precision)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'leanet' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"leanet.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
