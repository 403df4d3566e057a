"""What `scan` finds, and what it refuses; the real sets' README is the outside oracle."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanet.config import DataConfig
from leanet.data.dataset import Dataset, Sample, by_group, check_folds, group_copies, limit_per_class, with_groups
from leanet.data.sources.folder import FolderSource, has_anomalies, scan, scan_normals
from leanet.errors import UserError
from leanet.experiment.run_folder import RunFolder

SHARED = Path(__file__).parents[3] / "shared" / "data"


def touch(root: Path, files: Iterable[str]) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def grouped(groups: list[tuple[str, int]]) -> Dataset:
    """Make a dataset without files: one sample for each (group, label)."""
    samples = [Sample(f"{label}/{i}.png", label, "", group, None) for i, (group, label) in enumerate(groups)]
    return Dataset(Path("made"), tuple(sorted(samples, key=lambda s: (s.label, s.file))), ())


def message(root: Path, *, normal_dir: str = "Negative", abnormal_dir: str = "Positive") -> str:
    with pytest.raises(UserError) as caught:
        scan(root, normal_dir=normal_dir, abnormal_dir=abnormal_dir)
    text = str(caught.value)
    assert "\n" not in text
    return text


def message_on_groups(root: Path, groups: Path) -> str:
    dataset = scan(root)
    with pytest.raises(UserError) as caught:
        with_groups(dataset, groups)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_class_folders_in_any_case_with_kinds(tmp_path: Path) -> None:
    touch(
        tmp_path,
        [
            "NEGATIVE/b.JPG",
            "NEGATIVE/a.png",
            "NEGATIVE/tray/c.tiff",
            "positive/x.bmp",
            "positive/rust/deep/y.webp",
            "positive/blight/z.jpeg",
        ],
    )
    dataset = scan(tmp_path)
    assert [(s.file, s.label, s.kind, s.group, s.mask) for s in dataset.samples] == [
        ("NEGATIVE/a.png", 0, "", "NEGATIVE/a.png", None),
        ("NEGATIVE/b.JPG", 0, "", "NEGATIVE/b.JPG", None),
        ("NEGATIVE/tray/c.tiff", 0, "", "NEGATIVE/tray/c.tiff", None),
        ("positive/blight/z.jpeg", 1, "blight", "positive/blight/z.jpeg", None),
        ("positive/rust/deep/y.webp", 1, "rust", "positive/rust/deep/y.webp", None),
        ("positive/x.bmp", 1, "", "positive/x.bmp", None),
    ]
    assert dataset.notes == ()


def test_ignores_hidden_files_other_suffixes_and_run_folders(tmp_path: Path) -> None:
    touch(tmp_path, ["Negative/a.png", "Positive/b.png", "0/maps/c.png", "train/good/d.png", "splits.json"])
    touch(tmp_path, ["Negative/.a.png", "Negative/.thumbs/t.png", "Positive/notes.txt", "Positive/README"])
    dataset = scan(tmp_path)
    assert [s.file for s in dataset.samples] == ["Negative/a.png", "Positive/b.png"]
    assert dataset.notes == (
        "not read: 0/, train/, beside Negative/ and Positive/",
        "left out: 1 hidden file",
        "left out, no pictures: 1 .txt, 1 no suffix",
    )


def test_other_class_folder_names(tmp_path: Path) -> None:
    touch(tmp_path, ["Healthy/a.png", "sick/leaves/b.png"])
    dataset = scan(tmp_path, normal_dir="healthy", abnormal_dir="sick/leaves")
    assert [(s.file, s.label) for s in dataset.samples] == [("Healthy/a.png", 0), ("sick/leaves/b.png", 1)]


def test_mvtec_layout_is_pooled_with_masks(tmp_path: Path) -> None:
    touch(tmp_path, ["train/good/000.png", "test/good/000.png", "test/crack/000.png", "test/cut/000.png"])
    touch(tmp_path, ["ground_truth/crack/000_mask.png", "license.txt"])
    dataset = scan(tmp_path)
    assert [(s.file, s.label, s.kind, s.mask) for s in dataset.samples] == [
        ("train/good/000.png", 0, "", None),
        ("test/good/000.png", 0, "", None),
        ("test/crack/000.png", 1, "crack", "ground_truth/crack/000_mask.png"),
        ("test/cut/000.png", 1, "cut", None),
    ]
    assert dataset.notes[0] == "MVTec AD layout: all images of train/ and test/ pooled into new folds"
    assert dataset.notes[1].startswith("1 anomalous image")


def test_every_split_is_pooled_whatever_is_in_it_and_however_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, ["Train/GOOD/0.png", "Train/bad/1.png", "test/Good/2.png", "test/bad/1.png", "test/loose.png"])
    touch(tmp_path, ["val/ok/4.png", "valid/good/5.png", "validation/good/6.png", "validation/rust/deep/7.png"])
    touch(tmp_path, ["Ground_Truth/BAD/1_mask.png", "old/good/8.png", "root.png"])
    dataset = scan(tmp_path)
    assert [(s.file, s.label, s.kind, s.mask) for s in dataset.samples] == [
        ("Train/GOOD/0.png", 0, "", None),
        ("test/Good/2.png", 0, "", None),
        ("val/ok/4.png", 0, "", None),
        ("valid/good/5.png", 0, "", None),
        ("validation/good/6.png", 0, "", None),
        ("test/bad/1.png", 1, "bad", "Ground_Truth/BAD/1_mask.png"),  # a mask is of test/'s image
        ("Train/bad/1.png", 1, "bad", None),
        ("validation/rust/deep/7.png", 1, "rust", None),
    ]
    assert dataset.notes == (
        "MVTec AD layout: all images of Train/, test/, val/, valid/ and validation/ pooled into new folds",
        "not read: old/, beside Train/, test/, val/, valid/, validation/",
        f"not read: 1 image in {tmp_path.name}/ itself (root.png). "
        "Put them into Train/, test/, val/, valid/, validation/",
        "not read: 1 image in test/ itself (loose.png). Put them into test/good/ or a folder of their kind",
        "2 anomalous images have no mask in Ground_Truth/",
    )


def test_splits_of_class_folders_are_pooled(tmp_path: Path) -> None:
    touch(
        tmp_path,
        ["train/Negative/a.png", "train/Positive/rust/b.png", "test/negative/c.png", "test/positive/d.png"],
    )
    found = [(s.file, s.label, s.kind) for s in scan(tmp_path).samples]
    assert found == [
        ("train/Negative/a.png", 0, ""),
        ("test/negative/c.png", 0, ""),
        ("test/positive/d.png", 1, ""),
        ("train/Positive/rust/b.png", 1, "rust"),
    ]


def test_loco_masks_in_folders(tmp_path: Path) -> None:
    touch(tmp_path, ["train/good/0.png", "validation/good/0.png", "test/good/0.png", "test/logical/000.png"])
    touch(
        tmp_path,
        ["test/structural/000.png", "ground_truth/logical/000/000.png", "ground_truth/logical/000/001.png"],
    )
    touch(tmp_path, ["ground_truth/structural/000/000.png"])
    dataset = scan(tmp_path)
    assert [s.mask for s in dataset.of_class(1)] == ["ground_truth/logical/000", "ground_truth/structural/000"]
    assert [s.file for s in dataset.of_class(0)] == ["train/good/0.png", "test/good/0.png", "validation/good/0.png"]


def test_links_between_the_classes_do_not_mix_them(tmp_path: Path) -> None:
    touch(tmp_path, ["Negative/a.png", "Positive/b.png", "other/c.png"])
    (tmp_path / "Negative" / "root").symlink_to("..")
    (tmp_path / "Positive" / "normals").symlink_to("../Negative")
    dataset = scan(tmp_path)
    assert [(s.file, s.label) for s in dataset.samples] == [("Negative/a.png", 0), ("Positive/b.png", 1)]
    assert dataset.notes[-1] == "left out, links to paths already read: 2 (Negative/root, Positive/normals)"
    (tmp_path / "Also").symlink_to("Negative")
    assert "share images" in message(tmp_path, normal_dir="Also", abnormal_dir="Negative")


def test_normals_alone_follow_the_same_rules(tmp_path: Path) -> None:
    touch(tmp_path, ["Train/Good/a.png", "val/good/b.png"])
    assert not has_anomalies(tmp_path)
    assert [s.file for s in scan_normals(tmp_path).samples] == ["Train/Good/a.png", "val/good/b.png"]
    touch(tmp_path, ["Train/bad/c.png"])
    assert has_anomalies(tmp_path)


@pytest.mark.usefixtures("without_heif")
@pytest.mark.parametrize("place", ["Positive", "Positive/rust"])
def test_anomalies_that_cannot_be_read_are_not_forgotten(tmp_path: Path, place: str) -> None:
    touch(tmp_path, ["Negative/a.png", "Negative/notes.txt", f"{place}/b.heic", f"{place}/c.HEIC", "old/d.png"])
    with pytest.raises(UserError, match=r"Positive: no anomalous images in it\. It has HEIC is not read.*: 2 \("):
        has_anomalies(tmp_path)
    assert "It has HEIC is not read; convert to JPEG or PNG, or install the extra heif: 2 (" in message(tmp_path)
    (tmp_path / place / "b.heic").unlink()
    (tmp_path / place / "c.HEIC").rename(tmp_path / place / "readme.txt")
    assert not has_anomalies(tmp_path)


@pytest.mark.usefixtures("without_heif")
def test_defects_that_cannot_be_read_are_not_forgotten(tmp_path: Path) -> None:
    touch(tmp_path, ["train/good/a.png", "test/crack/b.avif", "test/crack/readme.txt"])
    (tmp_path / "test" / "crack" / "c.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"in <defect>/ of train/, test/\. It has AVIF is not read.*move these out"):
        has_anomalies(tmp_path)
    (tmp_path / "test" / "crack" / "b.avif").unlink()
    with pytest.raises(UserError, match=r"It has broken links: 1 \(test/crack/c\.png\)"):
        has_anomalies(tmp_path)


def test_kinds_are_one_in_any_case_and_however_composed(tmp_path: Path) -> None:
    composed, apart = "Ros\N{LATIN SMALL LETTER E WITH ACUTE}", unicodedata.normalize("NFD", "ros\u00e9")
    touch(tmp_path, ["Negative/a.png", "Positive/Rust/b.png", "Positive/rust/c.png", "Positive/RUST/d.png"])
    touch(tmp_path, [f"Positive/{composed}/e.png", f"Positive/{apart}/f.png"])
    assert Counter(s.kind for s in scan(tmp_path).of_class(1)) == {"RUST": 3, composed: 2}


def test_defects_of_several_splits_are_one_kind_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, ["train/good/a.png", "test/Crack/b.png", "val/crack/c.png", "ground_truth/CRACK/b_mask.png"])
    assert [(s.kind, s.mask) for s in scan(tmp_path).of_class(1)] == [
        ("Crack", "ground_truth/CRACK/b_mask.png"),
        ("Crack", None),
    ]


def test_masks_are_found_in_any_case_and_however_composed(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "fl\u00fcgel") for form in ("NFC", "NFD"))
    touch(tmp_path, ["train/good/a.png", "test/cut/030.png", f"test/cut/{composed}.png", "test/cut/LOCO.png"])
    touch(tmp_path, ["ground_truth/cut/030_MASK.PNG", f"ground_truth/cut/{apart}_mask.png"])
    touch(tmp_path, ["ground_truth/cut/loco/1.png", "ground_truth/cut/loco/2.png"])
    touch(
        tmp_path, ["test/cut/X.png", "test/cut/x.png", "ground_truth/cut/X_mask.png", "ground_truth/cut/x_MASK.png"]
    )
    assert {Path(s.file).stem: s.mask for s in scan(tmp_path).of_class(1)} == {
        "030": "ground_truth/cut/030_MASK.PNG",
        "LOCO": "ground_truth/cut/loco",
        "X": "ground_truth/cut/X_mask.png",
        composed: f"ground_truth/cut/{apart}_mask.png",
        "x": "ground_truth/cut/x_MASK.png",
    }


def test_a_folder_that_two_places_share_is_read_once(tmp_path: Path) -> None:
    touch(tmp_path, ["train/good/a.png", "test/bad/b.png", "valid/good/deep/c.png"])
    (tmp_path / "test" / "good").symlink_to("../train/good")
    (tmp_path / "train" / "good" / "deep").symlink_to("../../valid/good/deep")
    (tmp_path / "train" / "good" / "link.png").symlink_to("../../valid/good/deep/c.png")
    (tmp_path / "valid" / "good" / "hard.png").hardlink_to(tmp_path / "train" / "good" / "a.png")
    dataset = scan(tmp_path)
    assert [s.file for s in dataset.of_class(0)] == ["train/good/a.png", "valid/good/deep/c.png"]
    assert "left out, links to paths already read: 4 (test/good, train/good/deep, train/good/link.png, 1 more)" in (
        dataset.notes
    )
    (tmp_path / "valid" / "bad").symlink_to("../train/good")
    assert "share normal and anomalous images" in message(tmp_path)


@pytest.mark.usefixtures("without_heif")
def test_loose_pictures_are_named_whatever_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, ["train/good/a.png", "test/bad/b.png", "notes.txt", "loose.png"])
    (tmp_path / "loose.jfif").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "test" / "loose.gif").write_bytes(b"GIF89a")
    (tmp_path / "test" / "loose.heic").touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "folder.png").mkdir()
    said = [text for text in scan(tmp_path).notes if " itself " in text]
    assert [text.partition(". Put")[0] for text in said] == [
        f"not read: 2 images in {tmp_path.name}/ itself (loose.jfif, loose.png)",
        "not read: 2 images in test/ itself (loose.gif, loose.heic)",
    ]


@pytest.mark.usefixtures("without_heif")
def test_a_folder_without_readable_pictures_says_what_it_has(tmp_path: Path) -> None:
    touch(tmp_path, ["Negative/a.heic", "Positive/b.png"])
    assert "HEIC is not read; convert to JPEG or PNG" in message(tmp_path)


def test_missing_root_and_folders_are_named_with_the_remedy(tmp_path: Path) -> None:
    assert message(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such dataset folder. Check the path."
    touch(tmp_path, ["healthy/a.png", "Positive/b.png"])
    text = message(tmp_path)
    assert "no folder Negative/" in text
    assert "Found Positive/, healthy/." in text
    assert "--normal-dir" in text
    touch(tmp_path, ["Negative/readme.txt"])
    assert "Negative: no normal images in it" in message(tmp_path)


def test_mvtec_without_defects_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, ["train/good/a.png", "test/good/b.png"])
    assert "without anomalous images in <defect>/ of train/, test/" in message(tmp_path)


def test_ambiguous_and_shared_class_folders_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, ["NEGATIVE/a.png", "Positive/c.png"])
    assert "share images" in message(tmp_path, normal_dir="positive")
    touch(tmp_path, ["negative/b.png"])
    if len(list(tmp_path.iterdir())) == 3:  # a file system that tells cases apart
        assert "NEGATIVE/ and negative/ both match" in message(tmp_path)
        assert "NEGATIVE/ and negative/ both match" in message(tmp_path, normal_dir="negative")
        (tmp_path / "negative" / "b.png").unlink()
        (tmp_path / "negative").rmdir()
        (tmp_path / "negative").symlink_to("NEGATIVE")
        assert [s.file for s in scan(tmp_path).samples] == ["NEGATIVE/a.png", "Positive/c.png"]


def test_two_folders_of_masks_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, ["train/good/a.png", "test/bad/b.png", "ground_truth/bad/b.png", "Ground_Truth/bad/b.png"])
    if len(list(tmp_path.iterdir())) == 4:  # a file system that tells cases apart
        assert "Ground_Truth/ and ground_truth/ both match ground_truth" in message(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return touch(tmp_path / "set", ["Negative/a.png", "Negative/b.png", "Positive/c.png"])


def groups_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "groups.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_groups_are_read_and_the_rest_stand_alone(small: Path, tmp_path: Path) -> None:
    path = groups_file(tmp_path, "\ufefffile,group,leaf\nNegative/a.png,one,1\nPositive/c.png,one,2\n")
    dataset = with_groups(scan(small), path)
    assert [s.group for s in dataset.samples] == ["one", "Negative/b.png", "one"]
    assert dataset.notes == ("1 file has no entry in groups.csv and is a group of its own",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,group\nNegative/a.png,1\n", "no column file"),
        ("", "no column file and no column group"),
        ("file,group\nNegative/z.png,1\nNegative/y.png,1\n", "names Negative/y.png and 1 more, not in"),
        ("file,group\nNegative/a.png,\n", "line 2 lacks a file or a group"),
        ("file,group\nNegative/a.png,1\nNegative/a.png,2\n", "is in two groups, 1 and 2"),
    ],
)
def test_bad_groups_are_refused(small: Path, tmp_path: Path, text: str, expected: str) -> None:
    assert expected in message_on_groups(small, groups_file(tmp_path, text))


def test_missing_or_binary_groups_file_is_refused(small: Path, tmp_path: Path) -> None:
    assert "cannot read the groups file" in message_on_groups(small, tmp_path / "none.csv")
    path = tmp_path / "groups.csv"
    path.write_bytes(b"file,group\n\xff\xfe\xff,1\n")
    assert "not a CSV file in UTF-8" in message_on_groups(small, path)


def test_limit_without_groups_is_exact_and_seeded() -> None:
    dataset = grouped([(f"g{i}", i % 2) for i in range(60)])
    limited = limit_per_class(dataset, 7, seed=3)
    assert Counter(s.label for s in limited.samples) == {0: 7, 1: 7}
    assert limited == limit_per_class(dataset, 7, seed=3)
    assert limited.samples != limit_per_class(dataset, 7, seed=4).samples
    assert limit_per_class(dataset, 1000, seed=0).samples == dataset.samples
    assert "7 normal and 7 anomalous" in limited.notes[-1]
    with pytest.raises(UserError, match="--max-per-class 0"):
        limit_per_class(dataset, 0, seed=0)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 1)), min_size=1, max_size=40),
    st.integers(1, 10),
    st.integers(0, 5),
)
def test_limit_keeps_groups_whole_and_reaches_n(groups: list[tuple[str, int]], n: int, seed: int) -> None:
    dataset = grouped(groups)
    limited = limit_per_class(dataset, n, seed)
    members = by_group(dataset)
    for group, samples in by_group(limited).items():
        assert samples == members[group]
    for label in (0, 1):
        assert len(limited.of_class(label)) >= min(n, len(dataset.of_class(label)))


def test_copies_join_the_groups_that_they_touch() -> None:
    dataset = grouped([("a", 0), ("a", 0), ("b", 0), ("c", 1), ("d", 1)])
    files = [sample.file for sample in dataset.samples]
    joined, copies = group_copies(dataset, [(files[1], files[2]), (files[2], files[3])])
    assert [sample.group for sample in joined.samples] == ["a", "a", "a", "a", "d"]
    assert copies == 2
    assert group_copies(dataset, []) == (dataset, 0)


def test_check_folds_names_the_class_and_the_remedy() -> None:
    check_folds(grouped([(str(i), i % 2) for i in range(10)]), 5)
    with pytest.raises(UserError, match=r"3 anomalous images are too few for 5 folds.*--n-splits 3"):
        check_folds(grouped([(str(i), int(i < 3)) for i in range(10)]), 5)
    with pytest.raises(UserError, match="2 normal groups are too few for 3 folds"):
        check_folds(grouped([(str(i % 2), 0) for i in range(10)] + [(f"p{i}", 1) for i in range(9)]), 3)
    with pytest.raises(UserError, match="1 anomalous images; at least 2"):
        check_folds(grouped([(str(i), int(i < 1)) for i in range(10)]), 5)
    with pytest.raises(UserError, match="--n-splits 1"):
        check_folds(grouped([("a", 0), ("b", 1)]), 1)


@pytest.mark.parametrize(
    ("name", "normal", "anomalous", "groups", "alone"),
    [
        ("plantvillage_potato", 152, 2000, True, 0),
        ("plantvillage_pepper", 1478, 997, True, 2),
        ("hurricane", 800, 800, False, 0),
        ("apple", 615, 584, True, 0),
        ("retina_dr", 276, 322, True, 0),
        ("magnetic_tile", 400, 392, False, 0),
    ],
)
def test_real_sets_hold_what_their_readme_says(
    name: str, normal: int, anomalous: int, groups: bool, alone: int
) -> None:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"no real images at {root}")
    dataset = with_groups(scan(root), root / "groups.csv") if groups else scan(root)
    assert (len(dataset.of_class(0)), len(dataset.of_class(1))) == (normal, anomalous)
    assert sum(s.group == s.file for s in dataset.samples) == (alone if groups else normal + anomalous)
    assert any(note.startswith(f"{alone} files have no entry") for note in dataset.notes) == bool(alone)


def test_a_folder_for_each_kind_with_normal_ones_named(tmp_path: Path) -> None:
    touch(tmp_path, ("Healthy/a.png", "young/b.png", "rust/c.png", "scab/deep/d.png", "ground_truth/rust/c.png"))
    dataset = scan(tmp_path, normal=("healthy", "Young"))
    assert [(s.file, s.label, s.kind, s.mask) for s in dataset.samples] == [
        ("Healthy/a.png", 0, "", None),
        ("young/b.png", 0, "", None),
        ("rust/c.png", 1, "rust", "ground_truth/rust/c.png"),
        ("scab/deep/d.png", 1, "scab", None),
    ]
    with pytest.raises(UserError, match=r"--normal sick: no such folder in .*\. Found Healthy/"):
        scan(tmp_path, normal=("sick",))
    with pytest.raises(UserError, match=r"no folder <kind>/ of anomalous images"):
        scan(tmp_path, normal=("healthy", "young", "rust", "scab"))
    assert FolderSource(tmp_path, DataConfig(normal=("healthy",))).searched()[0] == tmp_path


def test_a_folder_that_is_asked_for_by_another_name_must_exist(tmp_path: Path) -> None:
    touch(tmp_path, ("good/a.png", "bad/b.png"))
    assert len(scan(tmp_path).samples) == 2
    assert len(scan(tmp_path, "ok", "abnormal").samples) == 2
    with pytest.raises(UserError, match=r"no folder fine/ of normal images\. Found bad/, good/"):
        scan(tmp_path, "fine", "Positive")
    with pytest.raises(UserError, match=r"no folder faulty/ of anomalous images"):
        scan(tmp_path, "good", "faulty")


def test_a_run_beside_the_kinds_is_none_of_them(tmp_path: Path) -> None:
    touch(tmp_path, ("healthy/a.png", "rust/b.png", "run/report/figure.png"))
    run = RunFolder(tmp_path / "run")
    run.images.touch()
    run.splits.touch()
    dataset = scan(tmp_path, normal=("healthy",))
    assert [s.file for s in dataset.samples] == ["healthy/a.png", "rust/b.png"]
    assert "left out, a run folder: run/" in dataset.notes


def test_a_folder_for_each_kind_in_splits(tmp_path: Path) -> None:
    touch(tmp_path, ("train/healthy/a.png", "train/rust/b.png", "val/healthy/c.png", "val/scab/d.png"))
    dataset = scan(tmp_path, normal=("healthy",))
    assert [(s.file, s.label, s.kind) for s in dataset.samples] == [
        ("train/healthy/a.png", 0, ""),
        ("val/healthy/c.png", 0, ""),
        ("train/rust/b.png", 1, "rust"),
        ("val/scab/d.png", 1, "scab"),
    ]
    assert dataset.notes[0].startswith("a folder for each kind: all images of train/ and val/ pooled")


@pytest.mark.parametrize(("normal", "anomalous"), [("good", "Bad"), ("ok", "positive"), ("NEGATIVE", "abnormal")])
def test_folders_whose_names_say_it_need_no_option(tmp_path: Path, normal: str, anomalous: str) -> None:
    found = scan(touch(tmp_path, [f"{normal}/a.png", f"{anomalous}/rust/b.png", "other/c.png"]))
    said = [(sample.file, sample.label, sample.kind) for sample in found.samples]
    assert said == [(f"{normal}/a.png", 0, ""), (f"{anomalous}/rust/b.png", 1, "rust")]
    assert f"not read: other/, beside {normal}/ and {anomalous}/" in found.notes


def test_good_pictures_alone_are_found_by_their_folders_name(tmp_path: Path) -> None:
    assert [sample.label for sample in scan_normals(touch(tmp_path, ["Good/a.png"])).samples] == [0]
    assert not has_anomalies(tmp_path)


def test_two_folders_that_say_normal_are_not_guessed(tmp_path: Path) -> None:
    text = message(touch(tmp_path, ["good/a.png", "normal/a.png", "bad/a.png"]))
    assert "no folder Negative/ of normal images. Found bad/, good/, normal/." in text
