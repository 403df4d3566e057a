"""Every option of leanet, written once: the command line, the config file and Python all read these classes.

Imports no torch, so that `leanet --help` answers at once.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from leanet.errors import UserError

ColorizerName = Literal["Unet", "SegNet", "AE"]
AdnName = Literal["VGG16", "ResNet18", "CNN"]
CaanName = Literal["MobileNet", "ResNet", "Direct", "none"]
RecipeName = Literal["leanet", "authors"]
MapCoding = Literal["true", "authors"]
AttentionForm = Literal["published", "affine"]
Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True)
class DataConfig:
    """Which images, at which size, in which folds."""

    normal_dir: str = "Negative"
    """Folder of normal images inside DATASET (any case)."""
    abnormal_dir: str = "Positive"
    """Folder of anomalous images inside DATASET (any case); its subfolders name the kinds of anomaly."""
    groups: Path | None = None
    """CSV file with the columns file and group: images of one group are kept together in every split."""
    image_size: int = 256
    """Side in pixels to which every image is resized: a multiple of 32 from 64 to 512."""
    n_splits: int = 5
    """Number of cross-validation folds, at least 2."""
    max_per_class: int | None = None
    """Take only about this many images of each class (seeded, whole groups): for a quick look."""
    skip_unreadable: bool = False
    """Leave out files that cannot be read, and list them, instead of stopping."""

    def __post_init__(self) -> None:
        _at_least("--n-splits", self.n_splits, 2)
        check_image_size(self.image_size)
        if self.max_per_class is not None:
            _at_least("--max-per-class", self.max_per_class, self.n_splits)


@dataclass(frozen=True)
class ComputeConfig:
    """How to compute; shared by both stages."""

    recipe: RecipeName = "leanet"
    """Training recipe: 'leanet' is ours; 'authors' is the published one (slow)."""
    seed: int = 0
    """Seed of the splits, the initial weights, the order of the images and the augmentation."""
    folds: str = "all"
    """Which folds to run: 'all', or numbers counted from 0, such as 0,2."""
    precision: Precision = "auto"
    """Arithmetic of the training: 'auto' takes bfloat16 where the processor has it in hardware. Anomaly maps,
    probabilities and thresholds are computed in float32 in any case."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile: 'auto' uses it where there is enough training to repay the minutes that it takes."""
    device: str = "auto"
    """'auto' (CUDA or MPS where present), or 'cpu', 'cuda', 'mps'."""
    checkpoint_seconds: float = 60.0
    """A killed run loses at most about this much work (0: save after every step)."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        _at_least("--checkpoint-seconds", self.checkpoint_seconds, 0)


@dataclass(frozen=True)
class ColorizerConfig:
    """Stage 1: the colorizer, trained on a fold's normal training images only."""

    colorizer: ColorizerName = "Unet"
    """Colorization network."""
    colorizer_epochs: int | None = None
    """Epochs of the colorizer; by default the recipe's."""
    colorizer_batch_size: int | None = None
    """Images a step of the colorizer; by default the recipe's."""
    colorizer_lr: float | None = None
    """Learning rate of the colorizer; by default the recipe's."""
    cross_fit: int = 0
    """Make the training images' maps by this many further colorizers, each of which has not seen the images it
    recolours, so that they are like the test images' (0: one colorizer makes all maps)."""
    map_coding: MapCoding = "true"
    """Anomaly maps: 'true' is ΔE00; 'authors' is what the published program computes (needs the extra authors)."""

    def __post_init__(self) -> None:
        _training_limits("--colorizer-", self.colorizer_epochs, self.colorizer_batch_size, self.colorizer_lr)
        if self.cross_fit:
            _at_least("--cross-fit", self.cross_fit, 2)


