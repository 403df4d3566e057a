"""`leanet study` through the command line: one set of maps, cells beside their baselines, a table and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from leanet.cli import main
from leanet.config import StudyConfig
from leanet.experiment.finished import recorded_detector
from leanet.experiment.open_run import find
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.study import Cell
from leanet.experiment.table import held_out_row
from leanet.files import read_csv


def stop_after(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C once that many cells are drawn, and check that the table then holds these, and no others."""

    def draw(done: Sequence[Cell], report: Path) -> None:
        if len(done) == cells:
            rows = read_csv(report / "study.csv")
            assert (
                len({(r["p_rate"], r["row"]) for r in rows if r["metric"] == "auroc" and "ADN" in r["row"]})
                == cells
            )
            raise KeyboardInterrupt

    monkeypatch.setattr("leanet.report.study_figures.draw_study", draw)


def test_study_shares_maps_and_compares_each_cell_with_its_baseline(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    grid = ["--adn", "CNN", "--caan", "Direct", "--attention-point", "2", "4", "--p-rate", "0.5", "1.0"]
    options = [
        "--image-size",
        "64",
        "--n-splits",
        "2",
        "--colorizer-epochs",
        "1",
        "--epochs",
        "1",
        "--compile",
        "off",
        "--validation",
        "0.3",
    ]
    arguments = ["study", str(leaves), "--out", str(out), *grid, *options]
    assert main([*arguments, "--p-rate", "1.0", "0.01"]) == 2
    assert "--p-rate 0.01" in capsys.readouterr().err
    assert not list(out.glob("0/*"))
    stop_after(3, monkeypatch)
    assert main(arguments) == 130
    assert "estimated time on this machine" in capsys.readouterr().out
    done = {p: p.stat().st_mtime_ns for p in out.rglob("weights.safetensors")}
    assert {p.parts[-4] for p in done if "CNN" in p.parent.name} == {"p-rate-0.5"}
    assert not list(out.rglob("*.partial"))
    monkeypatch.undo()
    assert main(arguments) == 0
    assert done.items() <= {p: p.stat().st_mtime_ns for p in out.rglob("weights.safetensors")}.items()
    assert "the threshold stayed 0.5 in 12 of 12 trainings" in " ".join(capsys.readouterr().out.split())
    lines = read_csv(out / "report" / "study.csv")
    cells = [(r["p_rate"], r["attention_point"]) for r in lines if r["metric"] == "auroc" and r["adn"]]
    assert cells == [("0.5", ""), ("0.5", "2"), ("0.5", "4"), ("1", ""), ("1", "2"), ("1", "4")]
    beside = {(r["p_rate"], r["row"]): r["trainings"] for r in lines if r["metric"] == "auroc" and not r["adn"]}
    scorers = ("mean ΔE of the anomaly map", "colours of the image's border", "colour histogram")
    assert beside == {(rate, name): "2" for rate in ("0.5", "1") for name in scorers}
    aurocs = {}
    for name in ("CNN", "CNN-Direct-p4"):
        for fold in "01":
            rows = read_csv(out / "p-rate-0.5" / fold / name / "predictions.csv")
            scores = [float(r["adn_probability"]) for r in rows]
            aurocs[name, fold] = roc_auc_score([int(r["label"]) for r in rows], scores)
    line = next(r for r in lines if (r["p_rate"], r["attention_point"], r["metric"]) == ("0.5", "4", "auroc"))
    held = next(r for r in lines if r["attention_point"] == "4" and r["metric"] == "auroc_held_out")
    unseen = []
    for fold in "01":
        rows = read_csv(out / "p-rate-0.5" / fold / "CNN-Direct-p4" / "validation.csv")
        unseen.append(roc_auc_score([int(r["label"]) for r in rows], [float(r["adn_probability"]) for r in rows]))
    assert float(held["mean"]) == pytest.approx(np.mean(unseen), rel=1e-5)
    home = RunFolder(out / "p-rate-0.5")
    row = held_out_row(find(out), home, recorded_detector(home, "CNN-Direct-p4").detector, [0, 1])
    assert row is not None
    ratios = []
    for number, sides in enumerate(json.loads((out / "splits.json").read_text())["folds"]):
        normal = sum("good" in file for file in sides["train"])
        labelled = normal + (len(sides["train"]) - normal) // 2  # p_rate 0.5
        unseen_here = len(read_csv(out / "p-rate-0.5" / str(number) / "CNN-Direct-p4" / "validation.csv"))
        ratios.append(unseen_here / (labelled - unseen_here))
    assert row.test_to_train == pytest.approx(np.mean(ratios))  # the outer folds' is 1
    values = {name: np.mean([v for k, v in aurocs.items() if k[0] == name]) for name in ("CNN", "CNN-Direct-p4")}
    assert float(line["mean"]) == pytest.approx(values["CNN-Direct-p4"], rel=1e-5)
    assert float(line["gain"]) == pytest.approx(values["CNN-Direct-p4"] - values["CNN"], abs=1e-6)
    assert line["trainings"] == "2"
    for figure in ("study_points_auroc", "study_p_rate_f1", "study_gain_auroc"):
        assert (out / "report" / "figures" / f"{figure}.svg").is_file()
    assert float(line["prevalence"]) == pytest.approx(0.4)
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
    before = {p: p.stat().st_mtime_ns for p in out.rglob("weights.safetensors")}
    capsys.readouterr()
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "estimated time" not in said
    assert "this grid does not include them" not in said
    few = [*grid[:4], "--attention-point", "2", "--p-rate", "1.0", *options]
    assert main(["study", str(leaves), "--out", str(out), *few]) == 0
    others = "p-rate-0.5/CNN, p-rate-0.5/CNN-Direct-p2, p-rate-0.5/CNN-Direct-p4, p-rate-1/CNN-Direct-p4"
    assert f"not in them, because this grid does not include them: {others}" in " ".join(
        capsys.readouterr().out.split()
    )
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("weights.safetensors")}


def test_a_study_without_baselines_has_none() -> None:
    plain, *others = StudyConfig(Path("d"), Path("o"), attention_point=(1, 2)).cells()
    assert plain.caan == "none"
    assert StudyConfig(Path("d"), Path("o"), attention_point=(1, 2), compare=False).cells() == others
