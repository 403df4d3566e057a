"""Manifests of the authors' data sets, made of downloads as they are; the pictures stay where they are.

A data set is one function in DOWNLOADS: from the download, and the part of it that is asked for, to rows.
"""

from __future__ import annotations

import filecmp
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from leanet.data.dataset import CLASS_NAMES
from leanet.data.find import find_images, folded, folders_below, listed, notes, same_name
from leanet.data.layout import SPLITS
from leanet.data.sources.folder import scan
from leanet.errors import OptionError, UserError
from leanet.files import open_text, refuse_other, write_csv
from leanet.reading import parse_json, read_bytes

_log = logging.getLogger(__name__)

HEADER = ("file", "label", "kind", "group", "split", "mask")

LEAF_MAP = "leaf-map.json"
"""The file of PlantVillage's GitHub copy that says which pictures show one leaf."""

NEIGHBORS = 20
"""Without it, camera numbers of a series that count as one leaf."""


@dataclass(frozen=True)
class Row:
    """A picture of a download: its label, 0 or 1, and what else its folders and name tell."""

    file: Path
    label: int
    kind: str = ""
    group: str = ""
    split: str = ""
    mask: Path | None = None


def arrange_download(name: str, download: Path, out: Path) -> list[Row]:
    """Write the manifest of a data set of DOWNLOADS, completely or not at all.

    Args:
        name: its name, or NAME/PART.
        download: the folder that it was unpacked to.
        out: CSV file to write, with the columns of HEADER; an earlier one is replaced. Files below its folder are
            named relative to it, others absolutely.
    Raises:
        UserError: an unknown name; a download without the folders of this set; a file that is no manifest in the
            way.
    """
    found, _, part = name.partition("/")
    if found.lower() not in DOWNLOADS:
        raise UserError(f"{name}: no such data set. Choose from {', '.join(DOWNLOADS)}.")
    if out.suffix.lower() != ".csv":
        raise OptionError("out", out, "expected the name of a .csv file.")
    if not download.is_dir():
        raise UserError(f"{download}: no such folder. Unpack the download, and name its folder.")
    refuse_other(out, f"--out {out}", _is_manifest)
    rows = DOWNLOADS[found.lower()](download, part)
    for label, of_class in enumerate(CLASS_NAMES):
        if not any(row.label == label for row in rows):
            raise UserError(f"{download}: no {of_class} pictures in the folders of {name}. Check the download.")
    write_csv(out, HEADER, (_cells(row, out) for row in rows))
    return rows


def summary(rows: Sequence[Row]) -> list[str]:
    """What a manifest has, in words."""
    counts = Counter(row.label for row in rows)
    kinds = Counter(row.kind for row in rows if row.kind)
    groups = Counter(row.group for row in rows if row.group)
    masks = sum(row.mask is not None for row in rows)
    return [
        f"{counts[0]} normal, {counts[1]} anomalous",
        *([f"kinds: {listed([f'{kind} {count}' for kind, count in sorted(kinds.items())])}"] if kinds else []),
        *([f"groups: {len(groups)}, with {sum(groups.values())} of the pictures"] if groups else []),
        *([f"masks: {masks}"] if masks else []),
    ]


