"""The options of each verb, one class per verb."""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from leanet.config.compute import ComputeConfig, Precision
from leanet.config.data import DataConfig
from leanet.config.detector import DIRECT, NO_CAAN, AttentionForm, DetectorConfig, Light, Tune
from leanet.config.limits import OVERLAP, at_least, check_seed, check_share, check_tiles
from leanet.config.maps import ColorizerConfig, MapCoding
from leanet.config.shown import network_in, positional, recent, shown_as
from leanet.errors import OptionError, UserError

PREDICTIONS = Path("predictions.csv")


@dataclass(frozen=True)
class ColorizeConfig:
    """Stage 1 over the folds: colorizers and anomaly maps."""

    dataset: Annotated[Path, *positional("DATASET")]
    """Folder with good/ and bad/ or in the MVTec AD layout, manifest (.csv, .parquet), or
    Label Studio's export (.json)."""
    out: Path
    """Run folder to make, or to resume."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "colorizer", self.colorizer.settled(has_head=False))


@dataclass(frozen=True)
class DetectConfig:
    """Stage 2 over the folds: LEA-Nets, predictions and metrics."""

    run: Annotated[Path, *positional("RUN")]
    """Run folder made by `leanet run`, `study`, `colorize` or `import-authors`."""
    out: Path | None = None
    """Write detectors to this folder instead of into RUN."""
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    compare: bool = True
    """Also train the baseline, the same ADN without attention (--no-compare saves its time)."""
    map_coding: MapCoding | None = None
    """Require anomaly maps in RUN of this coding, 'true' or 'authors'; by default any."""

    def __post_init__(self) -> None:
        if self.out is not None and self.out.resolve() == self.run.resolve():
            object.__setattr__(self, "out", None)
        object.__setattr__(self, "detector", self.detector.settled(self.compute.recipe))

    @property
    def home(self) -> Path:
        """The folder that the detectors lie in."""
        return self.out or self.run


@dataclass(frozen=True)
class RunConfig:
    """Both stages: from a folder of images to predictions and metrics."""

    dataset: Annotated[Path, *positional("DATASET")]
    """Folder with good/ and bad/ or in the MVTec AD layout, manifest (.csv, .parquet), or
    Label Studio's export (.json)."""
    out: Path
    """Run folder to make, or to resume."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    compare: bool = True
    """Also train the baseline, the same ADN without attention (--no-compare saves its time)."""

    def __post_init__(self) -> None:
        _settle(self)

    def stages(self) -> tuple[ColorizeConfig, DetectConfig]:
        """The same run as its two stages."""
        return (
            ColorizeConfig(self.dataset, self.out, self.data, self.colorizer, self.compute),
            DetectConfig(self.out, None, self.detector, self.compute, self.compare, self.colorizer.map_coding),
        )


@dataclass(frozen=True)
class StudyConfig:
    """A grid of detectors on one data set, each beside its baseline, with shared colorizers and anomaly maps."""

    dataset: Annotated[Path, *positional("DATASET")]
    """Folder with good/ and bad/ or in the MVTec AD layout, manifest (.csv, .parquet), or
    Label Studio's export (.json)."""
    out: Path
    """Run folder to make, or to resume; finished cells of the grid are not trained again."""
    adn: tuple[Annotated[str, *network_in("adn", other="timm/NAME")], ...] = ("ResNet18",)
    """ADNs of the grid; timm/NAME is the convolutional network NAME of timm."""
    caan: tuple[Annotated[str, *network_in("caan")], ...] = ("ResNet",)
    """CAANs of the grid."""
    attention_point: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Attention points of the grid, one per cell."""
    attention: tuple[AttentionForm, ...] = ("published",)
    """Forms of the attention: 'published', 'affine', 'gated', 'pooled'."""
    caan_weight: tuple[float, ...] = (1.0,)
    """Weights of the CAAN's own loss in the sum with the ADN's."""
    p_rate: tuple[float, ...] = (1.0,)
    """Shares of the training anomalies to keep, each in (0, 1]."""
    seeds: int = 1
    """Train each detector this many times on every fold."""
    epochs: int | None = None
    """Epochs of the detectors; by default the recipe's."""
    tune: Annotated[Tune, *recent("{all,head}")] = "all"
    """What is fitted: 'all', or a 'head' on ADNs that are pretrained and stay so, which has no attention points."""
    weights: Annotated[str | None, *recent("{imagenet,none,FILE}")] = None
    """Weights that the ADNs start from, as of `leanet detect`."""
    validation: float | None = None
    """Share of the training images held out to choose epoch and threshold.
    By default 0.2, or 0 if that holds out fewer than ten anomalies (recipe authors: 0).
    With fewer than ten, the threshold stays 0.5."""
    light: Annotated[Light | None, *recent("{ignored,as-taken}")] = None
    """Whether to learn to ignore what other light changes in a whole picture, as of `leanet detect`."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    compare: bool = True
    """Also train the baseline, each ADN without attention (--no-compare saves its time)."""

    def __post_init__(self) -> None:
        for name in ("adn", "caan", "attention_point", "attention", "caan_weight", "p_rate"):
            if not getattr(self, name):
                raise UserError(f"--{name.replace('_', '-')}: expected at least one value.")
        object.__setattr__(self, "colorizer", self.colorizer.settled(has_head=self.tune == "head"))
        self.cells()  # report bad values before any work

    def cells(self) -> list[DetectorConfig]:
        """The grid: for each p_rate and ADN its baseline first, then point by point.

        A study that is stopped early then has rows to compare.
        """
        cells: list[DetectorConfig] = []
        for p_rate, adn in itertools.product(dict.fromkeys(self.p_rate), dict.fromkeys(self.adn)):
            plain = DetectorConfig(
                adn,
                NO_CAAN,
                (),
                p_rate=p_rate,
                validation=self.validation,
                seeds=self.seeds,
                epochs=self.epochs,
                tune=self.tune,
                weights=self.weights,
                light=self.light,
            )
            cells += [plain] if self.compare else []
            cells += self._with_attention(plain)
        return cells

    def _with_attention(self, plain: DetectorConfig) -> list[DetectorConfig]:
        """The grid's detectors with the ADN, p_rate and seeds of this one."""
        if plain.has_frozen_adn:
            return [dataclasses.replace(plain, caan=DIRECT)]
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
    """One page with a run's results, and its figures and tables as files."""

    run: Annotated[Path, *positional("RUN")]
    """Run folder with at least one finished fold; the page is RUN/report/index.html."""
    detector: str | None = None
    """Folder name of the detector to report; its page is RUN/report/DETECTOR/index.html.
    By default the detector that was trained last."""


