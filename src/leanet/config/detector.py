"""Options of the LEA-Net."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from leanet.config.limits import at_least, training_limits
from leanet.config.shown import AUTO, network_in, recent
from leanet.errors import OptionError

Tune = Literal["head", "all"]
AttentionForm = Literal["published", "affine", "gated", "pooled"]
Light = Literal["ignored", "as-taken"]

PRETRAINED = "EfficientNet-Lite0"
"""The ADN whose weights come with the installation."""

TIMM = "timm/"
"""Before the name of a network of timm, which is an ADN too."""

TRAINING = ("epochs", "batch_size", "lr")
"""Options that a head does not have."""

DIRECT = "Direct"
"""The CAAN that is the anomaly map itself; a head has no other."""

NO_CAAN = "none"
"""The value of `caan` for a detector without one: the plain ADN, which is the baseline."""


@dataclass(frozen=True)
class DetectorConfig:
    """Stage 2: the LEA-Net."""

    adn: Annotated[str, *network_in("adn", AUTO, other="timm/NAME")] = AUTO
    """Anomaly detection network (ADN), which classifies the image.
    timm/NAME is the convolutional network NAME of timm, such as timm/convnext_atto.
    'auto' is EfficientNet-Lite0, or ResNet18 with recipe authors or an option of training, such as --epochs."""
    caan: Annotated[str, *network_in("caan", NO_CAAN)] = "ResNet"
    """Color anomaly attention network (CAAN), which reads the anomaly map; 'none' is the plain ADN."""
    attention_point: tuple[int, ...] = (2,)
    """One or more of the attention points that both networks have, 1..5 in leanet's own (1 is the finest)."""
    map_scale: Literal["normals", "max"] | None = None
    """'normals' divides all anomaly maps by the 99th percentile of the normal training images' maps.
    'max' divides each by its own maximum. By default 'normals' with recipe leanet, 'max' with recipe authors."""
    attention: AttentionForm = "published"
    """'published': sigmoid of the mean of the CAAN's features (0.5 or more if they end in a ReLU).
    'affine': standardize the mean, and scale and shift it by learned parameters, before the sigmoid.
    'gated': add that share of it which training finds useful, none at first.
    'pooled': average the features where the CAAN's are high; the form of a head, which pools by the map itself."""
    caan_weight: float = 1.0
    """Weight of the CAAN's own loss in the sum with the ADN's, 0 or more."""
    p_rate: float = 1.0
    """Share of the training anomalies to keep, in (0, 1]. A small share tests training with few anomalies."""
    validation: float | None = None
    """Share of the training images held out to choose epoch and threshold.
    By default 0.2, or 0 if that holds out fewer than ten anomalies (recipe authors: 0).
    With fewer than ten, the threshold stays 0.5."""
    target_recall: float | None = None
    """Choose the threshold that finds this share of the held-out anomalies, instead of the highest F1."""
    seeds: int = 1
    """Train each detector this many times.
    Each has other initial weights, other held-out images and, if --p-rate is below 1, other anomalies."""
    epochs: int | None = None
    """Epochs of the detector; by default the recipe's."""
    batch_size: int | None = None
    """Batch size of the detector, in images; by default the recipe's."""
    lr: float | None = None
    """Learning rate of the detector; by default the recipe's."""
    tune: Annotated[Tune | None, *recent("{all,head}")] = None
    """What is fitted: 'all' trains every layer. 'head' keeps a pretrained ADN as it is and fits one linear function
    of its features and of the anomaly map, in seconds. The map takes the CAAN's place; --caan none omits it.
    By default 'head' for EfficientNet-Lite0 and timm/NAME, unless an option of training is given."""
    weights: Annotated[str | None, *recent("{imagenet,none,FILE}")] = None
    """Weights that the ADN starts from: 'imagenet', 'none' (new ones), or a file of timm's state dict.
    By default 'imagenet' for EfficientNet-Lite0 and timm/NAME; the other ADNs take 'none' alone."""

    light: Annotated[Light | None, *recent("{ignored,as-taken}")] = None
    """'ignored': learn to ignore what other light changes in a whole picture, its tint and its exposure.
    'as-taken': do not; a tint of the whole picture may be the anomaly.
    By default 'ignored' for a head and 'as-taken' for a LEA-Net, which it makes less accurate in the same light."""

    def __post_init__(self) -> None:
        training_limits("", self.epochs, self.batch_size, self.lr)
        if not 0 < self.p_rate <= 1:
            raise OptionError("p_rate", self.p_rate, "expected a share above 0 and up to 1.")
        if self.validation is not None and not 0 <= self.validation <= 0.5:
            raise OptionError("validation", self.validation, "expected a share from 0 to 0.5.")
        if self.target_recall is not None and not 0 < self.target_recall <= 1:
            raise OptionError("target_recall", self.target_recall, "expected a share above 0 and up to 1.")
        at_least("seeds", self.seeds, 1)
        at_least("caan_weight", self.caan_weight, 0)
        pretrained = self.adn == PRETRAINED or self.adn.startswith(TIMM)
        if self.tune is None and pretrained:
            self._set({"tune": "all" if self.asks_for_training else "head"})
        if self.tune == "all" and not pretrained and self.adn != AUTO:
            self._set({"tune": None})  # as ever: those have no other
        if self.has_frozen_adn:
            for name in TRAINING:
                if (value := getattr(self, name)) is not None:
                    raise OptionError(name, value, "a head has no epochs. Omit the option, or choose --tune all.")
            self._set({"validation": None, "attention_point": ()})
            if self.has_attention:
                self._set({"caan": DIRECT, "attention": "pooled", "caan_weight": 1.0})
        if not self.has_attention:  # the same baseline, requested or trained beside a LEA-Net
            self._set({"attention_point": (), "map_scale": None, "attention": "published", "caan_weight": 1.0})
            return
        if self.has_frozen_adn:
            return
        if not self.attention_point or min(self.attention_point) < 1:
            shown = " ".join(map(str, self.attention_point)) or "(none)"
            remedy = "attention points begin at 1; for the ADN without attention, choose the CAAN none."
            raise OptionError("attention_point", shown, remedy)
        self._set({"attention_point": tuple(sorted(set(self.attention_point)))})

    def _set(self, options: Mapping[str, object]) -> None:
        """Set options, of those that have no effect to the value that they have in every such detector."""
        for name, value in options.items():
            object.__setattr__(self, name, value)

    @property
    def asks_for_training(self) -> bool:
        """Whether an option has another value than its default that only a trained LEA-Net has."""
        return (
            self.tune == "all"
            or self.weights == "none"
            or self.caan not in ("ResNet", DIRECT, NO_CAAN)
            or self.attention not in ("published", "pooled")
            or self.attention_point not in ((2,), ())
            or self.caan_weight != 1
            or any(getattr(self, name) is not None for name in (*TRAINING, "validation"))
        )

    def settled(self, recipe: str) -> DetectorConfig:
        """The same detector with its ADN chosen, if it was not; OptionError if the recipe lacks what is asked."""
        if recipe == "authors" and self.light == "ignored":
            raise OptionError("light", self.light, "recipe authors trains in the light as taken. Omit the option.")
        if self.adn != AUTO:
            return self
        return dataclasses.replace(
            self, adn="ResNet18" if recipe == "authors" or self.asks_for_training else PRETRAINED
        )

    @property
    def has_frozen_adn(self) -> bool:
        """Whether only a head is fitted, to the features of an ADN that stays as it is."""
        return self.tune == "head"

    @property
    def ignores_light(self) -> bool:
        """Whether it learns to ignore what other light changes in a whole picture."""
        return self.has_frozen_adn if self.light is None else self.light == "ignored"

    @property
    def has_attention(self) -> bool:
        """Whether there is a CAAN; without one, the detector is the plain ADN."""
        return self.caan != NO_CAAN

    @property
    def name(self) -> str:
        """The detector's folder name, e.g. ResNet18-ResNet-p2, ResNet18 for the baseline.

        A head's is NAME-head-attention, and NAME-head without attention.
        """
        adn = self.adn.replace("/", "-")  # timm/NAME is one folder
        if not self.has_attention:
            return f"{adn}-head" if self.has_frozen_adn else adn
        if self.has_frozen_adn:
            return f"{adn}-head-attention"
        form = "" if self.attention == "published" else f"-{self.attention}"
        weight = "" if self.caan_weight == 1 else f"-w{self.caan_weight:g}"
        return f"{adn}-{self.caan}-p{''.join(map(str, self.attention_point))}{form}{weight}"

    @property
    def title(self) -> str:
        """The detector's name for people, who compare a plain ADN with one that has attention."""
        return self.name if self.has_attention else f"{self.name} without attention"

    def name_with(self, seed: int) -> str:
        """The folder name of the training with one of the seeds, counted from 0, e.g. ResNet18-ResNet-p2-s1."""
        return f"{self.name}-s{seed}" if seed else self.name

    def baseline(self) -> DetectorConfig:
        """The same detector without attention: same ADN, recipe, epochs and seed."""
        return dataclasses.replace(self, caan=NO_CAAN)

    def beside_baseline(self, compare: bool) -> list[DetectorConfig]:
        """The detector and, unless it is a baseline itself or no comparison is asked for, its baseline."""
        return [self, self.baseline()] if compare and self.has_attention else [self]
