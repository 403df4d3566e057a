"""Folds that test values of a column that they do not train on: a camera, a site, a kind of anomaly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from leanet.data.dataset import CLASS_NAMES, Dataset, Sample
from leanet.data.find import listed
from leanet.data.groups import alike
from leanet.data.splits import Fold, make_folds
from leanet.data.tables import column_name
from leanet.errors import UserError

MOST_VALUES = 10
"""Up to this many values, each is a fold; more values are distributed over --n-splits folds."""

OF_EVERY_IMAGE: dict[str, Callable[[Sample], str]] = {"kind": lambda s: s.kind, "group": lambda s: s.group}
"""Columns that every source has."""

LEAST_NORMALS = 2
"""Normal images of a training side, as `leanet.data.splits.refuse_one_normal` demands them."""

_NEITHER = -1
"""The side of an image that no fold uses."""


def planned_folds(dataset: Dataset, n_splits: int, seed: int, hold_out: str | None = None) -> tuple[Fold, ...]:
    """The folds of a run: `held_out_folds` with --hold-out, or else `make_folds`, with the errors of either."""
    if hold_out is None:
        return make_folds(dataset, n_splits, seed)
    return held_out_folds(dataset, hold_out, n_splits, seed)


def held_out_folds(dataset: Dataset, hold_out: str, n_splits: int, seed: int) -> tuple[Fold, ...]:
    """Folds for `--hold-out`, in the order of the values.

    A fold tests the images with its values, and trains on those with others. Images of a group that is tested are
    left out of training. A class of which no image has a value, such as the normal images with `kind`, is divided:
    each fold tests a part of it, as large as with ordinary folds or smaller. Of a class with values, images without
    one are left out. The same data set, options and seed give the same folds.

    Args:
        dataset: the images.
        hold_out: a column, or COLUMN=VALUE to test only this value.
        n_splits: number of parts of a class without values, at least; number of folds of more than MOST_VALUES.
        seed: of the division into parts.
    Raises:
        UserError: no such column or value; fewer than two values; a train side that lacks a class.
    """
    column, _, asked = hold_out.partition("=")
    values = _values(dataset, column)
    tested = _tested(dataset, hold_out, values, asked.strip(), n_splits, seed)
    number_of = {name: number for number, names in enumerate(tested) for name in names}
    sides = {file: number_of[value] for file, value in values.items() if value in number_of}
    for label in (0, 1):
        if not any(values[sample.file] for sample in dataset.of_class(label)):
            sides |= _parts(dataset, label, sides, max(n_splits, len(tested)), seed)
        else:
            sides |= {s.file: _NEITHER for s in dataset.of_class(label) if not values[s.file]}
    folds = tuple(_fold(dataset, sides, number, names) for number, names in enumerate(tested))
    _refuse_empty_sides(dataset, folds, hold_out)
    return folds


def refuse_stale(place: Path, folds: Sequence[Fold], dataset: Dataset, hold_out: str) -> None:
    """Raise UserError if the column's values have changed since the folds were made."""
    values = _values(dataset, hold_out.partition("=")[0])
    for number, fold in enumerate(folds):
        stale = [file for file in fold.train if values.get(file) in fold.held_out]
        stale += [file for file in fold.test if values.get(file, "") not in (*fold.held_out, "")]
        if stale:
            raise UserError(
                f"{place}: fold {number} was made when {stale[0]} had another value of {hold_out}. "
                "Choose another --out."
            )


def described(folds: Sequence[Fold], dataset: Dataset, hold_out: str) -> list[str]:
    """For the user: what each fold tests, and what no fold uses."""
    labels, column = {sample.file: sample.label for sample in dataset.samples}, hold_out.partition("=")[0]
    said = []
    for number, fold in enumerate(folds):
        counts = Counter(labels[file] for file in fold.test)
        missing = [name for label, name in enumerate(CLASS_NAMES) if not counts[label]]
        undefined = f"; without {missing[0]} images, its AUROC is undefined" if missing else ""
        left = len(labels) - len(fold.test) - len(fold.train)
        neither = f"; {left} images in neither training nor test" if left else ""
        said.append(
            f"--hold-out {column}: fold {number} tests {listed(fold.held_out)} "
            f"({counts[0]} normal, {counts[1]} anomalous){neither}{undefined}"
        )
    every = (value for value in _values(dataset, column).values() if value)
    return said + [f"--hold-out {column}: {note}" for note in alike("values", every)]


