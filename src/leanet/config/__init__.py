"""Every option of leanet, written once: the command line, the config file and Python all read these classes.

Imports neither torch nor the command line's parser.
"""

from leanet.config.compute import ComputeConfig, Precision, RecipeName, parse_folds
from leanet.config.data import Aspect, DataConfig, WhiteBalance
from leanet.config.detector import NO_CAAN, TIMM, AttentionForm, DetectorConfig, Tune
from leanet.config.limits import check_image_size
from leanet.config.maps import COLOR_MAP, ColorizerConfig, MapCoding
from leanet.config.verbs import (
    ArrangeConfig,
    CheckConfig,
    ColorizeConfig,
    DemoConfig,
    DetectConfig,
    ExportAuthorsConfig,
    ExportConfig,
    FitConfig,
    ImportAuthorsConfig,
    InfoConfig,
    NextConfig,
    PredictConfig,
    ReportConfig,
    RunConfig,
    ServeConfig,
    StudyConfig,
)

__all__ = [
    "COLOR_MAP",
    "NO_CAAN",
    "TIMM",
    "ArrangeConfig",
    "Aspect",
    "AttentionForm",
    "CheckConfig",
    "ColorizeConfig",
    "ColorizerConfig",
    "ComputeConfig",
    "DataConfig",
    "DemoConfig",
    "DetectConfig",
    "DetectorConfig",
    "ExportAuthorsConfig",
    "ExportConfig",
    "FitConfig",
    "ImportAuthorsConfig",
    "InfoConfig",
    "MapCoding",
    "NextConfig",
    "Precision",
    "PredictConfig",
    "RecipeName",
    "ReportConfig",
    "RunConfig",
    "ServeConfig",
    "StudyConfig",
    "Tune",
    "WhiteBalance",
    "check_image_size",
    "parse_folds",
]
