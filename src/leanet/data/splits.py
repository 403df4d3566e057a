"""Stratified, grouped, seeded folds, in a file that a person can edit."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from leanet.data.dataset import CLASS_NAMES, Dataset, Sample, by_group, check_folds
from leanet.errors import UserError
from leanet.files import write_json
from leanet.reading import parse_json, read_text

LARGEST = 1_000_000_000
"""Most bytes of a splits file; a million images in five folds need a third of this."""

_SHAPE = '{"n_splits": 2, "seed": 0, "folds": [{"train": ["Negative/a.png", ...], "test": [...]}, ...]}'


@dataclass(frozen=True)
class Fold:
    """The files of one fold's train and test sides, by the images' names.

    Attributes:
        held_out: with --hold-out, the column's values on the test side, none of which is on the train side.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    held_out: tuple[str, ...] = ()


def make_folds(dataset: Dataset, n_splits: int, seed: int) -> tuple[Fold, ...]:
    """Split a data set into folds whose test sides partition it.

    The folds are stratified: without groups, a class's share of every test side is within one image of
    proportional. A group of several images stays on one side, and the shares are as close as the groups allow. The
    same data set, n_splits and seed give the same folds.

    Raises:
        UserError: a class has fewer images or groups than folds, or a side of a fold would lack a class.
    """
    check_folds(dataset, n_splits)
    files = np.array([sample.file for sample in dataset.samples])
    labels = [sample.label for sample in dataset.samples]
    groups = [sample.group for sample in dataset.samples]
    grouped = len(set(groups)) < len(groups)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(n_splits, shuffle=True, random_state=seed)
    folds = tuple(
        Fold(tuple(files[train].tolist()), tuple(files[test].tolist()))
        for train, test in splitter.split(files, labels, groups if grouped else None)
    )
    normals = {sample.file for sample in dataset.of_class(0)}
    for index, fold in enumerate(folds):
        _check_groups_allow(fold, index, dataset)
        refuse_one_normal(f"fold {index}", len(normals.intersection(fold.train)))
    return folds


def refuse_one_normal(where: str, normals: int) -> None:
    """Raise UserError if a colorizer would train on a single image, which BatchNorm cannot normalize."""
    if normals < 2:
        raise UserError(
            f"{where}: {normals} normal image to train on; at least 2 are needed. Add normal images, or use "
            f"more folds with --n-splits."
        )


def too_large_groups(dataset: Dataset, n_splits: int) -> list[str]:
    """Notes on groups that hold at least 1.5 times an even share of a class and unbalance the folds."""
    labels = [sample.label for sample in dataset.samples]
    said = []
    for label, name in enumerate(CLASS_NAMES):
        of_class = labels.count(label)
        for group, count in Counter(s.group for s in dataset.samples if s.label == label).items():
            if count > 1 and count * n_splits >= 1.5 * of_class:
                said.append(
                    f"group {group} holds {count} of the {of_class} {name} images: too many for {n_splits} folds "
                    "with the same share of each class. Divide it, or use fewer folds with --n-splits"
                )
    return said


def write_splits(path: Path, folds: Sequence[Fold], seed: int, hold_out: str | None = None) -> None:
    """Write folds as JSON: n_splits, seed, and the files of each fold's train and test sides.

    With --hold-out also its value, and each fold's held-out values.

    Raises:
        UserError: the file cannot be written.
    """
    sides = [
        ({"held_out": list(fold.held_out)} if fold.held_out else {})
        | {"train": list(fold.train), "test": list(fold.test)}
        for fold in folds
    ]
    column = {} if hold_out is None else {"hold_out": hold_out}
    try:
        write_json(path, {"n_splits": len(folds), "seed": seed, **column, "folds": sides}, indent=1)
    except OSError as error:
        raise UserError(
            f"{path}: cannot write the splits ({error.strerror}). Choose another place with --out."
        ) from None


def read_splits(path: Path, dataset: Dataset) -> tuple[Fold, ...]:
    """Read folds that `write_splits` wrote and a person may have edited.

    A file may be missing from every fold. A class may be missing from a test side, whose metrics are then
    undefined. Anything else that would invalidate the results is refused.

    Raises:
        UserError: not a splits file; a file unknown, listed twice, on both sides or tested twice; an empty side;
            a class missing from a training side; a group on both sides.
    """
    folds = _parse(path)
    by_file = {sample.file: sample for sample in dataset.samples}
    for index, fold in enumerate(folds):
        _check_fold(f"{path}: fold {index}", fold, by_file)
    for file, count in Counter(file for fold in folds for file in fold.test).items():
        if count > 1:
            raise UserError(f"{path}: {file} is in the test side of {count} folds. Keep it in one.")
    return folds


