"""The verdict's numbers, counted by hand, and its words."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from leanet.data.splits import Fold
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import ImageRow, RunFolder
from leanet.experiment.table import Table
from leanet.experiment.verdict import (
    clearly_better,
    headline,
    mistakes_of,
    percent,
    probability_text,
    verdict_of,
    write_mistakes,
)
from leanet.report.text import print_verdict
from leanet.results.baselines import BORDER_ROW
from leanet.results.metrics import Scored
from leanet.results.rows import Key, Row, make_row


def one_fold(found: int, missed: int, alarms: int, right: int, threshold: float | None = None) -> Scored:
    """Anomalous pictures found and missed, false alarms, and normal pictures called so."""
    labels = np.repeat([1, 1, 0, 0], [found, missed, alarms, right])
    scores = np.repeat([0.9, 0.1, 0.9, 0.1], [found, missed, alarms, right])
    return Scored(labels, scores, threshold)


def row(name: str, *folds: Scored) -> Row:
    return make_row(name, {(n, 0): scored for n, scored in enumerate(folds)}, 0.25)


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        (
            (one_fold(60, 0, 1, 99, 0.41), one_fold(56, 4, 0, 100, 0.41)),
            "Of 120 anomalous pictures 116 found (97 %), 1 false alarm in 200; threshold 0.41",
        ),
        (
            (one_fold(1, 0, 1, 1, 0.384), one_fold(0, 0, 1, 4, 0.62)),
            "Of 1 anomalous picture 1 found (100 %), 2 false alarms in 7; "
            "thresholds 0.38 to 0.62, one for each fold",
        ),
        ((one_fold(0, 0, 0, 9),), "No anomalous picture was tested, 0 false alarms in 9; threshold 0.50"),
        (
            (one_fold(0, 3, 0, 0, 0.7),),
            "Of 3 anomalous pictures 0 found (0 %), no normal picture was tested; threshold 0.70",
        ),
    ],
)
def test_the_headline_counts_at_each_folds_threshold(folds: tuple[Scored, ...], said: str) -> None:
    assert headline(row("p3: ADN", *folds)) == said


def test_only_all_is_a_hundred_percent_and_only_none_is_zero() -> None:
    cases = [(116, 120), (1, 3), (1999, 2000), (2000, 2000), (1, 2000), (0, 2000), (0, 0)]
    expected = ["97 %", "33 %", "over 99 %", "100 %", "under 1 %", "0 %", "-"]
    assert [percent(*case) for case in cases] == expected
    assert [probability_text(p) for p in (0.414, 0.0031, 0.9987, 2e-7)] == ["0.41", "0.0031", "0.9987", "2e-07"]


@pytest.fixture
def a_run(tmp_path: Path) -> tuple[Run, Mapping[Key, Scored]]:
    """Eight pictures in two folds with the thresholds 0.4 and 0.5, and a second seed that gets all of them wrong.

    Wrong are: b (anomalous, 0.3 below 0.4), d (normal, 0.45), e (anomalous, 0.01), g (normal, 0.9).
    """
    labels = np.array([1, 1, 0, 0, 1, 1, 0, 0])
    files = tuple(f"{name}.png" for name in "abcdefgh")
    images = tuple(ImageRow(f, int(label), "", f, "", f, 64, 64) for f, label in zip(files, labels, strict=True))
    folds = (Fold(files[4:], files[:4]), Fold(files[:4], files[4:]))
    run = Run(RunFolder(tmp_path), images, labels, np.zeros((8, 64, 64, 3), np.uint8), folds, "true")
    scored = {
        (0, 0): Scored(labels[:4], np.array([0.41, 0.3, 0.39, 0.45]), 0.4),
        (1, 0): Scored(labels[4:], np.array([0.01, 0.5, 0.9, 0.2])),
        (0, 1): Scored(labels[:4], 1.0 - labels[:4]),
        (1, 1): Scored(labels[4:], 1.0 - labels[4:]),
    }
    return run, scored


def test_the_surest_mistakes_come_first(a_run: tuple[Run, Mapping[Key, Scored]], tmp_path: Path) -> None:
    run, scored = a_run
    assert mistakes_of(run, scored) == [(4, 1, 0.01), (6, 1, 0.9), (1, 0, 0.3), (3, 0, 0.45)]
    with write_mistakes(tmp_path, run, scored).open(newline="") as stream:
        lines = [tuple(line.values()) for line in csv.DictReader(stream)]
    assert lines == [
        ("e.png", "1", "1", "0.01", "0.5"),
        ("g.png", "0", "1", "0.9", "0.5"),
        ("b.png", "1", "0", "0.3", "0.4"),
        ("d.png", "0", "0", "0.45", "0.4"),
    ]


def test_the_verdict_names_what_was_counted(
    a_run: tuple[Run, Mapping[Key, Scored]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, scored = a_run
    found = verdict_of(run, Table((make_row("p3: ADN", scored, 1.0),), ()), scored)
    assert found.headline.startswith(
        "Of 4 anomalous pictures 2 found (50 %), 2 false alarms in 4; thresholds 0.40 to"
    )
    assert (found.anomalous, found.normal) == (4, 4)
    assert [run.images[m.row].file for m in found.missed] == ["e.png", "b.png"]
    assert [run.images[m.row].file for m in found.false_alarms] == ["g.png", "d.png"]
    text = " ".join(found.details)
    assert "2 of 2 folds" in text
    assert '"p3: ADN" decides' in text
    assert "The first seed is counted." in text
    assert "In 1 of 2 folds the threshold is 0.5: fewer than 10 anomalous pictures were held out" in text
    assert "Few pictures were tested (4 anomalous, 4 normal)" in text
    print_verdict(run, found, Path("mistakes.csv"))
    said = capsys.readouterr().out.split("\n")
    names = [line.strip() for line in said if line.startswith("  ")]
    assert names == ["0.01   e.png", "0.30   b.png", "0.90   g.png", "0.45   d.png"]
    assert "missed: 2 of 4 anomalous pictures (probability, name; surest first)" in said
    assert "false alarms: 2 of 4 normal pictures (probability, name; surest first)" in said


def test_ten_mistakes_are_named_and_the_others_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, files = np.ones(12, np.int64), tuple(f"{i}.png" for i in range(12))
    images = tuple(ImageRow(f, 1, "", f, "", f, 64, 64) for f in files)
    pixels = np.zeros((12, 64, 64, 3), np.uint8)
    run = Run(RunFolder(tmp_path), images, labels, pixels, (Fold((), files),), "true")
    scored = {(0, 0): Scored(labels, np.linspace(0.0, 0.4, 12))}
    found = verdict_of(run, Table((make_row("p3: ADN", scored, 1.0),), ()), scored)
    print_verdict(run, found, Path("mistakes.csv"))
    said = capsys.readouterr().out
    assert "0.png" in said
    assert "9.png" in said
    assert "10.png" not in said
    assert "  and 2 more: mistakes.csv" in said


def words_about(first: Row, *others: Row) -> str:
    run = Run(RunFolder(Path("nowhere")), (), np.array([]), np.zeros((0, 64, 64, 3), np.uint8), (), "true")
    return " ".join(verdict_of(run, Table((first, *others), ()), {}).details)


def test_a_clearly_better_row_is_named_with_its_mistakes() -> None:
    first = row("p3: ADN", one_fold(20, 10, 2, 28))
    histogram, caan = (row(name, one_fold(29, 1, 0, 30)) for name in ("colour histogram", "p3: CAAN"))
    border = row("colours of the image's border", one_fold(22, 8, 2, 28))
    said = words_about(first, border, caan, histogram)
    assert '"p3: CAAN" is clearly better here: 1 mistake in 60 pictures instead of 12' in said
    assert "`leanet predict` gives it as caan_probability." in said
    assert 'So is "colour histogram".' in said
    assert "border" not in said
    assert "Few pictures" not in said
    assert "no network is needed here" in words_about(first, histogram)
    assert "does as well" in words_about(first, border)
    as_good = dataclasses.replace(border, name="another network")
    assert "No other row of the table is clearly better: use this one." in words_about(first, as_good)


def test_answers_like_guesses_are_not_recommended() -> None:
    guess = row("p3: ADN", one_fold(10, 10, 10, 10))
    said = words_about(guess, row("colour histogram", one_fold(11, 9, 10, 10)))
    assert "hardly does better than guessing (AUROC 0.50; 0.5 is guessing): do not use it." in said
    assert "use this one" not in said


def test_better_is_what_chance_brings_in_less_than_one_of_a_hundred() -> None:
    """One tail of the sign test: 0 of 7 is 1/128, 0 of 6 is 1/64, 1 of 9 is 10/512."""
    for own, its, better in ((0, 7, True), (0, 6, False), (1, 8, False), (7, 0, False)):
        rows = [row("a", one_fold(50 - mistakes, mistakes, 0, 50)) for mistakes in (own, its)]
        assert clearly_better(*rows) is better


def ranked(*scores: float, threshold: float) -> Scored:
    """Three normal pictures and three anomalous ones, with these scores."""
    return Scored(np.repeat([0, 1], 3), np.array(scores), threshold)


@pytest.mark.parametrize(
    ("scored", "said"),
    [
        (ranked(0.1, 0.1, 0.2, 0.3, 0.3, 0.4, threshold=0.5), "At this threshold it finds no anomalous picture"),
        (
            ranked(0.6, 0.6, 0.7, 0.8, 0.8, 0.9, threshold=0.5),
            "it calls every normal picture anomalous",
        ),
        (one_fold(0, 0, 4, 6), "Pictures of one class alone were tested"),
        (one_fold(4, 6, 0, 0), "Pictures of one class alone were tested"),
    ],
)
def test_what_tells_nothing_apart_is_not_recommended(scored: Scored, said: str) -> None:
    words = words_about(row("p3: ADN", scored), row("colour histogram", scored))
    assert said in words
    assert "use this one" not in words
    if "one class" not in said:
        assert "ranks pictures well, AUROC 1.00: pass another --threshold to `leanet predict`" in words


def test_a_border_that_does_as_well_is_named_and_few_pictures_recommend_nothing(
    a_run: tuple[Run, Mapping[Key, Scored]],
) -> None:
    run, scored = a_run
    first, border = row("p3: ADN", one_fold(4, 2, 1, 7)), row(BORDER_ROW, one_fold(6, 0, 0, 8))
    said = " ".join(verdict_of(run, Table((first, border), ()), scored).details)
    assert "does as well: 0 mistakes in 14 pictures instead of 3" in said
    assert "different backgrounds" in said
    alone = " ".join(verdict_of(run, Table((first, row("other", one_fold(4, 2, 1, 7))), ()), scored).details)
    assert "too few pictures to tell" in alone
    assert "use this one" not in alone
