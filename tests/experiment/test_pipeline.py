"""The whole pipeline through the command line, on a small made data set."""

from __future__ import annotations

import csv
import html
import importlib
import json
import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import train
from PIL import Image
from safetensors.numpy import load_file
from sklearn.metrics import auc, average_precision_score, f1_score, roc_auc_score
from tiny import laid_out_once

from leanet.cli import main
from leanet.config import DataConfig, DetectorConfig
from leanet.errors import UserError
from leanet.experiment.finished import finished as what_is_finished
from leanet.experiment.finished import recorded_detector
from leanet.experiment.fold_model import fold_model
from leanet.experiment.open_run import find, refuse_among_images
from leanet.experiment.predictions import write_predictions
from leanet.experiment.run_folder import RunFolder, amend_config, read_config
from leanet.files import write_json
from leanet.maps.store import ARRAYS, CHUNKS, DIGEST
from leanet.report.text import print_fold_reports

MAPS = ["--image-size", "64", "--n-splits", "2", "--colorizer", "Unet", "--colorizer-epochs", "2"]
DETECTOR = ["--adn", "CNN", "--caan", "MobileNet", "--attention-point", "2", "--epochs", "2", "--compile", "off"]
QUICK = [*MAPS, *DETECTOR]

# Fixtures of a module are made before those of a test: `finished` and `reported` are drawn.
pytestmark = pytest.mark.usefixtures("tiny_networks", "blank_figures")