@dataclass(frozen=True)
class FitConfig:
    """One model from a folder of images, to predict new ones."""

    dataset: Annotated[Path, *positional("DATASET")]
    """Folder with good/ and bad/ or in the MVTec AD layout, manifest (.csv, .parquet), or
    Label Studio's export (.json).
    Without anomalous images, the model has only anomaly maps, and a threshold on their mean."""
    out: Path
    """Model folder to make; unfinished work is in OUT.work beside it."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class InfoConfig:
    """The content of a model folder or an exported file."""

    model: Annotated[Path, *positional("MODEL")]
    """Model folder made by `leanet fit` or `leanet import-authors`, or a file written by `leanet export`."""


@dataclass(frozen=True)
class ExportConfig:
    """A model as one graph: from pixels of any size to probability, anomaly map and attention."""

    model: Annotated[Path, *positional("MODEL")]
    """Model folder made by `leanet fit`."""
    out: Path | None = None
    """File to write; by default MODEL.onnx or MODEL.xml (and .bin) beside the folder.
    An existing file is replaced only if it is an export."""
    format: Literal["onnx", "openvino"] = "onnx"
    """ONNX for any runtime, or OpenVINO's own format."""
    int8: Path | None = None
    """With --format openvino: write the int8 variant, calibrated on the training images in this folder."""


