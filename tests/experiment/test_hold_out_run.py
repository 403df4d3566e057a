"""A run that holds out a column's values: what it writes, and what does not resume it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leanet.cli import main, parse
from leanet.config import ColorizeConfig, FitConfig
from leanet.data.hold_out import held_out_folds
from leanet.data.registry import list_images
from leanet.errors import UserError
from leanet.experiment.open_run import begin, find
from leanet.model.card import Card


@pytest.fixture(scope="module")
def manifest(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic leaves as rows, each third one by another camera."""
    path = tmp_path_factory.mktemp("manifest") / "leaves.csv"
    rows = [
        f"{file},{int('good' not in file.parts)},{'' if 'good' in file.parts else file.parent.name},{'abc'[i % 3]}"
        for i, file in enumerate(sorted(file for file in leaves.glob("t*/*/*.png")))
    ]
    path.write_text("\n".join(("file,label,kind,camera", *rows)))
    return path


def config(manifest: Path, out: Path, *options: str) -> ColorizeConfig:
    found = parse("colorize", [str(manifest), "--out", str(out), "--image-size", "64", *options])
    assert isinstance(found, ColorizeConfig)
    return found


def test_the_folds_are_written_read_and_resumed(manifest: Path, tmp_path: Path) -> None:
    asked = config(manifest, tmp_path / "run", "--hold-out", "camera", "--folds", "2")
    begun = begin(asked)
    assert [fold.held_out for fold in begun.folds] == [("a",), ("b",), ("c",)]
    assert begun.folds == held_out_folds(list_images(manifest, asked.data, 0), "camera", 5, 0)
    written = json.loads(begun.folder.splits.read_text())
    assert (written["hold_out"], written["n_splits"], written["folds"][1]["held_out"]) == ("camera", 3, ["b"])
    assert find(begun.folder.path).folds == begun.folds == begin(asked).folds
    for options, text in (
        ((), "--hold-out camera, now None"),
        (("--hold-out", "kind"), "--hold-out camera, now kind"),
        (("--hold-out", "camera", "--folds", "3"), r"the folds of this run are 0\.\.2"),
    ):
        with pytest.raises(UserError, match=text):
            begin(config(manifest, tmp_path / "run", *options))


def test_a_changed_label_is_another_data_set(manifest: Path, tmp_path: Path) -> None:
    begin(config(manifest, tmp_path / "run"))
    changed = manifest.with_name("changed.csv")
    head, first, *rest = manifest.read_text().split("\n")
    file, label, *others = first.split(",")
    changed.write_text("\n".join((head, ",".join((file, str(1 - int(label)), *others)), *rest)))
    with pytest.raises(UserError, match="another data set"):
        begin(config(changed, tmp_path / "run"))


def test_folds_of_another_origin_are_refused(manifest: Path, tmp_path: Path) -> None:
    begin(config(manifest, tmp_path / "plain"))
    with pytest.raises(UserError, match="--hold-out None, now kind"):
        begin(config(manifest, tmp_path / "plain", "--hold-out", "kind"))
    (tmp_path / "own").mkdir()
    (tmp_path / "plain" / "splits.json").rename(tmp_path / "own" / "splits.json")
    with pytest.raises(UserError, match=r"splits\.json: not made with --hold-out\. Remove it, or omit the option"):
        begin(config(manifest, tmp_path / "own", "--hold-out", "kind"))


def test_a_fit_ignores_the_option_of_a_run(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted: list[str | None] = []

    def recorded(config: FitConfig, work: Path) -> Card:  # noqa: ARG001
        fitted.append(config.data.hold_out)
        raise UserError("enough")

    monkeypatch.setattr("leanet.experiment.fit._fit", recorded)
    options = ["--hold-out", "camera", "--adn", "CNN", "--out", str(tmp_path / "model")]
    assert main(["fit", str(manifest), *options]) == 2
    assert fitted == [None]
    assert "note: --hold-out: not used; a model is fitted to all images" in capsys.readouterr().out


def test_the_check_says_what_each_fold_tests(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(manifest), "--hold-out", "kind", "--no-estimate"]) == 0
    said = capsys.readouterr().out
    assert "note: --hold-out kind: fold 0 tests spot (5 normal, 8 anomalous)" in said
    assert main(["check", str(manifest), "--hold-out", "day", "--no-estimate"]) == 2
    assert "problem: --hold-out day:" in capsys.readouterr().out
