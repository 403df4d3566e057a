"""The attention point that `benchmarks.results` reports on is chosen by what was held out of the training."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import results
from leanet.cli import parse
from leanet.config import ColorizeConfig, DataConfig
from leanet.files import write_csv

Line = tuple[str, ...]
HEADER = ("p_rate", "attention", "attention_point", "metric", "mean", "low", "high")


def study(out: Path, lines: list[Line]) -> argparse.Namespace:
    write_csv(out / "report" / "study.csv", HEADER, lines)
    named = {
        "dataset": Path("d"),
        "out": out,
        "p_rate": "0.05",
        "validation": "0.3",
        "cross_fit": "0",
        "attention": "published",
    }
    return argparse.Namespace(**named, image_size="128", seed="0", groups=None, aspect=None, max_per_class=None)


@pytest.fixture(autouse=True)
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that would have been given: nothing is trained."""
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(results, "call", lambda *command: commands.append(command))
    return commands


def test_a_point_that_is_given_has_the_maps_of_the_options_that_are_given(
    tmp_path: Path, called: list[tuple[str, ...]]
) -> None:
    given = study(tmp_path, [])
    given.attention_point, given.groups, given.max_per_class = "4", "groups.csv", "400"
    assert results.known_point(given) == "4"
    verb, *options = called[0]
    config = parse(verb, options)
    assert isinstance(config, ColorizeConfig)
    assert (config.dataset, config.out) == (Path("d"), tmp_path)
    assert config.data == DataConfig(groups=Path("groups.csv"), max_per_class=400, image_size=128)


def test_neither_test_images_nor_another_form_or_share_of_anomalies_have_a_say(tmp_path: Path) -> None:
    lines: list[Line] = [("0.05", "", "", "auroc", "0.99", "", "")]
    for point, unseen, test, at_all in (
        ("1", "0.91", "0.97", "0.9"),
        ("2", "0.95", "0.92", "0.8"),
        ("3", "0.94", "0.99", "0.99"),
    ):
        lines += [
            ("0.05", "published", point, "auroc_held_out", unseen, "", ""),
            ("0.05", "published", point, "auroc", test, "", ""),
        ]
        lines += [("1", "published", point, "auroc_held_out", at_all, "", "")]
        lines += [("0.05", "affine", point, "auroc_held_out", at_all, "", "")]
    assert results.choose_point(study(tmp_path, lines)) == "2"


def test_where_nothing_was_held_out_no_point_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--validation 0\.3"):
        results.choose_point(study(tmp_path, [("0.05", "published", "1", "auroc", "0.99", "", "")]))
