"""Folds that test values of a column which they do not train on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from leanet.data.dataset import Dataset, Sample
from leanet.data.hold_out import MOST_VALUES, described, held_out_folds, planned_folds, refuse_stale
from leanet.data.splits import Fold, make_folds, read_splits, write_splits
from leanet.errors import UserError

ROOT = Path("leaves")


def of_cameras(counts: dict[str, tuple[int, int]]) -> Dataset:
    """Normal and anomalous images of each camera; "" is none."""
    samples = [
        Sample(f"{camera}{label}{i}.png", label, facts={"camera": camera} if camera else {})
        for label in (0, 1)
        for camera, of_class in counts.items()
        for i in range(of_class[label])
    ]
    return Dataset(ROOT, tuple(samples), ())


def of_kinds(normals: int, kinds: dict[str, int], groups: dict[str, str] | None = None) -> Dataset:
    samples = [Sample(f"n{i}", 0) for i in range(normals)]
    samples += [Sample(f"{kind}{i}", 1, kind) for kind, count in kinds.items() for i in range(count)]
    grouped = tuple(dataclasses.replace(s, group=(groups or {}).get(s.file, s.file)) for s in samples)
    return Dataset(ROOT, grouped, ())


def values(dataset: Dataset, files: Sequence[str], column: str = "camera") -> set[str]:
    by_file = {s.file: s for s in dataset.samples}
    return {by_file[file].kind if column == "kind" else by_file[file].facts.get(column, "") for file in files}


def test_each_camera_is_tested_by_a_fold_that_never_saw_it() -> None:
    dataset = of_cameras({"nikon": (6, 4), "canon": (5, 3), "phone": (4, 0)})
    folds = held_out_folds(dataset, "Camera", 5, 0)
    assert [fold.held_out for fold in folds] == [("canon",), ("nikon",), ("phone",)]
    for fold in folds:
        assert values(dataset, fold.test) == set(fold.held_out)
        assert not values(dataset, fold.train) & set(fold.held_out)
        assert len(fold.train) + len(fold.test) == len(dataset.samples)
    assert described(folds, dataset, "camera")[2] == (
        "--hold-out camera: fold 2 tests phone (4 normal, 0 anomalous); without anomalous images, its AUROC is "
        "undefined"
    )
    assert held_out_folds(dataset, "camera=nikon", 5, 0) == (folds[1],)
    assert planned_folds(dataset, 3, 0) == make_folds(dataset, 3, 0)


def test_spellings_of_a_value_are_said() -> None:
    dataset = of_cameras({"Nikon": (3, 3), "nikon": (3, 3)})
    folds = held_out_folds(dataset, "camera", 5, 0)
    assert described(folds, dataset, "camera")[-1] == (
        "--hold-out camera: values that differ only in case or spaces count as different: Nikon / nikon"
    )


def test_images_of_an_unknown_camera_are_in_no_fold() -> None:
    dataset = of_cameras({"a": (3, 3), "b": (3, 3), "": (2, 1)})
    folds = held_out_folds(dataset, "camera", 5, 0)
    assert all("" not in values(dataset, fold.train + fold.test) for fold in folds)
    assert "; 3 images in neither training nor test" in described(folds, dataset, "camera")[0]


@pytest.mark.parametrize(("normals", "n_splits", "tested"), [(20, 5, 4), (21, 2, 7), (7, 5, 1)])
def test_a_kind_is_left_out_and_tested_beside_held_out_normals(normals: int, n_splits: int, tested: int) -> None:
    dataset = of_kinds(normals, {"crack": 5, "dent": 6, "stain": 7})
    folds = held_out_folds(dataset, "kind", n_splits, 0)
    assert [fold.held_out for fold in folds] == [("crack",), ("dent",), ("stain",)]
    seen = set[str]()
    for fold in folds:
        assert values(dataset, fold.test, "kind") == {"", *fold.held_out}
        assert values(dataset, fold.train, "kind") == {"", "crack", "dent", "stain"} - set(fold.held_out)
        test_normals = {file for file in fold.test if file[0] == "n"}
        assert tested <= len(test_normals) <= tested + 1
        assert not test_normals & (seen | set(fold.train))
        seen |= test_normals
    assert held_out_folds(dataset, "kind", n_splits, 0) == folds
    assert held_out_folds(dataset, "kind", n_splits, 1) != folds


def test_groups_are_never_on_both_sides() -> None:
    groups = {"n0": "g", "crack0": "g", "dent0": "g", "n1": "h", "n2": "h", "n3": "i", "stain0": "i"}
    dataset = of_kinds(12, {"crack": 4, "dent": 4, "stain": 4}, groups)
    folds = held_out_folds(dataset, "kind", 3, 0)
    group_of = {s.file: s.group for s in dataset.samples}
    for fold in folds:
        assert not {group_of[file] for file in fold.train} & {group_of[file] for file in fold.test}
    assert {"n0", "crack0"} <= set(folds[0].test)
    assert "dent0" not in folds[0].train
    assert "n3" in folds[2].test


def test_many_values_share_the_folds() -> None:
    rng = np.random.default_rng(0)
    dataset = of_cameras({f"day {i}": (int(rng.integers(2, 5)), 2) for i in range(MOST_VALUES + 3)})
    folds = held_out_folds(dataset, "camera", 4, 0)
    assert len(folds) == 4
    held = [name for fold in folds for name in fold.held_out]
    assert sorted(held) == sorted(f"day {i}" for i in range(MOST_VALUES + 3))
    for fold in folds:
        assert values(dataset, fold.test) == set(fold.held_out)
        assert not values(dataset, fold.train) & set(fold.held_out)


@pytest.mark.parametrize(
    ("dataset", "hold_out", "text"),
    [
        (
            of_cameras({"a": (3, 3), "b": (3, 3)}),
            "site",
            "no such column. Name one of kind, group, camera",
        ),
        (of_cameras({"a": (3, 3), "b": (3, 3)}), "camera=c", "no image has this value. Choose from a, b"),
        (of_cameras({"a": (3, 3)}), "camera", "needs two values or more; leaves has only a"),
        (of_kinds(4, {"": 4}), "kind", "needs two values or more; leaves has none"),
        (
            of_cameras({"a": (3, 3), "b": (3, 0)}),
            "camera",
            "which tests a, has 3 normal and 0 anomalous images to train on",
        ),
        (
            of_cameras({"a": (3, 3), "b": (1, 3)}),
            "camera",
            "which tests a, has 1 normal and 3 anomalous images to train on; at least 2 and 1",
        ),
    ],
)
def test_what_is_refused(dataset: Dataset, hold_out: str, text: str) -> None:
    with pytest.raises(UserError, match=rf"--hold-out {hold_out}.*{text}"):
        held_out_folds(dataset, hold_out, 5, 0)


def test_the_file_of_splits_keeps_the_values(tmp_path: Path) -> None:
    dataset = of_kinds(8, {"crack": 4, "dent": 4})
    folds = held_out_folds(dataset, "kind", 2, 0)
    write_splits(tmp_path / "splits.json", folds, 0, "kind")
    assert read_splits(tmp_path / "splits.json", dataset) == folds
    write_splits(tmp_path / "plain.json", [Fold(fold.train, fold.test) for fold in folds], 0)
    assert "held_out" not in (tmp_path / "plain.json").read_text()
    assert not any(fold.held_out for fold in read_splits(tmp_path / "plain.json", dataset))


@pytest.mark.parametrize(("n_splits", "most"), [(12, 11), (30, 11)])
def test_more_folds_than_values_are_as_many_as_there_can_be(n_splits: int, most: int) -> None:
    dataset = of_cameras({f"day {i:02}": (9, 9) for i in range(most)})
    folds = held_out_folds(dataset, "camera", n_splits, 0)
    assert sorted(name for fold in folds for name in fold.held_out) == [f"day {i:02}" for i in range(most)]


def test_folds_of_values_that_changed_since_are_refused() -> None:
    dataset = of_cameras({"a": (3, 3), "b": (3, 3)})
    folds = held_out_folds(dataset, "camera", 5, 0)
    refuse_stale(Path("splits.json"), folds, dataset, "camera")
    first = dataclasses.replace(dataset.samples[0], facts={"camera": "b"})
    changed = dataclasses.replace(dataset, samples=(first, *dataset.samples[1:]))
    with pytest.raises(UserError, match=r"splits\.json: fold 0 was made when a00\.png had another value of camera"):
        refuse_stale(Path("splits.json"), folds, changed, "camera")
