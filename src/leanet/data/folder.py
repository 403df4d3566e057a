"""What lies in a dataset folder: images, labels, kinds, masks and groups. No image is decoded here."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from leanet.data.find import IMAGE_SUFFIXES, LeftOut, find_images, folded, identity, notes
from leanet.data.groups import read_groups
from leanet.data.layout import Layout, Masks, arrange, found_in
from leanet.errors import UserError

CLASS_NAMES = ("normal", "anomalous")
LEAST = (3, 2)  # images of each class for any folds at all: two normal ones to train a colorizer on

_CLASS_REMEDY = (
    "Arrange the images as Negative/ and Positive/, or name the folders with --normal-dir and --abnormal-dir."
)


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        file: posix path relative to the dataset's root.
        label: 0 normal, 1 anomalous.
        kind: the anomaly's kind (first subfolder of Positive, or MVTec AD defect); "" where there is none.
        group: images of one group are never parted by a split; the file itself where no group is known.
        mask: posix path, relative to the root, of the ground-truth mask, or of the folder of masks that make it up
            together; None where there is none.
    """

    file: str
    label: int
    kind: str
    group: str
    mask: str | None


@dataclass(frozen=True)
class Dataset:
    """The images of a folder: normals first, sorted within a folder of a class. `notes` are for the user."""

    root: Path
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]

    def of_class(self, label: int) -> tuple[Sample, ...]:
        """Return the samples with this label."""
        return tuple(sample for sample in self.samples if sample.label == label)

    def without(self, files: Collection[str]) -> "Dataset":
        """Return this dataset less some files, such as the unreadable ones."""
        return replace(self, samples=tuple(s for s in self.samples if s.file not in files))


def scan(
    root: Path,
    *,
    normal_dir: str = "Negative",
    abnormal_dir: str = "Positive",
    groups: Path | None = None,
) -> Dataset:
    """List the images of a dataset folder.

    Two layouts are known: a folder for each class (subfolders included; whatever else lies in the root is left
    alone, so that a run may be written there too), and, where neither class folder exists, MVTec AD
    (train/good, test/good, test/<defect>, ground_truth/<defect>), see `leanet.data.layout`. What is not read is
    in the notes. Names of folders count in any case. Each real file is read once, however many links lead to it.

    Args:
        root: the dataset folder.
        normal_dir, abnormal_dir: the class folders, relative to the root.
        groups: a CSV file with the columns file (relative to the root) and group.

    Raises:
        UserError: a missing root; a missing, empty, ambiguous or shared class folder; a bad groups file.
    """
    root = Path(root)
    layout = arrange(root, normal_dir, abnormal_dir)
    for label, asked in enumerate((normal_dir, abnormal_dir)):
        if not layout.of_class(label) and not layout.mvtec:
            raise UserError(
                f"{root}: no folder {asked}/ of {CLASS_NAMES[label]} images. {found_in(root)} {_CLASS_REMEDY}"
                + (" With normal images alone, `leanet fit` is all that works." if label else "")
            )
    classes = [_read_class(root, layout, label) for label in (0, 1)]
    for label, (samples, left_out) in enumerate(classes):
        if not samples:
            raise _empty(root, layout, label, left_out)
    dataset = _dataset(root, layout, classes)
    if bare := sum(sample.label == 1 and sample.mask is None for sample in dataset.samples) if layout.masks else 0:
        text = f"{bare} anomalous images have no mask in {layout.masks}/"
        dataset = replace(dataset, notes=(*dataset.notes, text))
    return dataset if groups is None else _with_groups(dataset, Path(groups))


def refuse_within(
    written: Path, root: Path, *, normal_dir: str = "Negative", abnormal_dir: str = "Positive"
) -> None:
    """Raise UserError where a folder that is to be written lies among the images: its own would count as such."""
    if root.is_dir() and (holder := arrange(root, normal_dir, abnormal_dir).holder_of(written)):
        raise UserError(
            f"--out {written}: lies in {holder}, whose images are read; its own pictures would be taken for some. "
            "Choose another --out."
        )


def has_anomalies(root: Path, abnormal_dir: str, normal_dir: str = "Negative") -> bool:
    """Whether a dataset folder holds anomalous images at all, in either layout.

    Raises:
        UserError: as `arrange`; or it does, and none of them can be read.
    """
    root = Path(root)
    layout = arrange(root, normal_dir, abnormal_dir)
    samples, left_out = _read_class(root, layout, 1)
    if not samples and any(item.is_missed for item in left_out):
        remedy = "To fit the normal images alone, move these out of the data set."
        raise UserError(f"{_empty(root, layout, 1, left_out)} {remedy}")
    return bool(samples)


def scan_normals(
    root: Path, *, normal_dir: str = "Negative", abnormal_dir: str = "Positive", groups: Path | None = None
) -> Dataset:
    """List the normal images of a dataset folder that has no others; arguments and errors as in `scan`."""
    root = Path(root)
    layout = arrange(root, normal_dir, abnormal_dir)
    if not layout.of_class(0):
        raise UserError(f"{root}: no folder {normal_dir}/ of normal images. {found_in(root)} {_CLASS_REMEDY}")
    samples, left_out = _read_class(root, layout, 0)
    if not samples:
        raise _empty(root, layout, 0, left_out)
    dataset = _dataset(root, layout, [(samples, left_out)])
    return dataset if groups is None else _with_groups(dataset, Path(groups))