def _values(dataset: Dataset, column: str) -> dict[str, str]:
    """The value of each image, "" if it has none."""
    name = column_name(column)
    if name in OF_EVERY_IMAGE:
        return {sample.file: OF_EVERY_IMAGE[name](sample) for sample in dataset.samples}
    known = {fact: None for sample in dataset.samples for fact in sample.facts}
    if name not in known:
        raise UserError(
            f"--hold-out {column}: {dataset.root} has no such column. Name one of "
            f"{listed([*OF_EVERY_IMAGE, *known])}, or give a manifest or --groups this column."
        )
    return {sample.file: sample.facts.get(name, "") for sample in dataset.samples}


def _tested(
    dataset: Dataset, hold_out: str, values: dict[str, str], asked: str, n_splits: int, seed: int
) -> list[tuple[str, ...]]:
    """The values that each fold tests."""
    counts = Counter(value for value in values.values() if value)
    names = sorted(counts)
    if len(names) < 2:
        only = f"only {names[0]}" if names else "none"
        raise UserError(f"--hold-out {hold_out}: needs two values or more; {dataset.root} has {only}.")
    if asked and asked not in counts:
        raise UserError(f"--hold-out {hold_out}: no image has this value. Choose from {listed(names)}.")
    if asked:
        return [(asked,)]
    if len(names) <= MOST_VALUES:
        return [(name,) for name in names]
    rows = [(sample.label, value) for sample in dataset.samples if (value := values[sample.file])]
    labels, groups = [label for label, _ in rows], [value for _, value in rows]
    splitter = StratifiedGroupKFold(min(n_splits, len(names)), shuffle=True, random_state=seed)
    try:
        return [tuple(sorted({groups[row] for row in test})) for _, test in splitter.split(rows, labels, groups)]
    except ValueError:
        raise UserError(
            f"--n-splits {n_splits}: too many folds for the images with values of {hold_out}. Choose fewer."
        ) from None


def _parts(dataset: Dataset, label: int, sides: dict[str, int], parts: int, seed: int) -> dict[str, int]:
    """The parts of a class without values, by file: whole groups, those of tested images where these are tested."""
    group_side = {s.group: sides[s.file] for s in reversed(dataset.samples) if s.file in sides}
    divided = {s.file: group_side[s.group] for s in dataset.of_class(label) if s.group in group_side}
    free: dict[str, list[Sample]] = {}
    for sample in dataset.of_class(label):
        if sample.file not in divided:
            free.setdefault(sample.group, []).append(sample)
    sizes = Counter(divided.values())
    names = list(free)
    order = np.random.default_rng(seed).permutation(len(names))
    for group in sorted((names[row] for row in order), key=lambda name: -len(free[name])):
        part = min(range(parts), key=lambda number: (sizes[number], number))
        sizes[part] += len(free[group])
        divided |= {sample.file: part for sample in free[group]}
    return divided


def _fold(dataset: Dataset, sides: dict[str, int], number: int, names: tuple[str, ...]) -> Fold:
    test = [sample for sample in dataset.samples if sides.get(sample.file) == number]
    groups = {sample.group for sample in test}
    train = [s for s in dataset.samples if sides.get(s.file) not in (number, _NEITHER) and s.group not in groups]
    return Fold(tuple(s.file for s in train), tuple(s.file for s in test), names)


def _refuse_empty_sides(dataset: Dataset, folds: Sequence[Fold], hold_out: str) -> None:
    labels = {sample.file: sample.label for sample in dataset.samples}
    for number, fold in enumerate(folds):
        where = f"--hold-out {hold_out}: fold {number}, which tests {listed(fold.held_out)}"
        counts = Counter(labels[file] for file in fold.train)
        if counts[0] < LEAST_NORMALS or not counts[1]:
            raise UserError(
                f"{where}, has {counts[0]} normal and {counts[1]} anomalous images to train on; at least "
                f"{LEAST_NORMALS} and 1 are needed, of groups that it does not test. Choose another column."
            )
