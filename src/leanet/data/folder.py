"""What lies in a dataset folder: images, labels, kinds, masks and groups. No image is opened here."""

import csv
import io
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from leanet.errors import UserError
from leanet.reading import read_bytes

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
CLASS_NAMES = ("normal", "anomalous")
LARGEST_GROUPS = 200_000_000  # bytes of a groups file; a million images have less
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
        mask: posix path, relative to the root, of the ground-truth mask; None where there is none.
    """

    file: str
    label: int
    kind: str
    group: str
    mask: str | None


@dataclass(frozen=True)
class Dataset:
    """The images of a folder: normals first, sorted by file within a class. `notes` are for the user."""

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

    Two layouts are known: a folder for each class (names in any case, subfolders included; whatever else
    lies in the root is ignored, so that a run may be written there too), and, where neither class folder
    exists, MVTec AD (train/good, test/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png). Hidden
    files and files without an image's suffix are ignored.

    Args:
        root: the dataset folder.
        normal_dir, abnormal_dir: the class folders, relative to the root.
        groups: a CSV file with the columns file (relative to the root) and group.

    Raises:
        UserError: a missing root; a missing, empty, ambiguous or shared class folder; a bad groups file.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such dataset folder. Check the path.")
    normal, abnormal = _descend(root, normal_dir), _descend(root, abnormal_dir)
    if normal is None and abnormal is None and _is_mvtec(root):
        dataset = _scan_mvtec(root)
    else:
        dataset = _scan_class_folders(root, (normal_dir, normal), (abnormal_dir, abnormal))
    return dataset if groups is None else _with_groups(dataset, Path(groups))


def has_anomalies(root: Path, abnormal_dir: str) -> bool:
    """Whether a dataset folder holds anomalous images at all, in either layout."""
    if not root.is_dir():
        raise UserError(f"{root}: no such dataset folder. Check the path.")
    folder = _descend(root, abnormal_dir)
    if folder is not None:
        return bool(_images(folder)[0])
    return _is_mvtec(root) and any(_images(f)[0] for f in _subfolders(root / "test") if f.name != "good")


def scan_normals(root: Path, *, normal_dir: str = "Negative", groups: Path | None = None) -> Dataset:
    """List the normal images of a dataset folder that has no others; arguments and errors as in `scan`."""
    folder = _descend(root, normal_dir)
    if folder is None and (root / "train" / "good").is_dir():
        folder = root / "train" / "good"
    if folder is None:
        raise UserError(f"{root}: no folder {normal_dir}/ of normal images. {_found(root)} {_CLASS_REMEDY}")
    files, others = _images(folder)
    if not files:
        raise UserError(f"{folder}: no normal images in it. {_accepted()} {_CLASS_REMEDY}")
    samples = tuple(_sample(root, path, 0, "") for path in files)
    dataset = Dataset(root, samples, tuple(_ignored_note(others)))
    return dataset if groups is None else _with_groups(dataset, Path(groups))


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


def _scan_class_folders(root: Path, normal: tuple[str, Path | None], abnormal: tuple[str, Path | None]) -> Dataset:
    samples: list[Sample] = []
    ignored: Counter[str] = Counter()
    for label, (name, folder) in enumerate((normal, abnormal)):
        if folder is None:
            raise UserError(
                f"{root}: no folder {name}/ of {CLASS_NAMES[label]} images. {_found(root)} {_CLASS_REMEDY}"
                + (" With normal images alone, `leanet fit` is all that works." if label else "")
            )
        files, others = _images(folder)
        ignored.update(others)
        if not files:
            raise UserError(f"{folder}: no {CLASS_NAMES[label]} images in it. {_accepted()} {_CLASS_REMEDY}")
        for path in files:
            kind = path.relative_to(folder).parts[0] if label and path.parent != folder else ""
            samples.append(_sample(root, path, label, kind))
    if len({sample.file for sample in samples}) < len(samples):
        raise UserError(
            f"{root}: --normal-dir {normal[0]} and --abnormal-dir {abnormal[0]} share images. "
            "Name two separate folders."
        )
    return Dataset(root, tuple(samples), tuple(_ignored_note(ignored)))


def _scan_mvtec(root: Path) -> Dataset:
    normals = [path for part in ("train", "test") for path in _images(root / part / "good")[0]]
    samples = [_sample(root, path, 0, "") for path in normals]
    for folder in _subfolders(root / "test"):
        if folder.name != "good":
            for path in _images(folder)[0]:
                mask = root / "ground_truth" / folder.name / f"{path.stem}_mask.png"
                samples.append(_sample(root, path, 1, folder.name, mask if mask.is_file() else None))
    for label, place in enumerate(("train/good and test/good", "test/<defect>")):
        if not any(sample.label == label for sample in samples):
            raise UserError(
                f"{root}: MVTec AD layout without {CLASS_NAMES[label]} images in {place}. {_accepted()}"
            )
    notes = ["MVTec AD layout: all images of train/ and test/ pooled into new folds"]
    if bare := sum(sample.label == 1 and sample.mask is None for sample in samples):
        notes.append(f"{bare} anomalous images have no mask in ground_truth/")
    return Dataset(root, tuple(samples), tuple(notes))


def _is_mvtec(root: Path) -> bool:
    return (root / "train" / "good").is_dir() and (root / "test").is_dir()


def _sample(root: Path, path: Path, label: int, kind: str, mask: Path | None = None) -> Sample:
    file = path.relative_to(root).as_posix()
    try:
        file.encode()
    except UnicodeEncodeError:
        raise UserError(f"{file!r}: the file's name is not valid UTF-8. Rename it.") from None
    return Sample(file, label, kind, file, None if mask is None else mask.relative_to(root).as_posix())


def _images(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Return the image files below a folder, sorted, and counts of the other files by suffix."""
    files, others = list[Path](), Counter[str]()
    for path in visible_files(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            files.append(path)
        else:
            others[path.suffix.lower() or "no suffix"] += 1
    return sorted(files, key=lambda path: path.as_posix()), others


def visible_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in no order: links are followed, names that begin with a dot passed over."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _descend(root: Path, name: str) -> Path | None:
    """Find a folder below the root by its name in any case; None where there is none."""
    folder = root
    for part in PurePosixPath(name).parts:
        matches = [path for path in _subfolders(folder) if path.name.lower() == part.lower()]
        exact = [path for path in matches if path.name == part]
        if len(matches) > 1 and not exact:
            raise UserError(
                f"{folder}: {matches[0].name}/ and {matches[1].name}/ are both {name}. Merge or rename one."
            )
        if not matches:
            return None
        folder = (exact or matches)[0]
    return None if folder == root else folder


def _found(root: Path) -> str:
    names = [f"{path.name}/" for path in _subfolders(root)]
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"Found {listed}." if names else "It has no subfolders."


def _accepted() -> str:
    return f"Images are {' '.join(sorted(IMAGE_SUFFIXES))} files."


def _ignored_note(ignored: Counter[str]) -> Iterator[str]:
    if ignored:
        listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(ignored.items()))
        yield f"files without an image's suffix were ignored: {listed}"