@dataclass(frozen=True)
class PredictConfig:
    """Predictions of a model for images."""

    model: Annotated[Path, *positional("MODEL")]
    """Model folder made by `leanet fit`, or a file written by `leanet export` (needs no torch)."""
    images: Annotated[tuple[str, ...], *positional("IMAGES")]
    """One or more files, folders (searched with their subfolders) or patterns such as 'field/*.jpg'."""
    out: Path = PREDICTIONS
    """CSV file to write, one line per image; - is standard output.
    An existing file is replaced only if it is a table of predictions.
    With --manifest: folder of the answers, Parquet files; the same command again resumes."""
    maps: Path | None = None
    """Also write each image's overlay (PNG) and anomaly map (.npy) to this folder.
    It must not hold an image to predict."""
    threshold: float | None = None
    """Decide 'anomalous' from this probability on, instead of the model's threshold.
    For a model of normal images only: from this mean of the anomaly map on."""
    device: str = "auto"
    """'auto' (CUDA or MPS if present), or 'cpu', 'cuda', 'mps'."""
    precision: Precision = "float32"
    """Arithmetic: 'float32' ('auto' is the same) predicts as leanet.load and exported files do.
    'bfloat16' is faster if the processor has it in hardware, and less exact: see 'leanet info MODEL'."""
    tile: int | None = None
    """Predict large pictures by square tiles of this side, in the pictures' own pixels, at least 32.
    The tile with the highest probability decides. A model that was trained on tiles has its own side."""
    overlap: float = OVERLAP
    """Share of its side by which a tile overlaps the next one, from 0 to 0.75.
    The maps of both are blended there."""
    manifest: Annotated[str | None, *shown_as("FILE|PLACE")] = None
    """Predict millions of pictures: the rows of a .parquet or .csv file, or all pictures or tar shards in a place:
    a folder, a pattern such as 'shards/*.tar', or a URL such as s3://bucket/photos/."""
    column: str = "file"
    """Column of --manifest that names the pictures: paths relative to the manifest, absolute paths, URLs,
    tar shards, or members of shards such as tar://1.jpg::shards/0.tar."""
    shard_rows: int = 10_000
    """Rows of --manifest for one file of answers; each tar shard of a listing has a file of its own."""
    executor: Literal["local", "ray"] = "local"
    """With --manifest: 'local' makes one file of answers after another with all cores; 'ray', several at a time on
    this machine's cores and GPUs or on a cluster."""
    address: Annotated[str | None, *shown_as("{auto,ray://HOST:PORT}")] = None
    """With --executor ray: the cluster. 'auto' is the one that this machine belongs to.
    By default, Ray is started on this machine for the one command."""
    num_cpus: Annotated[int | None, *shown_as("INT")] = None
    """With --executor ray: cores for each file, which is computed with as many threads; 1 by default."""
    num_gpus: Annotated[float | None, *shown_as("FLOAT")] = None
    """With --executor ray: GPUs for each file, or a share of one, such as 0.5; none by default."""
    memory: Annotated[float | None, *shown_as("GIGABYTES")] = None
    """With --executor ray: memory for each file; as many are computed at once as have room."""

    def __post_init__(self) -> None:
        at_least("shard_rows", self.shard_rows, 1)
        check_tiles(self.tile, self.overlap)
        self._check_executor()
        if self.manifest is None:
            for name in ("column", "shard_rows", "executor"):
                if (value := getattr(self, name)) != getattr(PredictConfig, name):
                    raise OptionError(name, value, "is an option of --manifest. Leave it out.")
            return
        if not self.manifest:
            raise OptionError("manifest", "''", "expected a file, a folder, a pattern or a URL.")
        if self.images:
            raise OptionError("manifest", self.manifest, f"names the pictures. Leave out {self.images[0]}.")
        if self.maps is not None:
            raise OptionError(
                "maps", self.maps, "--manifest has no overlays and maps. Name a few pictures instead."
            )
        if self.out == Path("-"):
            raise OptionError("out", self.out, "with --manifest, expected the name of a folder for the answers.")
        if self.out == PREDICTIONS:
            raise UserError("--out: with --manifest, expected the name of a folder for the answers.")

    def _check_executor(self) -> None:
        check_share(self.num_cpus, self.num_gpus, self.memory)
        for name in ("address", "num_cpus", "num_gpus", "memory"):
            if self.executor == "local" and (value := getattr(self, name)) is not None:
                raise OptionError(name, value, "is an option of --executor ray. Leave it out, or add that.")