@dataclass(frozen=True)
class DetectorConfig:
    """Stage 2: the LEA-Net."""

    adn: AdnName = "ResNet18"
    """Anomaly detection network (ADN), which classifies the image."""
    caan: CaanName = "ResNet"
    """Color anomaly attention network (CAAN), which reads the anomaly map; 'none' is the plain ADN."""
    attention_point: tuple[int, ...] = (2,)
    """One or more of the attention points 1..5 (1 is the finest)."""
    map_scale: Literal["normals", "max"] | None = None
    """Anomaly maps are divided by the training normals' 99th percentile ('normals', default of recipe leanet), or
    each by its own maximum ('max', default of recipe authors)."""
    attention: AttentionForm = "published"
    """'published': sigmoid of the mean of the CAAN's features (0.5 or more where these end in a ReLU); 'affine':
    the mean is standardised, scaled and shifted, as is learnt, before the sigmoid."""
    caan_weight: float = 1.0
    """What the CAAN's own loss counts beside the ADN's, 0 or more."""
    p_rate: float = 1.0
    """Share of the training anomalies to keep, in (0, 1]: how does it do with few of them?"""
    validation: float | None = None
    """Share of the training images held out to choose epoch and threshold; by default 0.2, or none where it would
    hold fewer than ten anomalies (recipe authors: 0). With fewer than ten, the threshold stays 0.5."""
    target_recall: float | None = None
    """Choose the threshold that finds this share of the validation's anomalies, instead of the highest F1."""
    seeds: int = 1
    """Train each detector this many times: other initial weights, another inner validation and, below --p-rate 1,
    other anomalies."""
    epochs: int | None = None
    """Epochs of the detector; by default the recipe's."""
    batch_size: int | None = None
    """Images a step of the detector; by default the recipe's."""
    lr: float | None = None
    """Learning rate of the detector; by default the recipe's."""

    def __post_init__(self) -> None:
        _training_limits("--", self.epochs, self.batch_size, self.lr)
        if not 0 < self.p_rate <= 1:
            raise UserError(f"--p-rate {self.p_rate}: a share above 0 and up to 1 is expected.")
        if self.validation is not None and not 0 <= self.validation <= 0.5:
            raise UserError(f"--validation {self.validation}: a share from 0 to 0.5 is expected.")
        if self.target_recall is not None and not 0 < self.target_recall <= 1:
            raise UserError(f"--target-recall {self.target_recall}: a share above 0 and up to 1 is expected.")
        _at_least("--seeds", self.seeds, 1)
        _at_least("--caan-weight", self.caan_weight, 0)
        if self.caan == "Direct" and self.caan_weight != 1:
            raise UserError(f"--caan-weight {self.caan_weight:g}: Direct has no loss. Leave the option out.")
        if self.caan == "none":  # one and the same baseline, whether asked for or trained beside a LEA-Net
            unused = {"attention_point": (), "map_scale": None, "attention": "published", "caan_weight": 1.0}
            for name, value in unused.items():
                object.__setattr__(self, name, value)
            return
        if not self.attention_point or any(p not in range(1, 6) for p in self.attention_point):
            shown = " ".join(map(str, self.attention_point)) or "(none)"
            raise UserError(
                f"--attention-point {shown}: attention points are 1 2 3 4 5; "
                "for the ADN without attention pass --caan none."
            )
        object.__setattr__(self, "attention_point", tuple(sorted(set(self.attention_point))))

    @property
    def name(self) -> str:
        """The detector's folder name, e.g. ResNet18-ResNet-p2, or ResNet18 for the baseline."""
        if self.caan == "none":
            return self.adn
        form = "" if self.attention == "published" else f"-{self.attention}"
        weight = "" if self.caan_weight == 1 else f"-w{self.caan_weight:g}"
        return f"{self.adn}-{self.caan}-p{''.join(map(str, self.attention_point))}{form}{weight}"

    def name_with(self, seed: int) -> str:
        """The folder name of the training with one of the seeds, counted from 0, e.g. ResNet18-ResNet-p2-s1."""
        return f"{self.name}-s{seed}" if seed else self.name

    def baseline(self) -> DetectorConfig:
        """The same detector without attention: same ADN, recipe, epochs and seed."""
        return dataclasses.replace(self, caan="none")

    def beside_baseline(self, compare: bool) -> list[DetectorConfig]:
        """The detector and, if it is to be compared and is none itself, its baseline."""
        return [self, self.baseline()] if compare and self.caan != "none" else [self]