def _dataset(root: Path, layout: Layout, classes: Sequence[tuple[list[Sample], list[LeftOut]]]) -> Dataset:
    samples = tuple(sample for found, _ in classes for sample in _each_mask_once(found))
    said = notes([item for _, left_out in classes for item in left_out], root)
    return Dataset(root, samples, (*layout.notes, *said))


def _empty(root: Path, layout: Layout, label: int, left_out: Sequence[LeftOut]) -> UserError:
    """What is wrong with a class without images, with the first reason why its files were left out."""
    worst_first = sorted(left_out, key=lambda item: not item.is_missed)
    said = "".join(f" It has {text.removeprefix('left out, ')}." for text in notes(worst_first, root)[:1])
    if not layout.mvtec:
        folder = layout.of_class(label)[0].folder
        return UserError(f"{folder}: no {CLASS_NAMES[label]} images in it.{said} {_accepted()} {_CLASS_REMEDY}")
    place = ("good/", "<defect>/")[label]
    return UserError(
        f"{root}: MVTec AD layout without {CLASS_NAMES[label]} images in {place} of {', '.join(layout.splits)}."
        f"{said} {_accepted()}" + (" With normal images alone, `leanet fit` is all that works." if label else "")
    )


def limit_per_class(dataset: Dataset, n: int, seed: int) -> Dataset:
    """Keep about n images of each class: whole groups, drawn at random until each class has n or is used up.

    Without groups that is exactly n; a group that reaches beyond n, or holds both classes, is kept whole.

    Raises:
        UserError: n is less than 1.
    """
    if n < 1:
        raise UserError(f"--max-per-class {n}: must be at least 1.")
    members = by_group(dataset)
    order = np.random.default_rng(seed).permutation(len(members))
    names = list(members)
    counts, kept = [0, 0], set[str]()
    for index in order:
        labels = [sample.label for sample in members[names[index]]]
        if any(counts[label] < n for label in labels):
            kept.add(names[index])
            for label in labels:
                counts[label] += 1
    samples = tuple(sample for sample in dataset.samples if sample.group in kept)
    note = f"--max-per-class {n}: {counts[0]} normal and {counts[1]} anomalous images taken at random"
    return replace(dataset, samples=samples, notes=(*dataset.notes, note))


def by_group(dataset: Dataset) -> dict[str, list[Sample]]:
    """Return the samples of each group, groups in the order of their first image."""
    members: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        members.setdefault(sample.group, []).append(sample)
    return members


def check_folds(dataset: Dataset, n_splits: int) -> None:
    """Raise UserError where a class has fewer images, or fewer groups, than there are folds."""
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
    """Make one group of each set of files with the same bytes, and of all groups that it touches.

    Returns:
        the data set, and how many of its files are copies of others.
    """
    group_of = {sample.file: sample.group for sample in dataset.samples}
    for files in copies:
        touched = {group_of[file] for file in files}
        if len(touched) > 1:
            name = min(touched)
            group_of = {file: name if group in touched else group for file, group in group_of.items()}
    samples = tuple(replace(sample, group=group_of[sample.file]) for sample in dataset.samples)
    return replace(dataset, samples=samples), sum(len(files) - 1 for files in copies)


def _read_class(root: Path, layout: Layout, label: int) -> tuple[list[Sample], list[LeftOut]]:
    """The images of a class, each once whatever its places share, and what was passed over."""
    places = layout.of_class(label)
    others = [identity(place.folder) for place in layout.of_class(1 - label)]
    found = find_images(*(place.folder for place in places), closed=others)
    images: dict[Path, list[Path]] = {place.folder: [] for place in places}
    for path in found.images:
        images[next(parent for parent in path.parents if parent in images)].append(path)
    samples, spelled = list[Sample](), dict[str, str]()
    for place in places:
        masks = None if place.masks is None else Masks(place.masks)
        for path in images[place.folder]:
            inside = path.relative_to(place.folder)
            kind = place.kind or (inside.parts[0] if label and len(inside.parts) > 1 else "")
            mask = None if masks is None else masks.of(inside)
            samples.append(_sample(root, path, label, spelled.setdefault(folded(kind), kind), mask))
    return samples, list(found.left_out)


def _each_mask_once(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Leave a mask to the first of several images of one name, which is that of test/."""
    taken = set[str]()
    for sample in samples:
        yield replace(sample, mask=None) if sample.mask in taken else sample
        if sample.mask:
            taken.add(sample.mask)


def _sample(root: Path, path: Path, label: int, kind: str, mask: Path | None = None) -> Sample:
    file = path.relative_to(root).as_posix()
    try:
        file.encode()
    except UnicodeEncodeError:
        raise UserError(f"{file!r}: the file's name is not valid UTF-8. Rename it.") from None
    return Sample(file, label, kind, file, None if mask is None else mask.relative_to(root).as_posix())


def _accepted() -> str:
    return f"Images are {' '.join(sorted(IMAGE_SUFFIXES))} files, and others whose content says so."


def _with_groups(dataset: Dataset, path: Path) -> Dataset:
    groups, said = read_groups(path, [sample.file for sample in dataset.samples], dataset.root)
    samples = tuple(replace(sample, group=groups.get(sample.file, sample.file)) for sample in dataset.samples)
    return replace(dataset, samples=samples, notes=(*dataset.notes, *said))