@dataclass(frozen=True)
class NextConfig:
    """The unlabeled pictures whose labels help a model most."""

    model: Annotated[Path, *positional("MODEL")]
    """Model folder made by `leanet fit`, with a head on a frozen network."""
    pool: Annotated[str, *positional("POOL")]
    """Unlabeled pictures: a folder, a pattern, or a manifest as `leanet predict --manifest` takes it.
    Pictures that the model was trained on are left out."""
    count: int = 20
    """Pictures to choose."""
    out: Path = Path("next.csv")
    """File to write: a .csv table, or .json, tasks for Label Studio with the model's predictions."""
    column: str = "file"
    """Column of a manifest that names the pictures."""
    device: str = "auto"
    """'auto' (CUDA or MPS if present), or 'cpu', 'cuda', 'mps'."""

    def __post_init__(self) -> None:
        at_least("count", self.count, 1)
        if self.out.suffix.lower() not in (".csv", ".json"):
            raise OptionError("out", self.out, "expected a name that ends in .csv, or in .json for Label Studio.")


@dataclass(frozen=True)
class ServeConfig:
    """A model served over HTTP, with a page for the browser."""

    model: Annotated[Path, *positional("[NAME=]MODEL")]
    """Model folder made by `leanet fit`, or a file written by `leanet export` (needs no torch)."""
    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 is every network of the machine; set a token with it."""
    port: int = 8000
    """Port to listen on; 0 takes a free one and prints it."""
    token_file: Path | None = None
    """File with a secret that requests must carry ('Authorization: Bearer ...').
    Without it, the service answers everyone."""
    examples: Path | None = None
    """Folder of images to offer on the page."""
    labels: Path | None = None
    """CSV file for labels that are given on the page, which `fit` takes as DATASET; put it beside the pictures."""
    max_megabytes: int = 32
    """Largest size of a request, in millions of bytes."""
    max_megapixels: int = 50
    """Largest size of an image, in millions of pixels."""
    max_files: int = 32
    """Most images in one request."""
    queue: int = 256
    """Most images that may wait. Beyond it, the client with the most images waiting gets status 429."""
    queue_megapixels: int = 1000
    """Most pixels that may wait to be decoded, in millions. Beyond it, the same client gets status 429."""
    timeout: float = 30.0
    """Time limit in seconds for each step of a request: to arrive, to be decoded, and to be answered."""
    cors_origin: Annotated[tuple[str, ...] | None, *shown_as("ORIGIN [ORIGIN ...]")] = None
    """Sites whose pages may call the service from a browser, such as https://example.org; '*' is every site."""
    access_log: bool = False
    """Write each request as a line of JSON to standard output: its time, client, path, status and seconds."""
    workers: int = 1
    """Processes that answer on the port. Each loads the models, and keeps its own queues and limits.
    One process uses all processors."""
    device: str = "auto"
    """'auto' (CUDA or MPS if present), or 'cpu', 'cuda', 'mps'."""
    precision: Precision = "float32"
    """Arithmetic: 'float32' ('auto' is the same) predicts as leanet.load and exported files do.
    'bfloat16' is faster if the processor has it in hardware, and less exact: see 'leanet info MODEL'."""
    tile: int | None = None
    """Answer larger pictures by square tiles of this side, in the pictures' own pixels, at least 32.
    The tile with the highest probability decides. A model that was trained on tiles has its own side."""
    overlap: float = OVERLAP
    """Share of its side by which a tile overlaps the next one, from 0 to 0.75."""
    more: Annotated[tuple[Path, ...], *positional("[NAME=]MODEL")] = ()
    """Further models, which requests choose by name. A model's name is its folder's or file's, or NAME.
    The first model answers requests without a name."""

    def __post_init__(self) -> None:
        for option in ("max_megabytes", "max_megapixels", "max_files", "queue_megapixels", "timeout"):
            at_least(option, getattr(self, option), 1)
        at_least("workers", self.workers, 1)
        check_tiles(self.tile, self.overlap)
        at_least("queue", self.queue, self.max_files)
        if not 0 <= self.port < 65536:
            raise OptionError("port", self.port, "expected a number from 0 to 65535.")
        if self.cors_origin == ():
            raise UserError("--cors-origin: expected at least one value, such as https://example.org.")
        for origin in self.cors_origin or ():
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+", origin):
                raise UserError(
                    f"--cors-origin {origin}: expected scheme and host in lowercase, such as "
                    "https://example.org, or '*'."
                )