@dataclass(frozen=True)
class ColorizeConfig:
    """Stage 1 over the folds: colorizers and anomaly maps."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Folder with Negative/ and Positive/, or in the MVTec AD layout."""
    out: Path
    """Run folder to make, or to go on with."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)


@dataclass(frozen=True)
class DetectConfig:
    """Stage 2 over the folds: LEA-Nets, predictions and metrics."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that `leanet run`, `study`, `colorize` or `import-authors` made."""
    out: Path | None = None
    """Write detectors to this folder instead of into RUN."""
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    compare: bool = True
    """Also train the same ADN without attention, the baseline (--no-compare saves its time)."""
    map_coding: MapCoding | None = None
    """Coding that RUN's anomaly maps must have, 'true' or 'authors'; by default whichever they have."""

    def __post_init__(self) -> None:
        if self.out is not None and self.out.resolve() == self.run.resolve():
            object.__setattr__(self, "out", None)


@dataclass(frozen=True)
class RunConfig:
    """Both stages: from a folder of images to predictions and metrics."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Folder with Negative/ and Positive/, or in the MVTec AD layout."""
    out: Path
    """Run folder to make, or to go on with."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    compare: bool = True
    """Also train the same ADN without attention, the baseline (--no-compare saves its time)."""

    def stages(self) -> tuple[ColorizeConfig, DetectConfig]:
        """The same run as its two stages."""
        return (
            ColorizeConfig(self.dataset, self.out, self.data, self.colorizer, self.compute),
            DetectConfig(self.out, None, self.detector, self.compute, self.compare, self.colorizer.map_coding),
        )


@dataclass(frozen=True)
class StudyConfig:
    """A grid of detectors on one data set, each beside its baseline, sharing colorizers and anomaly maps."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Folder with Negative/ and Positive/, or in the MVTec AD layout."""
    out: Path
    """Run folder to make, or to go on with; cells of the grid that are finished are not done again."""
    adn: tuple[AdnName, ...] = ("ResNet18",)
    """ADNs of the grid."""
    caan: tuple[Literal["MobileNet", "ResNet", "Direct"], ...] = ("ResNet",)
    """CAANs of the grid."""
    attention_point: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Attention points of the grid, one a cell."""
    attention: tuple[AttentionForm, ...] = ("published",)
    """Forms of the attention: 'published', 'affine'."""
    caan_weight: tuple[float, ...] = (1.0,)
    """What the CAAN's own loss counts beside the ADN's."""
    p_rate: tuple[float, ...] = (1.0,)
    """Shares of the training anomalies to keep, each in (0, 1]."""
    seeds: int = 1
    """Train each detector this many times on every fold."""
    epochs: int | None = None
    """Epochs of the detectors; by default the recipe's."""
    validation: float | None = None
    """Share of the training images held out to choose epoch and threshold; by default 0.2, or none where it would
    hold fewer than ten anomalies (recipe authors: 0). With fewer than ten, the threshold stays 0.5."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    compare: bool = True
    """Also train each ADN without attention, the baseline (--no-compare saves its time)."""

    def __post_init__(self) -> None:
        for name in ("adn", "caan", "attention_point", "attention", "caan_weight", "p_rate"):
            if not getattr(self, name):
                raise UserError(f"--{name.replace('_', '-')}: at least one value is expected.")
        self.cells()  # bad values are said before anything is done

    def cells(self) -> list[DetectorConfig]:
        """The grid: for each p_rate and ADN its baseline first, then point by point.

        In this order, a study that is stopped early leaves rows that can be compared.
        """
        cells: list[DetectorConfig] = []
        for p_rate, adn in itertools.product(dict.fromkeys(self.p_rate), dict.fromkeys(self.adn)):
            plain = DetectorConfig(
                adn, "none", (), p_rate=p_rate, validation=self.validation, seeds=self.seeds, epochs=self.epochs
            )
            cells += [plain] if self.compare else []
            cells += self._with_attention(plain)
        return cells

    def _with_attention(self, plain: DetectorConfig) -> list[DetectorConfig]:
        """The grid's detectors with the ADN, p_rate and seeds of this one."""
        return [
            dataclasses.replace(plain, caan=caan, attention=form, caan_weight=weight, attention_point=(point,))
            for caan, form, weight, point in itertools.product(
                dict.fromkeys(self.caan),
                dict.fromkeys(self.attention),
                dict.fromkeys(self.caan_weight),
                dict.fromkeys(self.attention_point),
            )
        ]