def keep_share_of_positives(
    files: Sequence[str], labels: Sequence[int], p_rate: float, seed: int
) -> tuple[str, ...]:
    """Keep every normal file, and the first int(n * p_rate) of n anomalous files in a seeded order.

    With one seed, a smaller share is a subset of a larger one. The order of the files is preserved.

    Args:
        files, labels: one entry per image; 0 normal, 1 anomalous.
        p_rate: share to keep, above 0 and at most 1.

    Raises:
        UserError: p_rate is out of range, or keeps no anomalous file.
    """
    if not 0 < p_rate <= 1:
        raise UserError(f"--p-rate {p_rate}: expected a share above 0 and up to 1.")
    positives = [file for file, label in zip(files, labels, strict=True) if label == 1]
    count = int(len(positives) * p_rate)
    if not count:
        raise UserError(
            f"--p-rate {p_rate}: keeps none of the {len(positives)} anomalous training images. Raise it."
        )
    order = np.random.default_rng(seed).permutation(len(positives))
    kept = {positives[index] for index in order[:count]}
    return tuple(file for file, label in zip(files, labels, strict=True) if label == 0 or file in kept)


def inner_parts(labels: Sequence[int], groups: Sequence[str], n: int, seed: int) -> NDArray[np.int64]:
    """Divide a training side into n parts of whole groups, stratified as far as possible.

    Args:
        labels, groups: one entry per image.
    Returns:
        int (N,), each image's part, 0..n-1.
    Raises:
        UserError: fewer images or groups than parts.
    """
    grouped = len(set(groups)) < len(groups)
    if min(len(set(groups)), max(Counter(labels).values())) < n:
        raise UserError(f"{len(set(groups))} training images or groups cannot make {n} inner parts. Use fewer.")
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(n, shuffle=True, random_state=seed)
    parts = np.zeros(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for number, (_, part) in enumerate(splitter.split(labels, labels, groups if grouped else None)):
            parts[part] = number
    return parts


def _check_groups_allow(fold: Fold, index: int, dataset: Dataset) -> None:
    labels = {sample.file: sample.label for sample in dataset.samples}
    for side, files in (("train", fold.train), ("test", fold.test)):
        for label, name in enumerate(CLASS_NAMES):
            if not any(labels[file] == label for file in files):
                members = by_group(dataset)
                of_class = {group for group in members if any(sample.label == label for sample in members[group])}
                largest = max(of_class, key=lambda group: (len(members[group]), group))
                raise UserError(
                    f"{dataset.root}: the {side} side of fold {index} gets no {name} image. "
                    f"The likely reason is group {largest} of {len(members[largest])} images: "
                    f"divide it, or get other folds with --n-splits or --seed."
                )


def _parse(path: Path) -> tuple[Fold, ...]:
    try:
        content = parse_json(read_text(path, LARGEST))
    except OSError as error:
        raise UserError(f"{path}: cannot read the splits ({error.strerror}). Check the path.") from None
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error}). Correct it, or remove it to get new folds.") from None
    try:
        folds = tuple(
            Fold(_files(fold["train"]), _files(fold["test"]), _files(fold.get("held_out", [])))
            for fold in content["folds"]
        )
        n_splits = content["n_splits"]
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{path}: not a file of splits. It must look like {_SHAPE}.") from None
    if n_splits != len(folds) or not folds:
        raise UserError(f"{path}: n_splits is {n_splits!r:.40}, but there are {len(folds)} folds. Make them equal.")
    return folds


def _files(side: Any) -> tuple[str, ...]:
    if not isinstance(side, list) or not all(isinstance(file, str) for file in side):
        raise TypeError
    return tuple(side)


def _check_fold(where: str, fold: Fold, by_file: dict[str, Sample]) -> None:
    """Refuse a fold with no results or invalid ones; the message starts with `where`."""
    for side, files in (("train", fold.train), ("test", fold.test)):
        if not files:
            raise UserError(f"{where}: the {side} side is empty. Give it images.")
        for file, count in Counter(files).items():
            if file not in by_file:
                raise UserError(f"{where}: {file} is not in the dataset. Remove it from {side}.")
            if count > 1:
                raise UserError(f"{where}: {file} is listed twice in {side}. Keep one.")
    for label, name in enumerate(CLASS_NAMES):
        if not any(by_file[file].label == label for file in fold.train):
            raise UserError(f"{where}: the train side has no {name} image. Give it images of both classes.")
    refuse_one_normal(where, sum(by_file[file].label == 0 for file in fold.train))
    train_groups = {by_file[file].group: file for file in fold.train}
    both_sides = set(fold.train)
    for file in fold.test:
        if file in both_sides:
            raise UserError(f"{where}: {file} is in train and in test. Remove it from one of them.")
        if (group := by_file[file].group) in train_groups:
            raise UserError(
                f"{where}: group {group} is split: {train_groups[group]} is in train, {file} in test. "
                f"Put the group on one side."
            )
