"""The layout of a data set folder: one folder per class or per kind, or MVTec AD's splits with masks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from leanet.data.find import NO_PICTURE, find_images, folded, identity, listed, same_name, why_not
from leanet.errors import UserError

SPLITS = ("train", "test", "val", "valid", "validation")
"""Split folders of the MVTec AD layout and similar ones; they are pooled."""

GOOD = ("good", "normal", "ok")
"""Folders of normal images within a split, in addition to --normal-dir."""

NORMAL = frozenset(("0", "negative", *GOOD))
ANOMALOUS = frozenset(("1", "positive", "anomalous", "abnormal", "bad"))
"""What labels, and folders beside each other, are called without an option that names them."""

MASKS = "ground_truth"

OF_A_RUN = ("images.csv", "splits.json")
"""Files of a run folder, whose figures are no pictures of the data set."""


@dataclass(frozen=True)
class Place:
    """A folder with images of one class.

    Attributes:
        folder: folder to search, with its subfolders.
        label: 0 normal, 1 anomalous.
        kind: the kind of all its anomalies; "" if subfolders name the kinds.
        masks: folder of their masks; None if there is none.
    """

    folder: Path
    label: int
    kind: str = ""
    masks: Path | None = None


@dataclass(frozen=True)
class Layout:
    """A data set folder's layout, from `arrange`.

    Attributes:
        places: folders of images, normal ones first.
        mvtec: whether it is the MVTec AD layout.
        splits: names of its splits; masks: name of its masks' folder, "" if there is none.
        notes: for the user: what is not read.
        by_kind: whether each folder in the root is one of images.
    """

    places: tuple[Place, ...]
    mvtec: bool
    splits: tuple[str, ...]
    masks: str
    notes: tuple[str, ...]
    by_kind: bool = False

    def of_class(self, label: int) -> tuple[Place, ...]:
        """The places of this label."""
        return tuple(place for place in self.places if place.label == label)

    @property
    def searched(self) -> list[Path]:
        """The folders that are searched for images, kinds or masks."""
        folders = [place.folder.parent if self.mvtec or self.by_kind else place.folder for place in self.places]
        return folders + [place.masks for place in self.places if place.masks]


class Masks:
    """The masks of one defect, by the images' names: the exact name, or else as `folded`.

    The mask of `<name>` is `<name>_mask.png`, `<name>.png` (or with another image suffix), or the folder `<name>/`,
    whose images form one mask together.
    """

    def __init__(self, folder: Path) -> None:
        images = find_images(folder).images
        folders = (path.parent for path in images if path.parent != folder)
        exact = {below.relative_to(folder).as_posix(): below for below in folders}
        for path in images:
            name = path.relative_to(folder).with_suffix("").as_posix()
            exact[re.sub("_mask$", "", name, flags=re.IGNORECASE)] = path
        self._of = {folded(name): path for name, path in exact.items()} | exact

    def of(self, image: PurePath) -> Path | None:
        """The mask, a file or folder, of an image relative to its defect's folder; None if there is none."""
        names = image.with_suffix("").as_posix(), image.stem
        return next((self._of[name] for name in (*names, *map(folded, names)) if name in self._of), None)


def arrange(root: Path, normal_dir: str, abnormal_dir: str, normal: Sequence[str] = ()) -> Layout:
    """Find the folders of the classes; either class may be missing.

    Args:
        root: the data set's folder.
        normal_dir, abnormal_dir: names of the classes' folders.
        normal: names of the folders of normal images beside those of the kinds; replaces the two.
    Raises:
        UserError: no such folder; the two classes share images; or two folders match one name.
    """
    if not root.is_dir():
        remedy = (
            "A manifest's name ends in .csv or .parquet, that of a Label Studio export in .json."
            if root.is_file()
            else "Check the path."
        )
        raise UserError(f"{root}: no such dataset folder. {remedy}")
    if normal:
        return _by_kind(root, normal)
    folders = descend(root, normal_dir), descend(root, abnormal_dir)
    if folders == (None, None) and (splits := _splits(root, *GOOD, normal_dir)):
        return _mvtec(root, splits, (*GOOD, normal_dir), abnormal_dir)
    folders = (
        folders[0] or (_called(root, NORMAL) if folded(normal_dir) in NORMAL else None),
        folders[1] or (_called(root, ANOMALOUS) if folded(abnormal_dir) in ANOMALOUS else None),
    )
    found = [Place(folder, label) for label, folder in enumerate(folders) if folder is not None]
    remedy = f"--normal-dir {normal_dir} and --abnormal-dir {abnormal_dir} share images. Name two separate folders."
    _refuse_shared(found, f"{root}: {remedy}")
    asked = (normal_dir, abnormal_dir)
    read = [
        name if folder is None else folder.relative_to(root).as_posix()
        for folder, name in zip(folders, asked, strict=True)
    ]
    tops = {PurePosixPath(name).parts[0] for name in read if PurePosixPath(name).parts}
    unread = _unread(root, tops, " and ".join(f"{name}/" for name in read)) if found else ()
    return Layout(tuple(found), False, (), "", unread)