@dataclass(frozen=True)
class ReportConfig:
    """One page that shows a run's results, and the figures and tables in it as files."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder with at least one finished fold; the page is RUN/report/index.html."""
    detector: str | None = None
    """Which of several detectors, by the name of its folder: its page is RUN/report/DETECTOR/index.html. By default
    the one that was trained last."""


@dataclass(frozen=True)
class FitConfig:
    """One model from a folder of images, to be used on new ones."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Folder with Negative/ and Positive/, or in the MVTec AD layout; without Positive/, only the map is learnt."""
    out: Path
    """Model folder to make; what is unfinished lies in OUT.work beside it."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)


@dataclass(frozen=True)
class InfoConfig:
    """What a model folder holds."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folder that `leanet fit` or `leanet import-authors` made, or a file that `leanet export` wrote."""


@dataclass(frozen=True)
class ExportConfig:
    """A model as one graph: from pixels of any size to probability, anomaly map and attention."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folder that `leanet fit` made."""
    out: Path | None = None
    """File to write; by default MODEL.onnx or MODEL.xml (and .bin) beside the folder. Only an earlier export is
    written over."""
    format: Literal["onnx", "openvino"] = "onnx"
    """ONNX for any runtime, or OpenVINO's own."""
    int8: Path | None = None
    """With --format openvino: make the int8 variant, its ranges taken from the training images in this folder."""


@dataclass(frozen=True)
class PredictConfig:
    """Ask a model about images."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folder that `leanet fit` made, or a file that `leanet export` wrote (needs no torch)."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """One or more files, folders (searched through) or patterns such as 'field/*.jpg'."""
    out: Path = Path("predictions.csv")
    """CSV file to write, one line an image; - is standard output. Only an earlier one is written over."""
    maps: Path | None = None
    """Also write each image's overlay (PNG) and anomaly map (.npy, ΔE00) to this folder, apart from the images."""
    threshold: float | None = None
    """Call an image anomalous from this probability on, instead of from the model's threshold; with a model of good
    pictures only, from this mean ΔE on."""
    device: str = "auto"
    """'auto' (CUDA or MPS where present), or 'cpu', 'cuda', 'mps'."""
    precision: Precision = "float32"
    """Arithmetic: 'float32' ('auto' is the same) answers as leanet.load and exported files do; 'bfloat16' is faster
    where the processor has it, and coarser: 'leanet info MODEL' says by how much."""


@dataclass(frozen=True)
class ServeConfig:
    """A model behind HTTP, with a page for the browser."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folder that `leanet fit` made, or a file that `leanet export` wrote (needs no torch)."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every network the machine is on: then set a token."""
    port: int = 8000
    """Port to listen on; 0 takes a free one and says which."""
    token_file: Path | None = None
    """File with a secret that requests must bear ('Authorization: Bearer ...'); without it, everyone may ask."""
    examples: Path | None = None
    """Folder of images to offer on the page."""
    max_megabytes: int = 32
    """Bytes that a request may have, in millions."""
    max_megapixels: int = 50
    """Pixels that an image may have, in millions."""
    max_files: int = 32
    """Images that a request may hold."""
    queue: int = 256
    """Images that may wait; past that, whoever has most of them waiting is told to come again (429)."""
    queue_megapixels: int = 1000
    """Pixels that may wait to be decoded, in millions; past that likewise."""
    timeout: float = 30.0
    """Seconds that a request may take to arrive, again to be decoded, and again to be answered."""
    cors_origin: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="ORIGIN [ORIGIN ...]")] = None
    """Sites whose pages may ask from the browser, such as https://example.org; '*' is every site."""
    device: str = "auto"
    """'auto' (CUDA or MPS where present), or 'cpu', 'cuda', 'mps'."""
    precision: Precision = "float32"
    """Arithmetic: 'float32' ('auto' is the same) answers as leanet.load and exported files do; 'bfloat16' is faster
    where the processor has it, and coarser: 'leanet info MODEL' says by how much."""

    def __post_init__(self) -> None:
        for option in ("max_megabytes", "max_megapixels", "max_files", "queue_megapixels", "timeout"):
            _at_least("--" + option.replace("_", "-"), getattr(self, option), 1)
        _at_least("--queue", self.queue, self.max_files)
        if not 0 <= self.port < 65536:
            raise UserError(f"--port {self.port}: a number from 0 to 65535 is expected.")
        if self.cors_origin == ():
            raise UserError("--cors-origin: at least one value is expected, such as https://example.org.")
        for origin in self.cors_origin or ():
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+", origin):
                raise UserError(
                    f"--cors-origin {origin}: scheme and host in small letters are expected, as in "
                    "https://example.org, or '*'."
                )


