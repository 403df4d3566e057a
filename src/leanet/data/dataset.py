"""A data set from any source: images with labels, kinds, groups and masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from leanet.data.decode import UInt8Array, UnreadableImageError
from leanet.data.groups import read_groups
from leanet.data.pictures import joined
from leanet.data.remote import address
from leanet.errors import UserError

CLASS_NAMES = ("normal", "anomalous")
LEAST = (3, 2)  # fewest images of each class: a colorizer trains on two normal ones


def _no_bytes() -> bytes:
    raise OSError("only its name is known")


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        file: unique name in images.csv, splits.json and predictions.csv; in a folder, the POSIX path relative to
            the data set's root.
        label: 0 normal, 1 anomalous.
        kind: the anomaly's kind (first subfolder of Positive, or MVTec AD defect); "" if there is none.
        group: splits keep a group's images together; without a group, the file itself.
        mask: POSIX path, relative to the root or absolute, of the ground-truth mask, or of a folder whose masks
            form it together; None if there is none.
        read: returns the image file's content, in a format that `leanet.data.decode` reads; OSError if it cannot be
            read. Several threads call it, repeatedly.
        facts: further columns of a manifest or of groups.csv, by their names in lowercase, such as the camera.
        part: the part of the file's picture that is the image: left, top, width and height in pixels. None: all.
    """

    file: str
    label: int
    kind: str = ""
    group: str = ""
    mask: str | None = None
    read: Callable[[], bytes] = field(default=_no_bytes, compare=False, repr=False)
    facts: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    part: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.file)

    @property
    def source(self) -> str:
        """The name of the file."""
        return self.file if self.part is None else self.file.rpartition("#")[0]

    def cut(self, pixels: UInt8Array) -> UInt8Array:
        """The image's pixels, (h, w, 3), of its file's, (H, W, 3)."""
        if self.part is None:
            return pixels
        left, top, width, height = self.part
        return pixels[top : top + height, left : left + width]


@dataclass(frozen=True)
class Dataset:
    """The images of a data set: normals first, sorted within each class folder.

    Attributes:
        root: the DATASET argument, for messages.
        samples: the images.
        notes: remarks for the user.
        base: what names of images and masks are relative to, if it is not the root: a manifest's folder.
        is_exact: whether each mask must have its image's size.
    """

    root: Path
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]
    base: Path | None = None
    is_exact: bool = False

    @property
    def home(self) -> Path:
        """The folder that names of images and masks are relative to."""
        return self.root if self.base is None else self.base

    def of_class(self, label: int) -> tuple[Sample, ...]:
        """Return the samples with this label."""
        return tuple(sample for sample in self.samples if sample.label == label)

    def without(self, files: Collection[str]) -> Dataset:
        """Return this data set without some files, such as unreadable ones."""
        return replace(self, samples=tuple(s for s in self.samples if s.file not in files))

    def place_of(self, sample: Sample) -> Path:
        """An image's name in messages: its path or URL."""
        return self.place(sample.file)

    def place(self, file: str) -> Path:
        """Where a file lies that is named as images and masks are."""
        return Path(joined(address(self.home), file))

    def read(self, sample: Sample) -> bytes:
        """The content of an image file.

        Raises:
            UnreadableImageError: the file cannot be read.
            UserError: the source did not return bytes.
        """
        try:
            data = sample.read()
        except OSError as error:
            reason = (error.strerror or str(error) or "cannot be read").lower()
            raise UnreadableImageError(self.place_of(sample), reason) from None
        if not isinstance(data, bytes):
            raise UserError(
                f"{self.place_of(sample)}: its source read {type(data).__name__}; expected the bytes of an "
                "image file."
            )
        return data


def by_group(dataset: Dataset) -> dict[str, list[Sample]]:
    """Return the samples of each group, groups in the order of their first image."""
    members: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        members.setdefault(sample.group, []).append(sample)
    return members


def by_file(samples: Sequence[Sample]) -> list[list[int]]:
    """The numbers of the images of each file, in the order of the files' first images: each is decoded once."""
    numbers: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        numbers.setdefault(sample.source, []).append(number)
    return list(numbers.values())


def limit_per_class(dataset: Dataset, n: int, seed: int) -> Dataset:
    """Keep about n images of each class: whole groups, drawn at random until each class has n or is used up.

    Without groups, exactly n are kept. A group that exceeds n or holds both classes is kept whole. Tiles are drawn
    one by one: those of a picture are many and much alike.

    Raises:
        UserError: n is less than 1.
    """
    if n < 1:
        raise UserError(f"--max-per-class {n}: must be at least 1.")
    members: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        members.setdefault(sample.group if sample.part is None else sample.file, []).append(sample)
    order = np.random.default_rng(seed).permutation(len(members))
    names = list(members)
    counts, kept = [0, 0], set[str]()
    for index in order:
        labels = [sample.label for sample in members[names[index]]]
        if any(counts[label] < n for label in labels):
            kept.update(sample.file for sample in members[names[index]])
            for label in labels:
                counts[label] += 1
    samples = tuple(sample for sample in dataset.samples if sample.file in kept)
    note = f"--max-per-class {n}: {counts[0]} normal and {counts[1]} anomalous images taken at random"
    return replace(dataset, samples=samples, notes=(*dataset.notes, note))


def check_folds(dataset: Dataset, n_splits: int) -> None:
    """Raise UserError if a class has fewer images, or fewer groups, than there are folds."""
    if n_splits < 2:
        raise UserError(f"--n-splits {n_splits}: at least 2 folds are needed.")
    for label, name in enumerate(CLASS_NAMES):
        samples = dataset.of_class(label)
        sizes = Counter(sample.group for sample in samples)
        for what, count in (("images", len(samples)), ("groups", len(sizes))):
            if count < n_splits:
                least = LEAST[label] if what == "images" else 2
                group, size = sizes.most_common(1)[0] if sizes else ("", 0)
                largest = f" (the largest is {group} with {size} images)" if what == "groups" and size > 1 else ""
                raise UserError(
                    f"{dataset.root}: {count} {name} {what} are too few for {n_splits} folds{largest}. "
                    f"Add images, or pass --n-splits {count}."
                    if count >= least
                    else f"{dataset.root}: {count} {name} {what}; at least {least} are needed, "
                    f"and {n_splits} for {n_splits} folds{largest}. Add images."
                )


def group_copies(dataset: Dataset, copies: Sequence[Sequence[str]]) -> tuple[Dataset, int]:
    """Merge each set of files with the same bytes, and all their groups, into one group.

    Returns:
        The data set, and the number of files that are copies of others.
    """
    group_of = {sample.file: sample.group for sample in dataset.samples}
    for files in copies:
        touched = {group_of[file] for file in files}
        if len(touched) > 1:
            name = min(touched)
            group_of = {file: name if group in touched else group for file, group in group_of.items()}
    samples = tuple(replace(sample, group=group_of[sample.file]) for sample in dataset.samples)
    return replace(dataset, samples=samples), sum(len(files) - 1 for files in copies)


def with_groups(dataset: Dataset, path: Path) -> Dataset:
    """The data set with groups, and further facts, from a CSV file with the columns file and group.

    Raises:
        UserError: see `leanet.data.groups.read_groups`.
    """
    groups, facts, said = read_groups(path, [sample.file for sample in dataset.samples], dataset.root)
    samples = tuple(
        replace(s, group=groups.get(s.file, s.file), facts={**s.facts, **facts.get(s.file, {})})
        for s in dataset.samples
    )
    return replace(dataset, samples=samples, notes=(*dataset.notes, *said))