def plantvillage(download: Path, crop: str) -> list[Row]:
    """One crop's folders, such as Potato___healthy: of the colored pictures, if there are other versions of them.

    Groups are the published leaves, or else NEIGHBORS successive pictures of a series.
    """
    if not crop:
        raise UserError("plantvillage: name a crop too, such as plantvillage/Potato.")
    folders = folders_below(download)
    places: dict[Path, dict[str, Path]] = {}
    crops = dict[str, None]()
    for folder in folders:
        if (said := _condition(folder.name, crop)) is not None:
            crops[said[0]] = None
            places.setdefault(folder.parent, {})[said[1]] = folder
    if len(crops) > 1:
        raise UserError(f"plantvillage/{crop}: {download} has several such crops: {listed(crops)}. Name one.")
    whole = [place for place, kinds in places.items() if len(kinds) > 1 and any(map(_is_healthy, kinds))]
    if not whole:
        arranged = _of_classes(download, "Negative", "Positive")
        rows = [replace(row, kind=row.kind or _code(row)) for row in arranged]
    else:
        chosen = min(whole, key=lambda place: (not same_name(place.name, "color"), len(place.parts), place))
        _say_unread(whole, chosen, download)
        rows = [
            Row(file, int(not _is_healthy(kind)), "" if _is_healthy(kind) else kind)
            for kind, folder in sorted(places[chosen].items(), key=lambda item: (not _is_healthy(item[0]), item))
            for file in _pictures(folder, download)
        ]
    leaves = next((read for folder in folders if (read := _leaf_map(folder / LEAF_MAP))), {})
    return [replace(row, group=_leaf(row.file, leaves)) for row in rows]


def mvtec(download: Path, category: str) -> list[Row]:
    """One category, with its splits and masks."""
    found = [
        folder
        for folder in folders_below(download)
        if _has_splits(folder) and (same_name(folder.name, category) if category else folder == download)
    ]
    if not found:
        other = [folder.name for folder in folders_below(download) if _has_splits(folder)]
        raise UserError(
            f"{download}: no folder {category or 'train'}/ of a category, such as mvtec/leather. "
            f"It has {listed(other) or 'none'}."
        )
    dataset = scan(found[0])
    for text in dataset.notes[1:]:
        _log.info(f"note: {text}")
    root = found[0]
    return [
        Row(root / s.file, s.label, s.kind, "", s.file.partition("/")[0], root / s.mask if s.mask else None)
        for s in dataset.samples
    ]


def hurricane(download: Path, part: str) -> list[Row]:
    """The parts of the download, a picture in several of them once; neighbors as groups."""
    _refuse_part("hurricane", part)
    rows = _of_classes(download, "no_damage", "damage") or _of_classes(download, "Negative", "Positive")
    once = list[Row]()
    first: dict[tuple[int, str], Row] = {}
    for row in rows:
        same = first.setdefault((row.label, row.file.name), row)
        if same is row or not filecmp.cmp(same.file, row.file, shallow=False):
            once.append(replace(row, group=_place(row.file.name)))
    if len(once) < len(rows):
        _log.info(f"note: {len(rows) - len(once)} pictures are in several parts; each is listed once")
    return once


def of_two_folders(name: str, normal: str, anomalous: str) -> Callable[[Path, str], list[Row]]:
    """A data set of two folders with these names, wherever they are in the download."""

    def arrange(download: Path, part: str) -> list[Row]:
        _refuse_part(name, part)
        return _of_classes(download, normal, anomalous)

    return arrange


DOWNLOADS: dict[str, Callable[[Path, str], list[Row]]] = {
    "dr2": of_two_folders("dr2", "negative", "positive"),
    "plantvillage": plantvillage,
    "mvtec": mvtec,
    "concrete": of_two_folders("concrete", "Negative", "Positive"),
    "cloud": of_two_folders("cloud", "noncloud", "cloud"),
    "hurricane": hurricane,
}


def _of_classes(download: Path, normal: str, anomalous: str) -> list[Row]:
    """The pictures in two folders beside each other, in as many places as there are; subfolders name kinds."""
    rows = list[Row]()
    for parent in folders_below(download):
        named = {folded(path.name): path for path in _subfolders(parent)}
        if {folded(normal), folded(anomalous)} <= named.keys():
            split = "" if parent == download else parent.relative_to(download).as_posix()
            for label, name in enumerate((normal, anomalous)):
                folder = named[folded(name)]
                for file in _pictures(folder, download):
                    inside = file.relative_to(folder).parts
                    rows.append(Row(file, label, inside[0] if label and len(inside) > 1 else "", split=split))
    if len({row.split for row in rows}) == 1:  # one place is no split
        rows = [replace(row, split="") for row in rows]
    return sorted(rows, key=lambda row: row.label)


