"""The rows beside a detector's own: chosen on images held out, no group parted, nothing learnt from test images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from leanet.config import ColorizeConfig, ComputeConfig, DataConfig, DetectConfig, DetectorConfig
from leanet.errors import UserError
from leanet.experiment.open_run import Run, begin
from leanet.experiment.predictions import Predictions
from leanet.experiment.table import Outcome, adn_scored, mean_of_both, scored, together
from leanet.experiment.training_set import divide
from leanet.results.baselines import border_histogram, colour_histogram, linear_classifier

MakeRun = Callable[..., Run]


def said(run: Run, rows: np.ndarray, adn: np.ndarray, caan: np.ndarray) -> Predictions:
    return Predictions(tuple(run.images[r].file for r in rows), run.labels[rows], adn, caan)


def outcome_of(run: Run, caan_tells: bool, seed: int = 0) -> Outcome:
    """An ADN that guesses, and a CAAN that knows or guesses too."""
    generator = np.random.default_rng(seed)
    held = divide(DetectConfig(Path("nowhere")), run, 0, 0).validation

    def predicted(rows: np.ndarray) -> Predictions:
        knows = 0.2 + 0.6 * run.labels[rows] if caan_tells else np.full(len(rows), 0.5)
        return said(run, rows, generator.random(len(rows)), knows + 0.1 * generator.random(len(rows)))

    test = run.rows(run.folds[0].test)
    return Outcome(predicted(test), generator.random(len(test)), predicted(held), generator.random(len(held)))


def test_both_networks_and_the_map_are_combined_where_that_ranks_better(make_run: MakeRun) -> None:
    run = make_run(150, 150)
    found = together(run, outcome_of(run, caan_tells=True), DetectorConfig())
    assert found is not None
    assert found.threshold is not None
    assert ((found.scores >= found.threshold) == (found.labels == 1)).all()


def test_the_mean_of_both_networks_is_taken_of_their_logits() -> None:
    probabilities = [np.array(values) for values in ([0.9, 0.5, 1.0, 1.0], [0.5, 0.2, 0.0, 1.0])]
    both = mean_of_both(Predictions(("a", "b", "c", "d"), np.array([1, 0, 1, 1]), *probabilities))
    assert both == pytest.approx([0.75, 1 / 3, 0.5, 1.0])  # odds: sqrt(9), sqrt(1/4)


def test_each_answer_has_the_threshold_that_the_validation_chose_for_it(make_run: MakeRun) -> None:
    found = outcome_of(make_run(150, 150), caan_tells=True)
    both, adn = scored(found, mean_of_both, DetectorConfig()), adn_scored(found, DetectorConfig())
    assert both.threshold is not None
    assert both.threshold != adn.threshold
    np.testing.assert_array_equal(both.scores, mean_of_both(found.test))


def test_a_combination_that_ranks_no_better_is_no_row(make_run: MakeRun) -> None:
    run = make_run(150, 150)
    guesses = [together(run, outcome_of(run, caan_tells=False, seed=seed), DetectorConfig()) for seed in range(6)]
    assert guesses.count(None) >= 2  # what guesses ranks better than another guess half of the time


def test_with_too_few_of_a_class_nothing_is_combined(make_run: MakeRun) -> None:
    assert together(make_run(21, 150), outcome_of(make_run(21, 150), caan_tells=True), DetectorConfig()) is None
    run = make_run(150, 150)
    found = outcome_of(run, caan_tells=True)
    assert found.validation is not None
    assert found.validation_map is not None
    anomalous = np.flatnonzero(found.validation.labels == 1)
    for left, is_enough in ((9, False), (10, True)):
        kept = np.setdiff1d(np.arange(len(found.validation.labels)), anomalous[left:])
        v = found.validation
        few = said(run, run.rows(tuple(v.files[i] for i in kept)), v.adn[kept], v.caan[kept])  # type: ignore[index]
        either = Outcome(found.test, found.test_map, few, found.validation_map[kept])
        assert (together(run, either, DetectorConfig()) is not None) == is_enough


def test_the_border_is_described_by_its_own_colours_alone() -> None:
    pixels = np.zeros((1, 50, 50, 3), np.uint8)
    pixels[:, 4:-4, 4:-4] = 255  # 8 % of the side is the border
    assert border_histogram(pixels)[0].nonzero()[0].tolist() == [0]
    pixels[:, 3, 10] = 255
    border = 50 * 50 - 42 * 42
    assert border_histogram(pixels)[0][[0, 63]] ** 2 == pytest.approx([1 - 1 / border, 1 / border])
    assert colour_histogram(pixels)[0][63] ** 2 == pytest.approx((42 * 42 + 1) / 2500)


def test_colours_are_told_apart_in_four_steps_of_each_primary() -> None:
    colours = np.array([[0, 0, 63], [0, 0, 64], [0, 191, 0], [255, 0, 0]], np.uint8)[:, None, None]
    assert colour_histogram(colours).nonzero()[1].tolist() == [0, 1, 2 * 4, 3 * 16]


def test_few_anomalies_count_in_the_rows_of_colours_as_if_each_were_there_several_times() -> None:
    generator, labels = np.random.default_rng(0), np.repeat([0, 1], [30, 10])
    features = generator.normal(size=(40, 3)) + labels[:, None]
    fitted = linear_classifier(labels).fit(features, labels)
    times = np.where(labels == 1, 3, 1)
    scaled = fitted[0].transform(features).repeat(times, axis=0)
    expected = LogisticRegression(C=0.1, max_iter=2000).fit(scaled, labels.repeat(times))
    assert fitted[1].coef_ == pytest.approx(expected.coef_, rel=1e-3)
    assert not np.allclose(linear_classifier().fit(features, labels)[1].coef_, expected.coef_, rtol=1e-2)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight images a class; the first two normal ones have the same bytes."""
    for label, name in enumerate(("Negative", "Positive")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(8):
            colour = (30 * (max(1, i) if label == 0 else i), 200 * label, 9)
            Image.new("RGB", (32, 32), colour).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


def test_copies_are_one_group_and_groups_are_compared_by_content(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def started(name: str, groups: str) -> Run:
        (tmp_path / name).write_text("file,group\n" + groups)
        data = DataConfig(image_size=64, n_splits=2, groups=tmp_path / name)
        return begin(ColorizeConfig(pictures, tmp_path / "run", data, compute=ComputeConfig()))

    run = started("a.csv", "Negative/2.png,x\nNegative/3.png,x\n")
    assert "1 images are exact copies of others" in capsys.readouterr().out
    group = {image.file: image.group for image in run.images}
    assert group["Negative/0.png"] == group["Negative/1.png"]
    assert len(set(group.values())) == 14
    for fold in run.folds:
        assert not {group[f] for f in fold.train} & {group[f] for f in fold.test}
    started("b.csv", "Negative/3.png,x\nNegative/2.png,x\n")  # another file that says the same
    with pytest.raises(UserError, match=r"other --groups.*Negative/4\.png"):
        started("a.csv", "Negative/2.png,x\nNegative/3.png,x\nNegative/4.png,x\n")