def _by_kind(root: Path, normal: Sequence[str]) -> Layout:
    """The layout of ImageFolder: a folder for each kind, in the root or in splits."""
    if splits := _splits(root, *normal):
        return _mvtec(root, splits, normal)
    good = {folded(name) for name in normal}
    below, masks = _subfolders(root), _only(root, MASKS)
    folders = [path for path in below if not all((path / name).is_file() for name in OF_A_RUN)]
    masked = _subfolders(masks) if masks else []
    if missing := [name for name in normal if not any(same_name(path.name, name) for path in folders)]:
        raise UserError(f"--normal {missing[0]}: no such folder in {root}. {found_in(root)}")
    places = [
        Place(path, 0) if folded(path.name) in good else Place(path, 1, path.name, _closest(masked, path.name))
        for path in folders
        if path != masks
    ]
    places.sort(key=lambda place: place.label)
    _refuse_shared(places)
    loose = _loose_images(root, "the folder of their kind")
    runs = [f"left out, a run folder: {path.name}/" for path in below if path not in folders]
    return Layout(tuple(places), False, (), masks.name if masks else "", (*loose, *runs), by_kind=True)


def found_in(root: Path) -> str:
    """The sentence that lists the subfolders."""
    names = [f"{path.name}/" for path in _subfolders(root)]
    return f"Found {listed(names, 8)}." if names else "It has no subfolders."


def descend(root: Path, name: str) -> Path | None:
    """Find a folder below the root by its name, in any case; None if there is none."""
    folder = root
    for part in PurePosixPath(name).parts:
        if (found := _only(folder, part)) is None:
            return None
        folder = found
    return None if folder == root else folder


def _called(root: Path, words: frozenset[str]) -> Path | None:
    """The one subfolder that is called by one of these words; None if there is none, or several."""
    found = [path for path in _subfolders(root) if folded(path.name) in words]
    return found[0] if len(found) == 1 else None


def _only(folder: Path, name: str) -> Path | None:
    """The subfolder of this name, in any case; UserError if several match that are not links to one."""
    matches = [path for path in _subfolders(folder) if same_name(path.name, name)]
    one = _closest(matches, name)
    if one and any(identity(path) != identity(one) for path in matches):
        both = " and ".join(f"{path.name}/" for path in matches)
        raise UserError(f"{folder}: {both} both match {name}. Merge or rename one.")
    return one


def _closest(folders: list[Path], name: str) -> Path | None:
    """The folder with exactly this name, or else in any case; None if there is none."""
    return min((path for path in folders if same_name(path.name, name)), key=lambda p: p.name != name, default=None)


def _mvtec(root: Path, splits: list[Path], normal: Sequence[str], abnormal_dir: str | None = None) -> Layout:
    """The layout of MVTec AD; folders named as in `normal` hold normal images, others a kind of anomaly."""
    good = {folded(name) for name in normal}
    masks = _only(root, MASKS)
    masked = _subfolders(masks) if masks else []
    normals, anomalies = list[Place](), list[Place]()
    for split in splits:
        for folder in _subfolders(split):
            if folded(folder.name) in good:
                normals.append(Place(folder, 0))
            else:
                kind = "" if abnormal_dir and same_name(folder.name, abnormal_dir) else folder.name
                anomalies.append(Place(folder, 1, kind, _closest(masked, folder.name)))
    _refuse_shared([*normals, *anomalies])
    anomalies.sort(key=lambda place: not same_name(place.folder.parent.name, "test"))  # whose masks they are
    names = tuple(f"{split.name}/" for split in splits)
    pooled = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    kept = "MVTec AD layout" if abnormal_dir else "a folder for each kind"
    notes = (
        f"{kept}: all images of {pooled} pooled into new folds",
        *_unread(root, {*SPLITS, MASKS}, ", ".join(names)),
        *(
            note
            for split in splits
            for note in _loose_images(split, f"{split.name}/{normal[0]}/ or a folder of their kind")
        ),
    )
    return Layout((*normals, *anomalies), True, names, masks.name if masks else "", notes)


def _splits(root: Path, *normal: str) -> list[Path]:
    """The split folders, in SPLITS' order, if one of them has a folder of normal images; else none."""
    found = [path for name in SPLITS for path in _subfolders(root) if same_name(path.name, name)]
    good = {folded(name) for name in normal}
    return found if any(folded(path.name) in good for split in found for path in _subfolders(split)) else []


def _refuse_shared(places: list[Place], message: str = "") -> None:
    """Raise UserError if a folder of one class is or is inside a folder of the other."""
    there = [(place, place.folder.resolve()) for place in places]
    for one, normal in [item for item in there if not item[0].label]:
        for other, anomalous in [item for item in there if item[0].label]:
            same = identity(normal) == identity(anomalous)
            if same or normal.is_relative_to(anomalous) or anomalous.is_relative_to(normal):
                text = f"{one.folder} and {other.folder} share normal and anomalous images. Remove a link."
                raise UserError(message or text)


def _unread(root: Path, read: set[str], instead: str) -> tuple[str, ...]:
    """Notes on what is in the root besides the folders that are read."""
    known = {folded(name) for name in read}
    others = [f"{path.name}/" for path in _subfolders(root) if folded(path.name) not in known]
    said = [f"not read: {listed(others)}, beside {instead}"] if others else []
    return (*said, *_loose_images(root, instead))


def _loose_images(folder: Path, place: str) -> list[str]:
    """A note on images that belong to no class."""
    images = [path.name for path in _files(folder) if why_not(path) != NO_PICTURE]
    if not images:
        return []
    where = f"{folder.name or folder.resolve().name}/ itself"
    what = "images" if len(images) > 1 else "image"
    return [f"not read: {len(images)} {what} in {where} ({listed(sorted(images), 3)}). Put them into {place}"]


def _files(folder: Path) -> Iterator[Path]:
    """The regular files in a folder, except hidden ones."""
    return (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
