"""The page in a real browser: drop a file, see the map, move the slider; a wrong file is told in words.

With LEANET_SCREENSHOT, a file name, the picture for the README is written there.
"""

from __future__ import annotations

import base64
import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from serving import served

from leanet.cli import main
from leanet.data.synthetic import make_leaves

pytestmark = pytest.mark.slow

DROP = """([name, type, text]) => {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, {type}));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
}"""


@pytest.fixture(scope="module")
def leaves_and_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Synthetic leaves, and a model fitted to them."""
    home = tmp_path_factory.mktemp("page")
    make_leaves(home / "leaves", n_normal=80, n_anomalous=60, image_size=128, seed=5)
    options = ["--image-size", "128", "--colorizer-epochs", "8", "--epochs", "6", "--attention-point", "3"]
    assert main(["fit", str(home / "leaves"), "--out", str(home / "leaf-model"), *options]) == 0
    return home / "leaves", home / "leaf-model"


@pytest.fixture(scope="module")
def page(leaves_and_model: tuple[Path, Path]) -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no browser: `make test-all` installs chromium"
    leaves, model = leaves_and_model
    with served(model, "--examples", str(leaves / "test")) as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900}, accept_downloads=True)
        page.set_default_timeout(30_000)
        elsewhere: list[str] = []
        page.on(
            "request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else elsewhere.append(r.url)
        )
        page.goto(address)
        yield page
        assert not elsewhere, "the page asked another server"
        browser.close()


def drop(page: Page, name: str, content: bytes, kind: str = "image/png") -> None:
    page.evaluate(DROP, [name, kind, base64.b64encode(content).decode()])


def test_drop_see_the_map_and_move_the_slider(page: Page, leaves_and_model: tuple[Path, Path]) -> None:
    file = sorted(leaves_and_model[0].rglob("test/spot/*.png"))[0]
    drop(page, "spotted.png", file.read_bytes())
    card = page.locator(".card", has_text="spotted.png")
    expect(card.locator(".badge")).to_have_text("▲ anomalous")
    card.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    for picture in ("image", "overlay", "recoloured", "attention"):
        page.wait_for_selector(f"#{picture}[src]")
        expect(page.locator(f"#{picture}")).to_have_js_property("complete", True)
        assert page.locator(f"#{picture}").evaluate("image => image.naturalWidth") > 0
    before = page.locator("#stage").screenshot()
    page.locator("#strength").focus()
    page.keyboard.press("Home")
    expect(page.locator("#overlay")).to_have_css("opacity", "0")
    assert page.locator("#stage").screenshot() != before
    page.keyboard.press("End")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).not_to_be_visible()


def test_a_wrong_file_is_told_in_words(page: Page) -> None:
    drop(page, "notes.txt", b"no picture", "text/plain")
    expect(page.locator(".card", has_text="notes.txt").locator(".error")).to_contain_text("not a readable image")


def test_a_picture_the_browser_cannot_show_is_shown(page: Page, tmp_path: Path) -> None:
    Image.new("CMYK", (60, 40), (90, 9, 90, 9)).save(tmp_path / "a.tif")
    drop(page, "print.tif", (tmp_path / "a.tif").read_bytes(), "image/tiff")
    picture = page.locator(".card", has_text="print.tif").locator("img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128


def test_examples_sorting_and_the_table(page: Page, tmp_path: Path) -> None:
    page.locator("#clear").click()
    expect(page.locator(".card")).to_have_count(0)
    examples = page.locator("#examples button")
    expect(examples.nth(9)).to_be_visible()
    for i in range(10):
        examples.nth(i).click()
    expect(page.locator("#status")).to_contain_text("10 images")
    page.locator("#sort").select_option("low")
    with page.expect_download() as download:
        page.locator("#csv").click()
    download.value.save_as(tmp_path / "predictions.csv")
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    probabilities = [float(row["probability"]) for row in rows]
    assert len(rows) == 10
    assert probabilities == sorted(probabilities)
    page.locator("#sort").select_option("high")
    if screenshot := os.environ.get("LEANET_SCREENSHOT"):
        page.locator(".card").first.click()
        page.wait_for_selector("#attention[src]")
        page.wait_for_timeout(500)
        page.screenshot(path=screenshot)
