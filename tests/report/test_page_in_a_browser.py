"""The report in a real browser: it fits a telephone, has a dark mode, and enlarges no figure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, sync_playwright

from leanet.cli import main

pytestmark = pytest.mark.slow

OPTIONS = ["--image-size", "64", "--n-splits", "2", "--colorizer-epochs", "2", "--epochs", "2", "--compile", "off"]


@pytest.fixture(scope="module")
def report(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small run whose kind of anomaly has a long name without a blank."""
    home = tmp_path_factory.mktemp("report")
    shutil.copytree(leaves, home / "leaves")
    (home / "leaves" / "test" / "spot").rename(home / "leaves" / "test" / ("spot" * 30))
    (home / "leaves" / "ground_truth" / "spot").rename(home / "leaves" / "ground_truth" / ("spot" * 30))
    run = home / "run"
    assert main(["run", str(home / "leaves"), "--out", str(run), *OPTIONS]) == 0
    assert main(["report", str(run)]) == 0
    return run / "report" / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no browser: `make test-all` installs chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_is_as_wide_as_its_window(browser: Browser, report: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter(element =>
            !element.closest(".wide, .broad, pre") && element.getBoundingClientRect().right > innerWidth + 0.5
        ).map(element => element.outerHTML.slice(0, 80))"""
    )
    assert outside == []
    enlarged = page.evaluate("[...document.images].filter(i => i.clientWidth > i.naturalWidth).length")
    assert enlarged == 0
    page.close()


def test_the_dark_mode_has_light_text_and_figures_on_white(browser: Browser, report: Path) -> None:
    def lightness(scheme: Literal["light", "dark"]) -> list[float]:
        page = browser.new_page(color_scheme=scheme)
        page.goto(report.as_uri())
        found: list[float] = page.evaluate(
            """() => {
                const mean = colour => colour.match(/[0-9.]+/g).slice(0, 3).reduce((sum, v) => sum + v / 765, 0);
                const style = getComputedStyle(document.body);
                const figure = getComputedStyle(document.querySelector("figure img"));
                return [mean(style.backgroundColor), mean(style.color), mean(figure.backgroundColor)];
            }"""
        )
        page.close()
        return found

    paper, ink, _ = lightness("light")
    assert paper > 0.9
    assert ink < 0.2
    paper, ink, figure = lightness("dark")
    assert paper < 0.15
    assert ink > 0.8
    assert figure == 1
