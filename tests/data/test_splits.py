"""Folds: a partition, stratified, groups whole, seeded; and the file with them, as a person might spoil it."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from leanet.data.dataset import Dataset, Sample, with_groups
from leanet.data.sources.folder import scan
from leanet.data.splits import (
    Fold,
    keep_share_of_positives,
    make_folds,
    read_splits,
    too_large_groups,
    write_splits,
)
from leanet.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def made(labels: list[int], groups: list[str] | None = None) -> Dataset:
    files = [f"{'Positive' if label else 'Negative'}/{i}.png" for i, label in enumerate(labels)]
    samples = [
        Sample(file, label, "", group, None)
        for file, label, group in zip(files, labels, groups or files, strict=True)
    ]
    return Dataset(Path("made"), tuple(samples), ())


def counts(dataset: Dataset, files: tuple[str, ...]) -> Counter[int]:
    labels = {sample.file: sample.label for sample in dataset.samples}
    return Counter(labels[file] for file in files)


def assert_partition(dataset: Dataset, folds: tuple[Fold, ...]) -> None:
    everything = {sample.file for sample in dataset.samples}
    tests = [file for fold in folds for file in fold.test]
    assert sorted(tests) == sorted(everything)
    for fold in folds:
        assert set(fold.train) == everything - set(fold.test)


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(2, 30), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_folds_partition_and_are_stratified(n_splits: int, normals: int, positives: int, seed: int) -> None:
    dataset = made([0] * (n_splits + normals) + [1] * (n_splits + positives))
    folds = make_folds(dataset, n_splits, seed)
    assert len(folds) == n_splits
    assert_partition(dataset, folds)
    for fold in folds:
        test = counts(dataset, fold.test)
        assert abs(test[0] - (n_splits + normals) / n_splits) < 1
        assert abs(test[1] - (n_splits + positives) / n_splits) < 1
    assert folds == make_folds(dataset, n_splits, seed)


@settings(deadline=None)
@given(st.data(), st.integers(2, 4), st.integers(0, 1000))
def test_groups_stay_whole(data: st.DataObject, n_splits: int, seed: int) -> None:
    labels = data.draw(st.lists(st.integers(0, 1), min_size=8, max_size=60))
    numbers = data.draw(st.lists(st.integers(0, 11), min_size=len(labels), max_size=len(labels)))
    dataset = made(labels, [f"g{number}" for number in numbers])
    try:
        folds = make_folds(dataset, n_splits, seed)
    except UserError:
        assume(False)
    assert_partition(dataset, folds)
    group = {sample.file: sample.group for sample in dataset.samples}
    for fold in folds:
        assert not {group[file] for file in fold.train} & {group[file] for file in fold.test}
        assert set(counts(dataset, fold.test)) == set(counts(dataset, fold.train)) == {0, 1}
    assert folds == make_folds(dataset, n_splits, seed)


@pytest.mark.parametrize(("normals", "n_splits"), [(2, 2), (3, 2)])
def test_a_colorizer_is_not_trained_on_one_image(normals: int, n_splits: int) -> None:
    with pytest.raises(UserError, match=r"normal images; at least 3|1 normal image to train on"):
        make_folds(made([0] * normals + [1] * 8), n_splits, 0)
    make_folds(made([0] * (normals + 2) + [1] * 8), n_splits, 0)


def test_another_seed_gives_other_folds() -> None:
    dataset = made([0, 1] * 20)
    assert make_folds(dataset, 5, 0) != make_folds(dataset, 5, 1)


def test_too_few_images_and_a_group_too_large() -> None:
    with pytest.raises(UserError, match="3 anomalous images are too few for 5 folds"):
        make_folds(made([0] * 9 + [1] * 3), 5, 0)
    lopsided = made([0] * 5 + [1] * 5 + [0, 1], ["big"] * 10 + ["a", "b"])
    with pytest.raises(UserError, match=r"gets no anomalous image.*group big of 10 images.*--n-splits"):
        make_folds(lopsided, 2, 0)


def test_the_group_that_is_named_holds_the_class_that_is_missing() -> None:
    normals = {"many": 50, "a": 2, "b": 1, "c": 2, "d": 10, "e": 1}
    labels = [0] * 66 + [1, 1, 0] + [1] * 20
    groups = [name for name, count in normals.items() for _ in range(count)] + ["p", "q", "q"] + ["ill"] * 20
    with pytest.raises(UserError, match=r"gets no anomalous image.* group ill of 20 images"):
        make_folds(made(labels, groups), 3, 0)
    with pytest.raises(UserError, match=r"3 anomalous groups .*5 folds \(the largest is ill with 20 images\)"):
        make_folds(made(labels, groups), 5, 0)


def test_a_group_that_makes_folds_unlike_is_named() -> None:
    labels, groups = [0] * 24 + [1] * 16, [str(i) for i in range(26)] + ["g"] * 14
    said = too_large_groups(made(labels, groups), 3)
    assert len(said) == 1
    assert said[0].startswith("group g holds 14 of the 16 anomalous images: too many for 3 folds")
    assert too_large_groups(made(labels, [str(i // 4) for i in range(40)]), 3) == []


def test_splits_come_back_and_are_readable(tmp_path: Path) -> None:
    dataset = made([0, 1] * 10)
    folds = make_folds(dataset, 5, 7)
    path = tmp_path / "splits.json"
    write_splits(path, folds, 7)
    assert read_splits(path, dataset) == folds
    content = json.loads(path.read_text())
    assert (content["n_splits"], content["seed"], len(content["folds"])) == (5, 7, 5)
    assert [file.name for file in tmp_path.iterdir()] == ["splits.json"]
    with pytest.raises(UserError, match="cannot write the splits"):
        write_splits(path / "splits.json", folds, 7)


def test_a_file_may_be_left_out(tmp_path: Path) -> None:
    dataset = made([0, 1] * 10)
    write_splits(tmp_path / "splits.json", make_folds(dataset, 5, 0), 0)
    content = json.loads((tmp_path / "splits.json").read_text())
    for fold in content["folds"]:
        for side in fold.values():
            if "Negative/0.png" in side:
                side.remove("Negative/0.png")
    (tmp_path / "splits.json").write_text(json.dumps(content))
    assert len(read_splits(tmp_path / "splits.json", dataset)) == 5


def test_a_test_side_may_hold_one_class(tmp_path: Path) -> None:
    dataset = made([0, 1] * 10)
    write_splits(tmp_path / "splits.json", make_folds(dataset, 5, 0), 0)
    content = json.loads((tmp_path / "splits.json").read_text())
    content["folds"][0]["test"] = [f for f in content["folds"][0]["test"] if "Neg" in f]
    (tmp_path / "splits.json").write_text(json.dumps(content))
    assert set(counts(dataset, read_splits(tmp_path / "splits.json", dataset)[0].test)) == {0}


SPOILED: dict[str, tuple[Callable[[Any], object], str]] = {
    "unknown file": (lambda c: c["folds"][1]["test"].append("Negative/x.png"), "fold 1: Negative/x.png is not in"),
    "both sides": (
        lambda c: c["folds"][1]["train"].append(c["folds"][1]["test"][0]),
        "fold 1: .* is in train and in test",
    ),
    "twice": (lambda c: c["folds"][0]["test"].append(c["folds"][0]["test"][0]), "fold 0: .* twice in test"),
    "tested twice": (
        lambda c: c["folds"][0].update(c["folds"][1]),
        "is in the test side of 2 folds",
    ),
    "empty side": (lambda c: c["folds"][0].update(test=[]), "fold 0: the test side is empty"),
    "class missing": (
        lambda c: c["folds"][0].update(train=[f for f in c["folds"][0]["train"] if "Neg" in f]),
        "fold 0: the train side has no anomalous image",
    ),
    "not a list": (lambda c: c["folds"][0].update(test="Negative/0.png"), "not a file of splits"),
    "no folds": (lambda c: c.pop("folds"), "not a file of splits"),
    "no train": (lambda c: c["folds"][0].pop("train"), "not a file of splits"),
    "count": (lambda c: c.update(n_splits=4), "n_splits is 4, but there are 5 folds"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_splits_are_refused(tmp_path: Path, name: str) -> None:
    spoil, expected = SPOILED[name]
    dataset, path = made([0, 1] * 10), tmp_path / "splits.json"
    write_splits(path, make_folds(dataset, 5, 0), 0)
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=expected) as caught:
        read_splits(path, dataset)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_splits_that_part_a_group_or_are_no_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    write_splits(path, make_folds(made([0, 1] * 10), 5, 0), 0)
    paired = made([0, 1] * 10, [f"g{i // 4}" for i in range(20)])
    with pytest.raises(UserError, match=r"fold 0: group g\d is split"):
        read_splits(path, paired)
    path.write_text("{")
    with pytest.raises(UserError, match="not a JSON file"):
        read_splits(path, paired)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a JSON file"):
        read_splits(path, paired)
    path.write_text("[1]")
    with pytest.raises(UserError, match="not a file of splits"):
        read_splits(path, paired)
    with pytest.raises(UserError, match="cannot read the splits"):
        read_splits(tmp_path / "none.json", paired)


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 9))
def test_share_of_positives_is_nested(n: int, one: float, other: float, seed: int) -> None:
    small, large = sorted((one, other))
    assume(int(n * small) > 0)
    labels = [0, 1] * n
    files = [str(i) for i in range(2 * n)]
    kept, more = (keep_share_of_positives(files, labels, rate, seed) for rate in (small, large))
    assert set(kept) <= set(more)
    assert list(kept) == [file for file in files if file in set(kept)]
    assert set(files[::2]) <= set(kept)
    assert len(kept) == n + int(n * small)
    assert keep_share_of_positives(files, labels, 1, seed) == tuple(files)


def test_share_of_positives_out_of_range() -> None:
    with pytest.raises(UserError, match="keeps none of the 3"):
        keep_share_of_positives(["a", "b", "c"], [1, 1, 1], 0.1, 0)
    for rate in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(UserError, match="above 0 and up to 1"):
            keep_share_of_positives(["a"], [1], rate, 0)


def test_real_leaves_are_not_parted() -> None:
    root = SHARED / "plantvillage_pepper"
    if not root.is_dir():
        pytest.skip(f"no real images at {root}")
    dataset = with_groups(scan(root), root / "groups.csv")
    folds = make_folds(dataset, 5, 0)
    assert_partition(dataset, folds)
    group = {sample.file: sample.group for sample in dataset.samples}
    for fold in folds:
        assert not {group[file] for file in fold.train} & {group[file] for file in fold.test}
        assert abs(counts(dataset, fold.test)[1] / len(fold.test) - 997 / 2475) < 0.05