def _with_groups(dataset: Dataset, path: Path) -> Dataset:
    groups = _read_groups(path)
    unknown = sorted(set(groups) - {sample.file for sample in dataset.samples})
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UserError(
            f"{path}: names {unknown[0]}{more}, not in {dataset.root}. "
            f"Files are named relative to the dataset, as in {dataset.samples[0].file}."
        )
    samples = tuple(replace(sample, group=groups.get(sample.file, sample.file)) for sample in dataset.samples)
    alone = len(samples) - len(groups)
    if not alone:
        return replace(dataset, samples=samples)
    have, are = ("files have", "are groups of their") if alone > 1 else ("file has", "is a group of its")
    note = f"{alone} {have} no entry in {path.name} and {are} own"
    return replace(dataset, samples=samples, notes=(*dataset.notes, note))


def _read_groups(path: Path) -> dict[str, str]:
    """Read file -> group from a CSV file with these two columns; other columns are ignored."""
    try:
        reader = csv.DictReader(io.StringIO(read_bytes(path, LARGEST_GROUPS).decode("utf-8-sig"), newline=""))
        missing = {"file", "group"} - set(reader.fieldnames or ())
        if missing:
            raise UserError(
                f"{path}: no column {' and no column '.join(sorted(missing))}. The first line must be file,group."
            )
        groups: dict[str, str] = {}
        for row in reader:
            file, group = row["file"], row["group"]
            if not file or not group:
                raise UserError(f"{path}: line {reader.line_num} lacks a file or a group. Complete or remove it.")
            if groups.setdefault(file, group) != group:
                raise UserError(f"{path}: {file} is in two groups, {groups[file]} and {group}. Keep one.")
        return groups
    except OSError as error:
        raise UserError(f"{path}: cannot read the groups file ({error.strerror}). Check --groups.") from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: not a CSV file in UTF-8. Save it as CSV with the columns file,group.") from None
