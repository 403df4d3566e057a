"""Check a data set before a run: all that `leanet check` reports, and the problems that would stop a run."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from leanet.data.cache import ImageInfo, placed_hash, skippable
from leanet.data.dataset import CLASS_NAMES, Dataset, Sample, by_file, by_group, group_copies
from leanet.data.decode import Decoded, UnreadableImageError, decode_bytes
from leanet.data.duplicates import Duplicates, contradiction, duplicates
from leanet.data.hold_out import described, planned_folds
from leanet.data.masks import refuse_other_sizes
from leanet.data.threads import in_threads
from leanet.errors import UserError

SQUARE = 1.05
"""Up to this ratio of its sides, a picture counts as square."""


@dataclass(frozen=True)
class CheckReport:
    """The findings about a data set.

    Attributes:
        counts: images of each class, by "normal" and "anomalous"; kinds: anomalous images of each kind.
        masks: anomalous images with a ground-truth mask.
        groups, largest_group: number of groups; name and number of images of the largest.
        smallest, median, largest: (width, height) by area, of the readable images; None if there are none.
        distinct_sizes: number of different sizes.
        formats: readable images by format and mode as stored, such as "PNG RGBA".
        converted: readable images by conversion in decoding, such as "CMYK to RGB".
        profiles: readable images by the name of their embedded color profile and its use.
        broken_profiles: readable images with an unusable profile; they count as sRGB.
        squeezed: readable images that are far from square; aspect: their median width / height.
        unreadable: (file, reason).
        duplicates: files with the same bytes, within and across the classes.
        notes: remarks for the user; problems: one line each; any of them would stop a run.
    """

    counts: dict[str, int]
    kinds: dict[str, int]
    masks: int
    groups: int
    largest_group: tuple[str, int]
    smallest: tuple[int, int] | None
    median: tuple[int, int] | None
    largest: tuple[int, int] | None
    distinct_sizes: int
    formats: dict[str, int]
    converted: dict[str, int]
    profiles: dict[str, int]
    broken_profiles: int
    squeezed: int
    aspect: float | None
    unreadable: tuple[tuple[str, str], ...]
    duplicates: Duplicates
    notes: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Facts:
    info: ImageInfo
    stored: str
    conversions: tuple[str, ...]
    profile: str
    broken_profile: bool


def check_dataset(
    dataset: Dataset,
    n_splits: int,
    seed: int = 0,
    *,
    hold_out: str | None = None,
    skip_unreadable: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> CheckReport:
    """Hash and fully decode every file, a few at a time, and summarize the findings.

    Args:
        dataset: from `list_images`; with normal images alone, there are no folds to check.
        n_splits, seed, hold_out: options of the folds that a run would make.
        skip_unreadable: skip unreadable files without a problem, as a run with --skip-unreadable does.
        on_progress: called with the number of files examined so far.
    """
    files = [sample.file for sample in dataset.samples]
    found = _examine_all(dataset, on_progress)
    facts = [fact for fact in found if isinstance(fact, _Facts)]
    errors = {file: e for file, e in zip(files, found, strict=True) if isinstance(e, UnreadableImageError)}
    labels = {sample.file: sample.label for sample in dataset.samples}
    same = duplicates([fact.info for fact in facts], [labels[fact.info.file] for fact in facts])
    readable = dataset.without(errors)
    sizes = sorted(((f.info.width, f.info.height) for f in facts), key=lambda size: (size[0] * size[1], size))
    aspects = sorted(width / height for width, height in sizes if not 1 / SQUARE <= width / height <= SQUARE)
    members = by_group(dataset)
    largest_group = max(members, key=lambda group: len(members[group]))
    stop_at = {} if skip_unreadable else errors
    problems, planned = list[str](), list[str]()
    if dataset.of_class(1):
        problems, planned = _folds(group_copies(readable, same.within)[0], n_splits, seed, hold_out)
    problems += _mask_problems(dataset, facts)
    problems += [contradiction(files, labels) for files in same.across]
    problems += [str(skippable(dataset.place(file), error.reason)) for file, error in stop_at.items()]
    return CheckReport(
        counts={name: len(dataset.of_class(label)) for label, name in enumerate(CLASS_NAMES)},
        kinds=dict(sorted(Counter(sample.kind for sample in dataset.of_class(1)).items())),
        masks=sum(sample.mask is not None for sample in dataset.samples),
        groups=len(members),
        largest_group=(largest_group, len(members[largest_group])),
        smallest=sizes[0] if sizes else None,
        median=sizes[len(sizes) // 2] if sizes else None,
        largest=sizes[-1] if sizes else None,
        distinct_sizes=len(set(sizes)),
        formats=dict(Counter(fact.stored for fact in facts).most_common()),
        converted=dict(Counter(what for fact in facts for what in fact.conversions).most_common()),
        profiles=dict(Counter(fact.profile for fact in facts if fact.profile).most_common()),
        broken_profiles=sum(fact.broken_profile for fact in facts),
        squeezed=len(aspects),
        aspect=aspects[len(aspects) // 2] if aspects else None,
        unreadable=tuple((file, error.reason) for file, error in errors.items()),
        duplicates=same,
        notes=(*dataset.notes, *planned),
        problems=tuple(problems),
    )


def _examine_all(
    dataset: Dataset, on_progress: Callable[[int], None] | None
) -> list[_Facts | UnreadableImageError]:
    """What each image is, or why its file cannot be read."""
    by_number: dict[int, _Facts | UnreadableImageError] = {}

    def examine(numbers: list[int]) -> None:
        samples = [dataset.samples[number] for number in numbers]
        by_number.update(zip(numbers, _examine(dataset, samples), strict=True))

    in_threads(examine, by_file(dataset.samples), on_progress and (lambda _: on_progress(len(by_number))))
    return [by_number[number] for number in range(len(dataset.samples))]


def _examine(dataset: Dataset, samples: Sequence[Sample]) -> list[_Facts] | list[UnreadableImageError]:
    """The same for the images of one file."""
    try:
        data = dataset.read(samples[0])
        decoded = decode_bytes(data, dataset.place_of(samples[0]))
    except UnreadableImageError as error:
        return [error] * len(samples)
    conversions = [] if decoded.mode == "RGB" else [f"{decoded.mode} to RGB"]
    if decoded.turned:
        conversions.append("turned by EXIF orientation")
    stored, sha256 = f"{decoded.format} {decoded.mode}", hashlib.sha256(data).hexdigest()
    found = []
    for sample in samples:
        height, width, _ = sample.cut(decoded.pixels).shape
        info = ImageInfo(sample.file, placed_hash(sha256, sample), width, height)
        found.append(_Facts(info, stored, tuple(conversions), _profile_of(decoded), decoded.broken_profile))
    return found


def _profile_of(decoded: Decoded) -> str:
    if decoded.profile is None or decoded.broken_profile:
        return ""
    if decoded.profile.is_srgb:
        return f"{decoded.profile.name} (sRGB)"
    return f"{decoded.profile.name} (converted to sRGB)"


def _folds(dataset: Dataset, n_splits: int, seed: int, hold_out: str | None) -> tuple[list[str], list[str]]:
    """Problems of the folds that a run would make, and with --hold-out what each tests."""
    try:
        folds = planned_folds(dataset, n_splits, seed, hold_out)
    except UserError as error:
        return [str(error)], []
    return [], [] if hold_out is None else described(folds, dataset, hold_out)


def _mask_problems(dataset: Dataset, facts: Sequence[_Facts]) -> list[str]:
    try:
        refuse_other_sizes(dataset, {fact.info.file: (fact.info.width, fact.info.height) for fact in facts})
    except UserError as error:
        return [str(error)]
    return []
