"""The made leaves: reproducible, honestly labelled, and not to be told apart the easy way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from leanet.color.ciede2000 import ciede2000
from leanet.color.lab import lab_to_rgb, rgb_to_lab
from leanet.data.synthetic import grow_leaf, make_leaves, right_colour


def load_lab(file: Path) -> NDArray[np.float64]:
    """Lab of a picture: (3, S, S)."""
    rgb = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).double() / 255
    return rgb_to_lab(rgb).numpy()


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "leaves"
    make_leaves(out, n_normal=250, n_anomalous=250)
    return out


def test_the_layout_is_that_of_mvtec_ad(tmp_path: Path) -> None:
    make_leaves(tmp_path / "out", n_normal=2, n_anomalous=3, image_size=48)
    names = files(tmp_path / "out").keys()
    assert set(names) == {
        "train/good/000.png",
        "train/good/001.png",
        "test/spot/000.png",
        "test/spot/001.png",
        "test/streak/000.png",
        "ground_truth/spot/000_mask.png",
        "ground_truth/spot/001_mask.png",
        "ground_truth/streak/000_mask.png",
    }
    for name in names:
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == (48, 48)
            assert image.mode == ("L" if "mask" in name else "RGB")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]  # nothing left beside it


def test_a_seed_gives_the_same_bytes_however_many_are_made(tmp_path: Path) -> None:
    make_leaves(tmp_path / "a", n_normal=3, n_anomalous=2, seed=5)
    make_leaves(tmp_path / "b", n_normal=3, n_anomalous=2, seed=5)
    make_leaves(tmp_path / "more", n_normal=4, n_anomalous=4, seed=5)
    make_leaves(tmp_path / "other", n_normal=3, n_anomalous=2, seed=6)
    a, more, other = files(tmp_path / "a"), files(tmp_path / "more"), files(tmp_path / "other")
    assert a == files(tmp_path / "b")
    assert a.items() <= more.items()
    assert not set(a.values()) & set(other.values())


def test_only_colour_changes_and_only_where_the_mask_says(tmp_path: Path) -> None:
    make_leaves(tmp_path / "wrong", n_normal=0, n_anomalous=12, image_size=96)
    make_leaves(tmp_path / "clean", n_normal=0, n_anomalous=12, image_size=96, colour_shift=0)
    for file in sorted((tmp_path / "wrong").glob("test/*/*.png")):
        kind, stem = file.parent.name, file.stem
        wrong, clean = load_lab(file), load_lab(tmp_path / "clean" / "test" / kind / file.name)
        mask = np.array(Image.open(tmp_path / "wrong" / "ground_truth" / kind / f"{stem}_mask.png")) == 255
        difference = ciede2000(torch.from_numpy(wrong), torch.from_numpy(clean))[0].numpy()
        assert np.abs(wrong[0] - clean[0]).max() < 1
        assert 10 < np.median(difference[mask]) < 35
        assert 0.005 < mask.mean() < 0.12
        grown = np.pad(mask, 4)
        near = np.lib.stride_tricks.sliding_window_view(grown, (9, 9)).any(axis=(2, 3))
        assert difference[~near].max() < 2  # 8-bit steps


def test_every_colour_of_the_palette_is_in_the_gamut() -> None:
    lightness, other, striped = np.meshgrid(np.linspace(30, 78, 25), np.linspace(6, 102, 49), np.linspace(0, 1, 5))
    leaf = replace(
        grow_leaf(np.random.default_rng(0), 32), tone=other.reshape(1, -1), striped=striped.reshape(1, -1)
    )
    chrominance = right_colour(leaf)
    lab = torch.from_numpy(np.concatenate((lightness.reshape(1, 1, -1), chrominance)))
    assert (rgb_to_lab(lab_to_rgb(lab)) - lab).abs().max() < 1e-6


def auroc(features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    forest = RandomForestClassifier(60, random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(
        roc_auc_score(labels, cross_val_predict(forest, features, labels, cv=folds, method="predict_proba")[:, 1])
    )


def test_histograms_and_means_do_not_give_anomalies_away(leaves: Path) -> None:
    normal = [load_lab(f) for f in sorted(leaves.glob("train/good/*.png"))]
    anomalous = [load_lab(f) for f in sorted(leaves.glob("test/*/*.png"))]
    labs = np.stack(normal + anomalous)
    labels = np.array([0] * len(normal) + [1] * len(anomalous))
    lightness = np.stack([np.histogram(lab[0], 32, (0, 100))[0] for lab in labs]).astype(np.float64)
    palette = np.stack(
        [np.histogram2d(lab[1].ravel(), lab[2].ravel(), 8, ((-32, 32), (-32, 32)))[0].ravel() for lab in labs]
    )
    assert auroc(lightness, labels) < 0.65
    assert auroc(labs.mean(axis=(2, 3)), labels) < 0.65
    assert auroc(palette, labels) < 0.85  # colour, but nothing else, may give an anomaly away


def test_refuses_to_write_over_something(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="Remove it or choose another name"):
        make_leaves(tmp_path, n_normal=1, n_anomalous=1)
    assert files(tmp_path) == {"note.txt": b"keep me"}


def test_leaves_nothing_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        make_leaves(tmp_path / "out", n_normal=1, n_anomalous=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_normal": -1},
        {"image_size": 16},
        {"n_defects": (0, 2)},
        {"n_defects": (3, 2)},
        {"colour_shift": 1.5},
        {"defect_size": 0.0},
    ],
)
def test_arguments_out_of_range(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_leaves(tmp_path / "out", **wrong)