def _condition(folder: str, crop: str) -> tuple[str, str] | None:
    """The crop that a folder of PlantVillage names and what it has, if it is this crop: Potato, Early_blight."""
    head, sign, tail = folder.partition("___")
    if not sign and folded(folder).startswith(folded(crop)):
        head, tail = folder[: len(crop)], folder[len(crop) :].strip(" _-")
    return (head, tail) if tail and _letters(head).startswith(_letters(crop)) else None


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", folded(name))


def _is_healthy(condition: str) -> bool:
    return folded(condition) == "healthy"


def _code(row: Row) -> str:
    """The kind that a picture's own name tells: Early.B of ...___RS_Early.B 8828.JPG."""
    return _series(row.file)[0].partition("_")[2] if row.label else ""


def _series(file: Path) -> tuple[str, int | None]:
    """The series of a picture of PlantVillage and its camera number: RS_HL and 1864 of ...___RS_HL 1864.JPG."""
    found = re.match(r"(.*?) *(\d+)", file.stem.rpartition("___")[2])
    return (found[1], int(found[2])) if found and "___" in file.stem else ("", None)


def _leaf_map(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    try:
        found = parse_json(read_bytes(path, 100_000_000))
        return {str(name): list(map(str, leaves)) for name, leaves in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise UserError(f"{path}: not the leaf map of PlantVillage. Restore or remove it.") from None


def _leaf(file: Path, leaves: dict[str, list[str]]) -> str:
    """The leaf of a picture, "" if nothing tells it."""
    found = leaves.get(file.stem.rpartition("___")[2].strip().lower(), [])
    of_folder = [leaf for leaf in found if _letters(leaf.partition(":::")[0]) == _letters(file.parent.name)]
    if of_folder or len(found) == 1:
        return (of_folder or found)[0].replace(":::", " ")
    series, number = _series(file)
    return "" if number is None else f"{series} {number // NEIGHBORS}"


def _place(name: str) -> str:
    """Longitude and latitude to about a kilometer, of a picture whose name is its place."""
    found = re.match(r"(-?\d+\.\d+)_(-?\d+\.\d+)", name)
    return f"{float(found[1]):.2f} {float(found[2]):.2f}" if found else ""


def _pictures(folder: Path, download: Path) -> tuple[Path, ...]:
    found = find_images(folder)
    for text in notes(found.left_out, download):
        _log.info(f"note: {text}")
    return found.images


def _subfolders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir())


def _has_splits(folder: Path) -> bool:
    names = {folded(path.name) for path in _subfolders(folder)}
    return bool(names & {*SPLITS}) and any((folder / split / "good").is_dir() for split in SPLITS)


def _say_unread(places: Iterable[Path], chosen: Path, download: Path) -> None:
    others = [path.relative_to(download).as_posix() for path in places if path != chosen]
    if others:
        _log.info(f"note: read {chosen.relative_to(download)}/, not the same crop in {listed(others)}")


def _refuse_part(name: str, part: str) -> None:
    if part:
        raise UserError(f"{name}/{part}: this set has no parts. Leave out /{part}.")


def _cells(row: Row, out: Path) -> tuple[object, ...]:
    mask = "" if row.mask is None else _named(row.mask, out)
    return _named(row.file, out), row.label, row.kind, row.group, row.split, mask


def _named(file: Path, out: Path) -> str:
    """A file's name in the manifest."""
    place, home = Path(os.path.abspath(file)), Path(os.path.abspath(out.parent))  # noqa: PTH100 - links stay
    text = (place.relative_to(home) if place.is_relative_to(home) else place).as_posix()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{text!r}: the file's name is not valid UTF-8. Rename it.") from None
    return text


def _is_manifest(path: Path) -> bool:
    with open_text(path) as file:
        return file.readline(1000).strip() == ",".join(HEADER)