@pytest.fixture(scope="module")
def finished(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two folds, a LEA-Net and its baseline; too few anomalies to choose a threshold by."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["run", str(leaves), "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture(scope="module")
def reported(finished: Path) -> Path:
    """The finished run with a report."""
    with laid_out_once():
        assert main(["report", str(finished)]) == 0
    return finished


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def shown_of(run: Path) -> tuple[tuple[int, ...], dict[int, list[str]]]:
    """The folds of a run that can be shown, and what is missing."""
    shown, missing = what_is_finished(recorded_detector(RunFolder(run)))
    return shown.folds, missing


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_run_leaves_what_the_layout_promises(finished: Path) -> None:
    for name in ("config.yaml", "splits.json", "images.csv", "report/metrics.csv"):
        assert (finished / name).is_file()
    for fold in ("0", "1"):
        assert (finished / fold / "maps.zarr" / "zarr.json").is_file()
        assert load_file(finished / fold / "colorizer" / "weights.safetensors")
        assert len(read_csv(finished / fold / "colorizer" / "history.csv")) == 2
        for detector in ("CNN-MobileNet-p2", "CNN"):
            assert len(read_csv(finished / fold / detector / "history.csv")) == 2
            assert load_file(finished / fold / detector / "weights.safetensors")
    assert not list(finished.rglob("*.partial"))
    assert not list(finished.rglob("checkpoint*"))


def test_pictures_are_pictures(finished: Path) -> None:
    for name in ("colorizer_loss.png", "CNN_loss.png", "CNN-MobileNet-p2_examples.png"):
        with Image.open(finished / "report" / name) as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_every_image_is_predicted_once_by_a_fold_that_did_not_train_on_it(finished: Path) -> None:
    splits = json.loads((finished / "splits.json").read_text())["folds"]
    seen: list[str] = []
    for fold in (0, 1):
        rows = read_csv(finished / str(fold) / "CNN" / "predictions.csv")
        assert {row["file"] for row in rows} == set(splits[fold]["test"])
        assert not {row["file"] for row in rows} & set(splits[fold]["train"])
        seen += [row["file"] for row in rows]
    assert sorted(seen) == sorted(row["file"] for row in read_csv(finished / "images.csv"))


def test_a_detector_names_the_training_images_whose_labels_it_saw(finished: Path) -> None:
    splits = json.loads((finished / "splits.json").read_text())["folds"]
    labels = {row["file"]: row["label"] for row in read_csv(finished / "images.csv")}
    for fold in (0, 1):
        rows = read_csv(finished / str(fold) / "CNN-MobileNet-p2" / "labelled.csv")
        assert [tuple(row.items()) for row in rows] == [
            (("file", file), ("label", labels[file])) for file in labels if file in set(splits[fold]["train"])
        ]


def test_metrics_are_scikit_learns(finished: Path) -> None:
    table = {(r["row"], r["over"]): r for r in read_csv(finished / "report" / "metrics.csv")}
    pooled: list[dict[str, str]] = []
    aurocs = []
    for fold in (0, 1):
        rows = read_csv(finished / str(fold) / "CNN-MobileNet-p2" / "predictions.csv")
        y, p = [int(r["label"]) for r in rows], [float(r["caan_probability"]) for r in rows]
        line = table["CNN-MobileNet-p2: CAAN", f"fold {fold}"]
        aurocs.append(roc_auc_score(y, p))
        assert float(line["auroc"]) == pytest.approx(aurocs[-1], rel=1e-5)
        assert float(line["f1"]) == pytest.approx(f1_score(y, np.array(p) >= 0.5), rel=1e-5)
        assert float(line["average_precision"]) == pytest.approx(average_precision_score(y, p), rel=1e-5)
        pooled += rows
    mean = table["CNN-MobileNet-p2: CAAN", "mean over folds"]
    assert float(mean["auroc"]) == pytest.approx(np.mean(aurocs), rel=1e-5)
    y, p = [int(r["label"]) for r in pooled], [float(r["adn_probability"]) for r in pooled]
    line = table["CNN-MobileNet-p2: ADN", "pooled test images"]
    assert float(line["auroc"]) == pytest.approx(roc_auc_score(y, p), rel=1e-5)
    cells = [int(line[k]) for k in ("true_negatives", "false_positives", "false_negatives", "true_positives")]
    assert sum(cells) == len(y)
    assert cells[1] + cells[3] == sum(int(r["prediction"]) for r in pooled)


def test_report_is_one_page_that_needs_nothing_else(reported: Path) -> None:
    page = (reported / "report" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=.(?!data:)", page)
    assert page.count("data:image/png") >= 9
    parts = ["verdict", "mistakes", "results", "roc", "maps", "inside", "settings"]
    assert re.findall(r'<(?:section|h2)[^>]* id="(\w+)"', page) == parts
    ours = [r for n in (0, 1) for r in read_csv(reported / str(n) / "CNN-MobileNet-p2" / "predictions.csv")]
    called = [r["label"] for r in ours if r["prediction"] == "1"]
    said = f"{called.count('1')} found ({round(100 * called.count('1') / 16)} %), {called.count('0')} false alarm"
    assert f"Of 16 anomalous pictures {said}" in page
    wrong = [r["file"] for r in ours if r["label"] != r["prediction"]]
    assert {r["file"] for r in read_csv(reported / "report" / "mistakes.csv")} == set(wrong)
    rows = {row["row"] for row in read_csv(reported / "report" / "metrics.csv")}
    assert {"colours of the image's border", "colour histogram", "CNN without attention: ADN"} <= rows
    assert all(html.escape(row) in page.replace("&#39;", "&#x27;") for row in rows)
    for figure in ("layers_anomalous", "roc", "confusion", "recolouring", "training_detector"):
        with Image.open(reported / "report" / "figures" / f"{figure}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5
        assert "<svg" in (reported / "report" / "figures" / f"{figure}.svg").read_text(encoding="utf-8")


def test_the_area_under_the_curve_of_a_report_is_its_auroc(reported: Path) -> None:
    points = [r for r in read_csv(reported / "report" / "curves.csv") if (r["fold"], r["curve"]) == ("0", "roc")]
    metrics = read_csv(reported / "report" / "metrics.csv")
    own = next(r for r in metrics if (r["row"], r["over"]) == ("CNN-MobileNet-p2: ADN", "fold 0"))
    area = auc([float(r["x"]) for r in points], [float(r["y"]) for r in points])
    assert area == pytest.approx(float(own["auroc"]), abs=1e-4)


def test_a_model_of_a_fold_predicts_as_its_detector_did(finished: Path) -> None:
    trained, _ = what_is_finished(recorded_detector(RunFolder(finished)))
    for fold in (0, 1):
        rows = trained.run.rows(trained.run.folds[fold].test)
        said = fold_model(trained, fold).predict_pixels(list(trained.run.pixels[rows]))
        recorded = [
            float(r["adn_probability"])
            for r in read_csv(finished / str(fold) / "CNN-MobileNet-p2" / "predictions.csv")
        ]
        assert [result.probability for result in said] == pytest.approx(recorded, abs=1e-4)


def test_a_report_tries_the_detectors_in_other_light(reported: Path) -> None:
    lines = {line["change"]: line for line in read_csv(reported / "report" / "robustness.csv")}
    assert len(lines) == 10
    predictions = [r for n in (0, 1) for r in read_csv(reported / str(n) / "CNN-MobileNet-p2" / "predictions.csv")]
    labels, called = ([int(r[name]) for r in predictions] for name in ("label", "prediction"))
    assert float(lines["as taken"]["f1"]) == pytest.approx(f1_score(labels, called, zero_division=0), abs=1e-5)
    assert lines["exposure +1"] != lines["exposure -1"]
    page = (reported / "report" / "index.html").read_text(encoding="utf-8")
    assert "cast of 12 ΔE" in page
    assert "40 test pictures" in page


def test_a_report_measures_other_light_once(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (reported / "report" / "robustness.csv").read_bytes()
    monkeypatch.setattr("leanet.experiment.robustness.fold_model", None)
    assert main(["report", str(reported)]) == 0
    assert (reported / "report" / "robustness.csv").read_bytes() == before


def test_a_report_needs_no_source_of_the_maps(run: Path) -> None:
    for weights in run.glob("[01]/colorizer/*.safetensors"):
        weights.unlink()
    (run / "report" / "robustness.json").unlink(missing_ok=True)
    assert main(["report", str(run)]) == 0
    assert "In other light" not in (run / "report" / "index.html").read_text(encoding="utf-8")


def test_a_report_localises_by_the_masks(reported: Path, leaves: Path) -> None:
    localised = read_csv(reported / "report" / "localisation.csv")
    overs = ("fold 0", "fold 1", "mean", "95 % interval, low end", "95 % interval, high end")
    assert [(r["over"], r["map"]) for r in localised] == [
        (o, m) for m in ("anomaly map", "attention") for o in overs
    ]
    for of_map in (localised[:5], localised[5:]):
        for metric in ("pixel_auroc", "aupro"):
            first, second, mean, low, high = (float(r[metric]) for r in of_map)
            assert mean == pytest.approx((first + second) / 2, abs=1e-5)
            assert 0 <= low <= mean <= high <= 1
    run = find(reported)
    tested = run.rows(run.folds[0].test)
    masks = [Image.open(leaves / m).convert("1") if (m := run.images[row].mask) else None for row in tested]
    truth = np.stack([np.zeros((64, 64), bool) if mask is None else np.asarray(mask) for mask in masks])
    area = roc_auc_score(truth.ravel(), run.maps(0).delta_e(tested).ravel())
    assert float(localised[0]["pixel_auroc"]) == pytest.approx(area, abs=1e-5)


def test_report_of_half_a_run_says_what_is_missing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "1" / "CNN" / "metrics.json").unlink()
    assert main(["report", str(run)]) == 0
    assert str(run / "report" / "index.html") in capsys.readouterr().out
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "fold 1 lacks 1/CNN/metrics.json." in page
    assert "2 of 2 folds" in page
    assert "CNN without attention" not in page
    assert "The baseline is not shown" in page
    (run / "1" / "CNN-MobileNet-p2" / "history.csv").unlink()
    assert main(["report", str(run)]) == 0
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "1 of 2 folds" in page
    assert "CNN without attention" in page
    shutil.rmtree(run / "0" / "CNN-MobileNet-p2")
    assert main(["report", str(run)]) == 2
    assert "fold 0 lacks 0/CNN-MobileNet-p2/config.yaml and 4 more" in capsys.readouterr().err
    (run / "0" / "CNN" / "weights.safetensors").unlink()
    assert main(["detect", str(run), *DETECTOR]) == 0
    said = capsys.readouterr().out
    in_order = [
        "CNN fold 0",
        "Of 16 anomalous pictures",
        " (probability, name; ",
        "mean [95 % interval]",
        "\nAUROC: ",
    ]
    places = [said.rindex(part) for part in in_order]
    assert places == sorted(places)
    assert shown_of(run) == ((0, 1), {})


def test_a_baseline_by_itself_is_the_one_beside_a_detector(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DetectorConfig("CNN", "none", (3,), "max", "affine", 0.5) == DetectorConfig("CNN").baseline()
    capsys.readouterr()
    assert main(["detect", str(run), "--adn", "CNN", "--caan", "none", "--epochs", "2", "--compile", "off"]) == 0
    assert "CNN: all requested folds are already finished" in capsys.readouterr().out
    assert main(["detect", str(run), *DETECTOR]) == 0
    assert capsys.readouterr().out.count("all requested folds are already finished") == 2


def test_what_is_finished_is_told_from_what_was_asked_for(run: Path, tmp_path: Path) -> None:
    home, config = RunFolder(run), yaml.safe_load((run / "config.yaml").read_text())
    assert recorded_detector(home).detector.caan == "MobileNet"
    assert recorded_detector(home, "CNN").detector.caan == "none"
    with pytest.raises(UserError, match=r"--detector VGG16: .* has CNN, CNN-MobileNet-p2"):
        recorded_detector(home, "VGG16")
    metrics = run / "1" / "CNN-MobileNet-p2" / "metrics.json"
    held_out = json.loads(metrics.read_text()) | {"validation": {"images": 9, "anomalous": 3}}
    metrics.write_text(json.dumps(held_out))
    assert shown_of(run) == ((0,), {1: ["1/CNN-MobileNet-p2/validation.csv"]})
    metrics.write_text("{")
    damaged = {1: ["1/CNN-MobileNet-p2/metrics.json"]}
    assert shown_of(run) == ((0,), damaged)
    shutil.rmtree(run / "1" / "CNN-MobileNet-p2")
    for of_fold_0 in ("CNN-MobileNet-p2", "CNN"):
        amend_config(run / "0" / of_fold_0 / "config.yaml", folds="0")
    assert shown_of(run) == ((0,), {})
    (run / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in config.items() if k != "adn"}))
    with pytest.raises(UserError, match="2 folds have their anomaly maps: run `leanet detect"):
        recorded_detector(home)
    shutil.rmtree(run / "1" / "maps.zarr")
    with pytest.raises(UserError, match="Of its 2 folds, 1 have no anomaly maps yet"):
        recorded_detector(home)
    with pytest.raises(UserError, match="not a run folder"):
        recorded_detector(RunFolder(tmp_path / "nowhere"))


def test_a_fold_that_tests_one_class_has_undefined_metrics(
    run: Path, leaves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = json.loads((run / "splits.json").read_text())
    splits["folds"][0]["test"] = [file for file in splits["folds"][0]["test"] if "good" in file]
    (run / "splits.json").write_text(json.dumps(splits))
    shutil.rmtree(run / "0")
    assert main(["run", str(leaves), "--out", str(run), *QUICK]) == 0
    said = capsys.readouterr().out
    assert "CNN-MobileNet-p2 fold 0: F1 undefined (0% anomalous), AUROC undefined" in said
    line = next(r for r in read_csv(run / "report" / "metrics.csv") if r["over"] == "fold 0")
    assert (line["auroc"], line["f1"], line["average_precision"]) == ("", "", "")
    assert main(["report", str(run)]) == 0
    assert "(1 of 2 folds)" in (run / "report" / "index.html").read_text(encoding="utf-8")
    capsys.readouterr()
    print_fold_reports(what_is_finished(recorded_detector(RunFolder(run)))[0])
    first, second = capsys.readouterr().out.split("fold 1, ADN")
    assert "F1 of ADN: undefined (0% anomalous)" in first
    assert "precision" not in first
    assert "precision" in second


def test_seeds_that_not_all_folds_have_are_left_out_of_a_report(run: Path) -> None:
    assert main(["detect", str(run), *DETECTOR, "--seeds", "2"]) == 0
    rows = read_csv(run / "report" / "metrics.csv")
    overs = [row["over"] for row in rows if row["row"] == "CNN-MobileNet-p2: ADN"]
    assert overs[:4] == ["fold 0, seed 0", "fold 0, seed 1", "fold 1, seed 0", "fold 1, seed 1"]
    (run / "1" / "CNN-MobileNet-p2-s1" / "metrics.json").unlink()
    assert main(["report", str(run)]) == 0
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "fold 1 lacks 1/CNN-MobileNet-p2-s1/metrics.json." in page
    assert "2 of 2 folds, 2 trainings" in page
    with pytest.raises(UserError, match="a further seed's folder"):
        recorded_detector(RunFolder(run), "CNN-MobileNet-p2-s1")


def test_a_detector_is_shown_with_its_own_options_and_a_baseline_of_the_same(run: Path) -> None:
    train("detect", str(run), *DETECTOR, "--seeds", "2", "--target-recall", "0.9", "--no-compare")
    train(
        "detect", str(run), *DETECTOR, "--attention-point", "3", "--p-rate", "0.5", "--folds", "0", "--no-compare"
    )
    home = RunFolder(run)
    asked = recorded_detector(home)
    assert (asked.detector.seeds, asked.detector.target_recall, asked.compute.folds) == (1, None, "0")
    there, missing = what_is_finished(asked)
    assert (there.config.compare, there.folds, missing) == (False, (0,), {})  # the baseline has another p_rate
    assert what_is_finished(replace(asked, compare=True))[1] == {
        0: ["0/CNN of these options (made with --p-rate 1.0, now 0.5)"]
    }
    named = recorded_detector(home, "CNN-MobileNet-p2")
    assert (named.detector.seeds, named.detector.target_recall, named.compute.folds) == (2, 0.9, "all")
    assert named.detector.p_rate == 1
    there, missing = what_is_finished(named)
    assert (there.detector.seeds, there.config.compare, missing) == (2, False, {})  # it has no second seed
    assert there.folds == (0, 1)


def test_another_target_recall_chooses_again_for_what_is_finished(run: Path) -> None:
    found, folder = find(run), RunFolder(run).fold(0).detector("CNN-MobileNet-p2")
    rows = found.rows(found.folds[0].train).repeat(2)  # sixteen anomalies are enough to choose by
    is_anomalous = found.labels[rows] == 1
    scores = np.linspace(0.1, 0.6, len(rows)) + 0.2 * is_anomalous
    write_predictions(folder.validation, found, 0, rows, scores, scores)
    write_json(folder.metrics, folder.read_metrics() | {"sha256": folder.hashes()})
    before = folder.weights.stat().st_mtime_ns
    train("detect", str(run), *DETECTOR, "--folds", "0", "--target-recall", "1.0")
    lowest = scores[is_anomalous].min()
    expected = (lowest + scores[scores < lowest].max()) / 2
    assert folder.read_metrics()["adn"]["threshold_chosen"] == pytest.approx(expected)
    assert read_config(folder.config)["target_recall"] == 1.0
    assert folder.weights.stat().st_mtime_ns == before


def test_config_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    recorded = yaml.safe_load((finished / "config.yaml").read_text())
    assert recorded["recorded"]["versions"]["torch"].startswith("2.")
    again = tmp_path / "again"
    train("run", "--config", str(finished / "config.yaml"), "--out", str(again))
    for fold in ("0", "1"):
        name = Path(fold, "CNN-MobileNet-p2", "predictions.csv")
        assert (again / name).read_bytes() == (finished / name).read_bytes()


def test_finished_folds_are_not_done_again(run: Path, leaves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("weights.safetensors")}
    assert main(["run", str(leaves), "--out", str(run), *QUICK]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("weights.safetensors")}
    said = capsys.readouterr().out
    assert "already finished" in said
    assert "estimated time" not in said


def test_predictions_of_other_images_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = run / "0" / "CNN" / "predictions.csv"
    header, first, *rest = predictions.read_text().splitlines(keepends=True)
    predictions.write_text("".join([header, *rest, first]))
    metrics = json.loads((run / "0" / "CNN" / "metrics.json").read_text())
    del metrics["sha256"]  # as earlier versions wrote it; with its hash, the changed file is noticed and made again
    (run / "0" / "CNN" / "metrics.json").write_text(json.dumps(metrics))
    assert main(["detect", str(run), *DETECTOR]) == 2
    assert "not of this fold's test images" in capsys.readouterr().err


def test_another_detector_in_another_folder(finished: Path, tmp_path: Path) -> None:
    arguments = ["--adn", "CNN", "--caan", "Direct", "--attention-point", "1", "3", "--epochs", "1"]
    options = [*arguments, "--folds", "1", "--p-rate", "0.5", "--compile", "off", "--no-compare"]
    before = {path: path.stat().st_mtime_ns for path in (finished / "report").rglob("*")}
    assert main(["detect", str(finished), "--out", str(tmp_path / "other"), *options]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (finished / "report").rglob("*")}
    assert (tmp_path / "other" / "report" / "colorizer_loss.png").is_file()
    folder = tmp_path / "other" / "1" / "CNN-Direct-p13"
    rows = read_csv(folder / "predictions.csv")
    assert {row["caan_probability"] for row in rows} == {""}
    assert not (tmp_path / "other" / "0").exists()
    positives = [
        f for f in json.loads((finished / "splits.json").read_text())["folds"][1]["train"] if "good" not in f
    ]
    assert json.loads((folder / "metrics.json").read_text())["train"]["anomalous"] == len(positives) // 2


def test_detectors_of_other_maps_are_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    shutil.copytree(finished, other)
    options = [*DETECTOR, "--no-compare", "--folds", "0"]
    train("detect", str(finished), "--out", str(out), *options)
    train("detect", str(other), "--out", str(out), *options)  # a copy's maps are the same
    attributes = other / "0" / "maps.zarr" / "zarr.json"
    content = json.loads(attributes.read_text())
    for name in (CHUNKS, ARRAYS, DIGEST):  # as earlier versions wrote maps, which no hash protects
        del content["attributes"][name]
    content["attributes"]["normals_p99"] += 10
    attributes.write_text(json.dumps(content))
    for file in out.glob("0/*/config.yaml"):  # nor did these say what their maps were made from
        config = yaml.safe_load(file.read_text())
        del config["recorded"]["maps_made_from"]
        file.write_text(yaml.safe_dump(config))
    assert main(["detect", str(other), "--out", str(out), *options]) == 2
    assert "made with other images or anomaly maps" in capsys.readouterr().err


def test_a_colorizer_that_saw_other_images_is_trained_anew(run: Path) -> None:
    dataset = yaml.safe_load((run / "config.yaml").read_text())["dataset"]
    weights = run / "0" / "colorizer" / "weights.safetensors"
    again = ["colorize", dataset, "--out", str(run), *MAPS, "--compile", "off", "--folds", "0"]
    before, written = weights.read_bytes(), weights.stat().st_mtime_ns
    shutil.rmtree(run / "0" / "maps.zarr")
    train(*again)
    assert weights.stat().st_mtime_ns == written
    shutil.rmtree(run / "0" / "maps.zarr")
    splits = json.loads((run / "splits.json").read_text())
    normals = [next(f for f in splits["folds"][0][side] if "good" in f) for side in ("train", "test")]
    for fold in splits["folds"]:
        for side in ("train", "test"):
            fold[side] = [dict(zip(normals, normals[::-1], strict=True)).get(f, f) for f in fold[side]]
    (run / "splits.json").write_text(json.dumps(splits))
    train(*again)
    assert weights.read_bytes() != before


def test_authors_scripts_write_and_read_beside_the_images(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(script: Path, *arguments: str) -> None:
        monkeypatch.setattr("sys.argv", [str(script), *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        assert ended.value.code == 0

    data = tmp_path / "data"
    for name, files in (("Negative", leaves / "train" / "good"), ("Positive", leaves / "test" / "spot")):
        (data / name).mkdir(parents=True)
        for file in sorted(files.iterdir())[:8]:
            (data / name / file.name).write_bytes(file.read_bytes())
    root = Path(__file__).parents[2]
    place = ["--dataset", str(data), "--SAVE_PATH", str(data)]
    first = [*place, "--n_split", "2", "--img_size", "64", "--model", "AE", "--batchSize", "4", "--nEpochs", "1"]
    call(root / "colorization.py", *first)
    second = [*place, "--AND", "CNN", "--CAAN", "ResNet", "--attPoint", "3", "--batchSize", "4", "--nEpochs", "1"]
    capsys.readouterr()
    call(root / "anomalydetection.py", *second)
    said = capsys.readouterr().out
    assert (data / "0" / "CNN-ResNet-p3" / "predictions.csv").is_file()
    assert yaml.safe_load((data / "config.yaml").read_text())["recipe"] == "authors"
    for text in ("confusion matrix", "precision", "F1 of ADN", "F1 of CAAN"):
        assert said.count(text) >= 2


def test_the_published_numbers_and_none_given_are_one_training(monkeypatch: pytest.MonkeyPatch) -> None:
    place = ["x.py", "--dataset", "data", "--SAVE_PATH", "run"]

    def config(script: str, *numbers: str) -> object:
        monkeypatch.setattr("sys.argv", [*place, *numbers])
        return importlib.import_module(script).read_config()

    for script, published, other in (
        ("colorization", ("--nEpochs", "500", "--batchSize", "16"), ("--nEpochs", "499")),
        ("anomalydetection", ("--nEpochs", "100", "--batchSize", "32", "--lr", "1e-4"), ("--lr", "2e-4")),
    ):
        assert config(script, *published) == config(script)
        assert config(script, *other) != config(script)
        ours = ("--recipe", "leanet")
        assert config(script, *published, *ours) != config(script, *ours)


@pytest.mark.parametrize(
    ("verb", "place"),
    [("run", "test/good/x"), ("colorize", "test/x"), ("study", "ground_truth/spot/x"), ("fit", "link/x/y")],
)
def test_nothing_is_written_among_the_pictures(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, place: str
) -> None:
    data = Path(shutil.copytree(leaves, tmp_path / "leaves"))
    (data / "link").symlink_to(data / "test" / "spot")
    before = sorted(data.rglob("*"))
    assert main([verb, str(data), "--out", str(data / place), "--image-size", "64"]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: --out {data / place}: is inside {data}/")
    assert line.count("\n") == 1
    assert sorted(data.rglob("*")) == before


def test_a_run_beside_the_class_folders_is_no_picture_of_theirs(leaves: Path, tmp_path: Path) -> None:
    data = tmp_path / "leaves"
    shutil.copytree(leaves / "train" / "good", data / "Negative")
    shutil.copytree(leaves / "test" / "spot", data / "Positive")
    for out in (data, data / "run", data / "Positive-run", tmp_path / "run"):
        refuse_among_images(out, data, DataConfig())
    for out in (data / "Positive", data / "Positive" / "spot" / "run", data / "Negative" / "run"):
        with pytest.raises(UserError, match=r"--out .*: is inside .*tive, whose images are read"):
            refuse_among_images(out, data, DataConfig())


def test_detectors_are_not_written_among_the_pictures(
    finished: Path, leaves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = leaves / "test" / "spot" / "few"
    assert main(["detect", str(finished), *DETECTOR, "--out", str(out)]) == 2
    assert f"--out {out}: is inside {leaves / 'test'}, whose images are read" in capsys.readouterr().err
    assert not out.exists()


def test_grey_images_are_said_to_have_no_color(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for image in sorted((leaves / "test").rglob("*.png")) + sorted((leaves / "train").rglob("*.png")):
        grey = tmp_path / "grey" / image.relative_to(leaves)
        grey.parent.mkdir(parents=True, exist_ok=True)
        Image.open(image).convert("L").save(grey)
    said = []
    for name, dataset in (("a", tmp_path / "grey"), ("b", leaves)):
        options = ["--n-splits", "2", "--folds", "0", "--image-size", "64", "--colorizer-epochs", "1"]
        assert main(["colorize", str(dataset), "--out", str(tmp_path / name), *options]) == 0
        said.append("the images have no color" in capsys.readouterr().out)
    assert said == [True, False]
