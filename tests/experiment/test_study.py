"""`leanet study` through the command line: one set of maps, cells beside their baselines, a table and figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from leanet.cli import main, parse
from leanet.config import StudyConfig
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.study import Cell, study
from leanet.experiment.table import held_out_row
from leanet.files import read_csv

GRID = ["--adn", "CNN", "--caan", "Direct", "--attention-point", "2", "4", "--p-rate", "0.5", "1.0"]
OPTIONS = ["--image-size", "64", "--n-splits", "2", "--colorizer-epochs", "1", "--epochs", "1", "--compile", "off"]
OPTIONS += ["--validation", "0.3"]

pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")


@pytest.fixture(scope="module")
def studied(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two points and two p_rates."""
    out = tmp_path_factory.mktemp("runs") / "study"
    study(parse("study", [str(leaves), "--out", str(out), *GRID, *OPTIONS]))
    return out


def weights(out: Path) -> dict[Path, int]:
    """When each network was written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("weights.safetensors")}


def scores(out: Path, file: str) -> tuple[list[int], list[float]]:
    """Labels and the ADN's probabilities in a file of predictions."""
    rows = read_csv(out / file)
    return [int(row["label"]) for row in rows], [float(row["adn_probability"]) for row in rows]


def stop_after(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C once that many cells are drawn, and check that the table then holds these, and no others."""

    def draw(done: Sequence[Cell], report: Path) -> None:
        if len(done) == cells:
            of_adns = [r for r in read_csv(report / "study.csv") if r["metric"] == "auroc" and "ADN" in r["row"]]
            assert len({(r["p_rate"], r["row"]) for r in of_adns}) == cells
            raise KeyboardInterrupt

    monkeypatch.setattr("leanet.report.study_figures.draw_study", draw)


def test_a_stopped_study_goes_on_where_it_was(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    arguments = ["study", str(leaves), "--out", str(out), *GRID, *OPTIONS]
    assert main([*arguments, "--p-rate", "1.0", "0.01"]) == 2
    assert "--p-rate 0.01" in capsys.readouterr().err
    assert not list(out.glob("0/*"))
    with monkeypatch.context() as patched:
        stop_after(3, patched)
        assert main(arguments) == 130
    assert "estimated time on this machine" in capsys.readouterr().out
    done = weights(out)
    assert {p.parts[-4] for p in done if "CNN" in p.parent.name} == {"p-rate-0.5"}
    assert not list(out.rglob("*.partial"))
    assert main(arguments) == 0
    assert done.items() <= weights(out).items()
    assert "the threshold stayed 0.5 in 12 of 12 trainings" in " ".join(capsys.readouterr().out.split())
    for figure in ("study_points_auroc", "study_p_rate_f1", "study_gain_auroc"):
        assert (out / "report" / "figures" / f"{figure}.svg").is_file()


def test_a_finished_study_is_not_done_again(
    studied: Path, leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(studied, tmp_path / "study"))
    before = weights(out)
    assert main(["study", str(leaves), "--out", str(out), *GRID, *OPTIONS]) == 0
    said = capsys.readouterr().out
    assert "estimated time" not in said
    assert "this grid does not include them" not in said
    few = ["--adn", "CNN", "--caan", "Direct", "--attention-point", "2", "--p-rate", "1.0"]
    assert main(["study", str(leaves), "--out", str(out), *few, *OPTIONS]) == 0
    others = "p-rate-0.5/CNN, p-rate-0.5/CNN-Direct-p2, p-rate-0.5/CNN-Direct-p4, p-rate-1/CNN-Direct-p4"
    assert f"not in them, because this grid does not include them: {others}" in " ".join(
        capsys.readouterr().out.split()
    )
    assert weights(out) == before


def test_a_study_compares_each_cell_with_its_baseline(studied: Path) -> None:
    lines = read_csv(studied / "report" / "study.csv")
    cells = [(r["p_rate"], r["attention_point"]) for r in lines if r["metric"] == "auroc" and r["adn"]]
    assert cells == [("0.5", ""), ("0.5", "2"), ("0.5", "4"), ("1", ""), ("1", "2"), ("1", "4")]
    beside = {(r["p_rate"], r["row"]): r["trainings"] for r in lines if r["metric"] == "auroc" and not r["adn"]}
    scorers = ("mean ΔE of the anomaly map", "colours of the image's border", "colour histogram")
    assert beside == {(rate, name): "2" for rate in ("0.5", "1") for name in scorers}
    own, baseline = (
        np.mean([roc_auc_score(*scores(studied, f"p-rate-0.5/{n}/{name}/predictions.csv")) for n in (0, 1)])
        for name in ("CNN-Direct-p4", "CNN")
    )
    line = next(r for r in lines if (r["p_rate"], r["attention_point"], r["metric"]) == ("0.5", "4", "auroc"))
    assert float(line["mean"]) == pytest.approx(own, rel=1e-5)
    assert float(line["gain"]) == pytest.approx(own - baseline, abs=1e-6)
    assert float(line["prevalence"]) == pytest.approx(0.4)
    assert line["trainings"] == "2"


def test_a_study_tells_by_held_out_images_which_cell_to_choose(studied: Path) -> None:
    lines, home = read_csv(studied / "report" / "study.csv"), RunFolder(studied / "p-rate-0.5")
    held = next(r for r in lines if r["attention_point"] == "4" and r["metric"] == "auroc_held_out")
    unseen = [scores(home.path, f"{n}/CNN-Direct-p4/validation.csv") for n in (0, 1)]
    assert float(held["mean"]) == pytest.approx(np.mean([roc_auc_score(*fold) for fold in unseen]), rel=1e-5)
    row = held_out_row(finished(recorded_detector(home, "CNN-Direct-p4"))[0])
    assert row is not None
    ratios = []
    for n, sides in enumerate(json.loads((studied / "splits.json").read_text())["folds"]):
        labels, _ = unseen[n]
        folder = home.fold(n).detector("CNN-Direct-p4")
        held_out, seen = (
            {line["file"] for line in read_csv(path)} for path in (folder.validation, folder.labelled)
        )
        normal = sum("good" in file for file in sides["train"])
        labelled = normal + (len(sides["train"]) - normal) // 2  # p_rate 0.5
        ratios.append(len(labels) / (labelled - len(labels)))
        assert len(seen) == labelled
        assert held_out < seen < set(sides["train"])
    assert row.test_to_train == pytest.approx(np.mean(ratios))  # the outer folds' is 1


def test_a_report_is_of_a_cell_of_a_study(
    studied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(studied, tmp_path / "study"))
    assert main(["report", str(out)]) == 2
    assert "Name one of its p-rate-0.5, p-rate-1." in capsys.readouterr().err
    assert main(["report", str(out / "p-rate-0.5"), "--detector", "CNN-Direct-p2"]) == 0
    named = out / "p-rate-0.5" / "report" / "CNN-Direct-p2"
    assert "CNN-Direct-p2: ADN" in (named / "index.html").read_text(encoding="utf-8")
    assert {row["row"] for row in read_csv(named / "metrics.csv")} >= {"CNN-Direct-p2: ADN"}
    assert main(["report", str(out / "p-rate-0.5")]) == 0
    page = (out / "p-rate-0.5" / "report" / "index.html").read_text(encoding="utf-8")
    assert "CNN-Direct-p4: ADN" in page
    assert "Training of the colorizers" in page


def test_a_study_without_baselines_has_none() -> None:
    plain, *others = StudyConfig(Path("d"), Path("o"), attention_point=(1, 2)).cells()
    assert plain.caan == "none"
    assert StudyConfig(Path("d"), Path("o"), attention_point=(1, 2), compare=False).cells() == others
