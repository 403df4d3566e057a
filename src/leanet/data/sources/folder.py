"""List a data set folder's images with labels, kinds, masks and groups, without decoding them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from leanet.data.dataset import CLASS_NAMES, Dataset, Sample
from leanet.data.decode import read_image_file
from leanet.data.find import IMAGE_SUFFIXES, LeftOut, find_images, folded, identity, notes
from leanet.data.layout import Layout, Masks, arrange, found_in
from leanet.data.registry import register_source
from leanet.data.source import DataSource
from leanet.errors import UserError

_CLASS_REMEDY = "Arrange the images as good/ and bad/, or name the folders with --normal-dir and --abnormal-dir."


@register_source("folder")
class FolderSource(DataSource):
    """A folder of images in one of the layouts that `scan` knows."""

    @property
    def _folders(self) -> tuple[str, str, tuple[str, ...]]:
        return self.options.normal_dir, self.options.abnormal_dir, self.options.normal

    def scan(self) -> Dataset:
        return scan(self.dataset, *self._folders)

    def scan_normals(self) -> Dataset:
        return scan_normals(self.dataset, *self._folders)

    def has_anomalies(self) -> bool:
        return has_anomalies(self.dataset, *self._folders)

    def searched(self) -> list[Path]:
        if not self.dataset.is_dir():
            return []
        return arrange(self.dataset, *self._folders).searched


def scan(
    root: Path, normal_dir: str = "Negative", abnormal_dir: str = "Positive", normal: Sequence[str] = ()
) -> Dataset:
    """List the images of a data set folder.

    Three layouts are supported, see `leanet.data.layout`: one folder per class, with subfolders, of these names or
    of others that say it, such as good and bad; if there are none, MVTec AD (train/good, test/good, test/<defect>,
    ground_truth/<defect>); and, with names in `normal`, one folder per kind, normal ones among them. Other content
    of the root is ignored; a run may be written there too. The notes list what is not read. Folder names match in
    any case. Each file is read once, whatever the number of links to it.

    Args:
        root: data set folder.
        normal_dir, abnormal_dir: class folders, relative to the root.
        normal: names of folders of normal images; all other folders are kinds of anomaly.

    Raises:
        UserError: a missing root; a missing, empty, ambiguous or shared class folder.
    """
    root = Path(root)
    layout = arrange(root, normal_dir, abnormal_dir, normal)
    for label, asked in enumerate((normal[0], "<kind>") if normal else (normal_dir, abnormal_dir)):
        if not layout.of_class(label) and not layout.mvtec:
            raise UserError(
                f"{root}: no folder {asked}/ of {CLASS_NAMES[label]} images. {found_in(root)} {_CLASS_REMEDY}"
                + (" With normal images alone, only `leanet fit` works." if label else "")
            )
    classes = [_read_class(root, layout, label) for label in (0, 1)]
    for label, (samples, left_out) in enumerate(classes):
        if not samples:
            raise _empty(root, layout, label, left_out)
    dataset = _dataset(root, layout, classes)
    if bare := sum(sample.label == 1 and sample.mask is None for sample in dataset.samples) if layout.masks else 0:
        text = f"{bare} anomalous images have no mask in {layout.masks}/"
        dataset = replace(dataset, notes=(*dataset.notes, text))
    return dataset


def has_anomalies(
    root: Path, normal_dir: str = "Negative", abnormal_dir: str = "Positive", normal: Sequence[str] = ()
) -> bool:
    """Whether a data set folder holds any anomalous images, in either layout.

    Raises:
        UserError: as `arrange`; or there are anomalous images, but none is readable.
    """
    root = Path(root)
    layout = arrange(root, normal_dir, abnormal_dir, normal)
    samples, left_out = _read_class(root, layout, 1)
    if not samples and any(item.is_missed for item in left_out):
        remedy = "To fit the normal images alone, move these out of the data set."
        raise UserError(f"{_empty(root, layout, 1, left_out)} {remedy}")
    return bool(samples)


def scan_normals(
    root: Path, normal_dir: str = "Negative", abnormal_dir: str = "Positive", normal: Sequence[str] = ()
) -> Dataset:
    """List the normal images of a data set folder without others; arguments and errors as in `scan`."""
    root = Path(root)
    layout = arrange(root, normal_dir, abnormal_dir, normal)
    if not layout.of_class(0):
        raise UserError(f"{root}: no folder {normal_dir}/ of normal images. {found_in(root)} {_CLASS_REMEDY}")
    samples, left_out = _read_class(root, layout, 0)
    if not samples:
        raise _empty(root, layout, 0, left_out)
    return _dataset(root, layout, [(samples, left_out)])


def _dataset(root: Path, layout: Layout, classes: Sequence[tuple[list[Sample], list[LeftOut]]]) -> Dataset:
    samples = tuple(sample for found, _ in classes for sample in _each_mask_once(found))
    said = notes([item for _, left_out in classes for item in left_out], root)
    return Dataset(root, samples, (*layout.notes, *said))


def _empty(root: Path, layout: Layout, label: int, left_out: Sequence[LeftOut]) -> UserError:
    """The error for a class without images, with the first reason why files were left out."""
    worst_first = sorted(left_out, key=lambda item: not item.is_missed)
    said = "".join(f" It has {text.removeprefix('left out, ')}." for text in notes(worst_first, root)[:1])
    if not layout.mvtec:
        folder = layout.of_class(label)[0].folder
        return UserError(f"{folder}: no {CLASS_NAMES[label]} images in it.{said} {_accepted()} {_CLASS_REMEDY}")
    place = ("good/", "<defect>/")[label]
    return UserError(
        f"{root}: MVTec AD layout without {CLASS_NAMES[label]} images in {place} of {', '.join(layout.splits)}."
        f"{said} {_accepted()}" + (" With normal images alone, only `leanet fit` works." if label else "")
    )


def _read_class(root: Path, layout: Layout, label: int) -> tuple[list[Sample], list[LeftOut]]:
    """The images of a class, each once even if its places overlap, and what was skipped."""
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
    """Of several images of one name, only the first, which is test/'s, keeps the mask."""
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
    named = None if mask is None else mask.relative_to(root).as_posix()
    return Sample(file, label, kind, file, named, partial(read_image_file, path))


def _accepted() -> str:
    return f"Images are {' '.join(sorted(IMAGE_SUFFIXES))} files, and others with such content."