@dataclass(frozen=True)
class CheckConfig:
    """What is in a dataset folder, and how long a run on it would take."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Folder with Negative/ and Positive/, or in the MVTec AD layout."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    estimate: bool = True
    """Time a few training steps to say how long a run will take (about half a minute)."""


@dataclass(frozen=True)
class ImportAuthorsConfig:
    """What the published program left, as ours: a model file as a model folder, or fold folders as a run."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """An .h5 model file, or the folder that holds the folds 0, 1, 2, ..."""
    out: Path
    """Folder to make: a model folder from a file, a run folder from folds."""
    adn: AdnName | None = None
    """ADN of the model file."""
    caan: Literal["MobileNet", "ResNet", "Direct"] | None = None
    """CAAN of the model file."""
    attention_point: int | None = None
    """Attention point of the model file, 1..5."""


@dataclass(frozen=True)
class ExportAuthorsConfig:
    """A run's folds as the published program reads them."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder of 256 px and five folds, with anomaly maps."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to make; it takes about 1.8 MB an image and fold."""


@dataclass(frozen=True)
class DemoConfig:
    """The main job on the embedded default: synthetic leaves with spots of wrong colour."""

    out: Path = Path("demo-run")
    """Run folder to make anew; what an earlier demo made there is replaced."""
    seed: int = 0
    """Seed of the images and of the training."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)


def check_image_size(image_size: int) -> None:
    """Raise UserError unless the side is a multiple of 32 from 64 to 512."""
    if image_size % 32 or not 64 <= image_size <= 512:
        nearest = min(512, max(64, round(image_size / 32) * 32))
        raise UserError(f"--image-size {image_size}: a multiple of 32 from 64 to 512 is expected. Try {nearest}.")


def parse_folds(folds: str, n_splits: int) -> tuple[int, ...]:
    """Fold numbers, sorted, of a --folds value such as 'all' or '0,2'; UserError outside 0..n_splits-1."""
    if folds == "all":
        return tuple(range(n_splits))
    try:
        numbers = sorted({int(part) for part in folds.split(",")})
    except ValueError:
        raise UserError(f"--folds {folds}: 'all' or numbers such as 0,2 are expected.") from None
    if any(not 0 <= n < n_splits for n in numbers):
        raise UserError(f"--folds {folds}: the folds of this run are 0..{n_splits - 1}.")
    return tuple(numbers)


def _at_least(option: str, value: float, least: float) -> None:
    if not least <= value < math.inf:  # nor nan
        raise UserError(f"{option} {value}: at least {least} is expected.")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: a whole number from 0 to {2**32 - 1} is expected.")


def _training_limits(prefix: str, epochs: int | None, batch_size: int | None, lr: float | None) -> None:
    if epochs is not None:
        _at_least(f"{prefix}epochs", epochs, 1)
    if batch_size is not None:
        _at_least(f"{prefix}batch-size", batch_size, 2)
    if lr is not None and not 0 < lr < 1:
        raise UserError(f"{prefix}lr {lr}: a learning rate between 0 and 1 is expected.")