@dataclass(frozen=True)
class CheckConfig:
    """The content of a dataset folder, and how long a run on it takes."""

    dataset: Annotated[Path, *positional("DATASET")]
    """Folder with good/ and bad/ or in the MVTec AD layout, manifest (.csv, .parquet), or
    Label Studio's export (.json)."""
    data: DataConfig = field(default_factory=DataConfig)
    colorizer: ColorizerConfig = field(default_factory=ColorizerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    estimate: bool = True
    """Time a few training steps to estimate how long a run will take (about half a minute)."""

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class ArrangeConfig:
    """A manifest of one of the authors' data sets, made of its download."""

    name: Annotated[str, *positional("NAME")]
    """'plantvillage/CROP' such as plantvillage/Potato, 'mvtec/CATEGORY' such as mvtec/leather, 'concrete',
    'hurricane', 'dr2' or 'cloud'."""
    download: Annotated[Path, *positional("DOWNLOAD")]
    """Folder that the download was unpacked to; its files stay as they are."""
    out: Path
    """Manifest to write, a .csv file. An existing file is replaced only if it is such a manifest."""


@dataclass(frozen=True)
class ImportAuthorsConfig:
    """The authors' files in this program's formats: a model file as a model folder, or fold folders as a run."""

    source: Annotated[Path, *positional("SOURCE")]
    """An .h5 model file, or the folder that holds the folds 0, 1, 2, ..."""
    out: Path
    """Folder to make: a model folder from a file, a run folder from folds."""
    adn: Literal["VGG16", "ResNet18", "CNN"] | None = None
    """ADN of the model file."""
    caan: Literal["MobileNet", "ResNet", "Direct"] | None = None
    """CAAN of the model file."""
    attention_point: int | None = None
    """Attention point of the model file, 1..5."""


@dataclass(frozen=True)
class ExportAuthorsConfig:
    """A run's folds in the format of the authors' program."""

    run: Annotated[Path, *positional("RUN")]
    """Run folder of 256 px and five folds, with anomaly maps."""
    out: Annotated[Path, *positional("OUT")]
    """Folder to make; it takes about 1.8 MB per image and fold."""


@dataclass(frozen=True)
class DemoConfig:
    """A run on synthetic leaves with discolored spots."""

    out: Path = Path("demo-run")
    """Run folder to make; a stopped demo is resumed, and a finished one is replaced."""
    seed: int = 0
    """Seed of the images and of the training."""

    def __post_init__(self) -> None:
        check_seed(self.seed)


def _settle(config: RunConfig | FitConfig | CheckConfig) -> None:
    """Choose the ADN and the map source where they are 'auto'."""
    detector = config.detector.settled(config.compute.recipe)
    object.__setattr__(config, "detector", detector)
    object.__setattr__(config, "colorizer", config.colorizer.settled(detector.has_frozen_adn))
