"""The page in a real browser, at a desk and on a phone: what it shows, keeps, says and gives away."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import made
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright
from serving import served

import leanet
from leanet.cli import main
from leanet.data.synthetic import make_leaves
from leanet.model.model import load, save

pytestmark = pytest.mark.slow

DROP = """files => {
  const data = new DataTransfer();
  for (const [name, text] of files)
    data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
}"""

PHONE = (390, 844)

Opener = Callable[..., Page]


@pytest.fixture(scope="module")
def leaves_and_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Synthetic leaves, and a model fitted to them."""
    home = tmp_path_factory.mktemp("page")
    make_leaves(home / "leaves", n_normal=80, n_anomalous=60, image_size=128, seed=5)
    options = ["--image-size", "128", "--colorizer-epochs", "8", "--epochs", "6", "--attention-point", "3"]
    assert main(["fit", str(home / "leaves"), "--out", str(home / "leaf-model"), *options]) == 0
    return home / "leaves", home / "leaf-model"


@pytest.fixture(scope="module")
def address(leaves_and_model: tuple[Path, Path]) -> Iterator[str]:
    leaves, model = leaves_and_model
    with served(model, "--examples", str(leaves / "test")) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no browser: `make test-all` installs chromium"
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Opener]:
    """Open the page in a browser that has never seen it; no other server may be asked, no script may fail."""
    wrong: list[str] = []
    contexts = []

    def open_page(size: tuple[int, int] = (1200, 900), address: str = address) -> Page:
        phone = size == PHONE
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, accept_downloads=True, has_touch=phone, is_mobile=phone
        )
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def drop(page: Page, *files: tuple[str, bytes]) -> None:
    page.evaluate(DROP, [[name, base64.b64encode(content).decode()] for name, content in files])


def spotted(leaves: Path, count: int) -> list[tuple[str, bytes]]:
    return [(f"spotted-{file.name}", file.read_bytes()) for file in sorted(leaves.rglob("test/spot/*.png"))[:count]]


def take_examples(page: Page, count: int) -> None:
    examples = page.locator("#examples button")
    expect(examples.nth(count - 1)).to_be_visible()
    for i in range(count):
        examples.nth(i).click()
    expect(page.locator("#status")).to_contain_text(f"{count} images:")


def card(page: Page, name: str) -> Locator:
    return page.locator(".card", has_text=name)


def table(page: Page, path: Path) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.locator("#csv").click()
    download.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def predictions(page: Page) -> list[str]:
    """The requests for predictions, as they are sent from now on."""
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/v1/predict" in request.url else None)
    return sent


def steepest(page: Page, name: str) -> int:
    """The largest step between neighbours in the canvas, or in a picture, over all channels."""
    return int(
        page.evaluate(
            """async name => {
              let canvas = document.getElementById(name);
              if (name !== "layer") {
                const image = new Image();
                image.src = "data:image/png;base64," + open.more[name];
                await image.decode();
                canvas = document.createElement("canvas");
                canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
                canvas.getContext("2d").drawImage(image, 0, 0);
              }
              const {data, width, height} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              let most = 0;
              for (let i = 0; i < data.length - 4 * width; i++) {
                if (i % (4 * width) < 4 * width - 4) most = Math.max(most, Math.abs(data[i] - data[i + 4]));
                most = Math.max(most, Math.abs(data[i] - data[i + 4 * width]));
              }
              return most;
            }""",
            name,
        )
    )


def test_drop_see_one_map_after_the_other_and_fade_it(opened: Opener, leaves_and_model: tuple[Path, Path]) -> None:
    page, model = opened(), leanet.load(leaves_and_model[1])
    leaves = spotted(leaves_and_model[0], 30)
    beyond = next(leaf for leaf in leaves if model.predict(leaf[1]).box)  # its map shows
    drop(page, beyond)
    expect(page.locator(".card .badge")).to_have_text("▲ anomalous")
    page.locator(".card").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    seen = []
    for label in ("Anomaly map", "Recolored", "Attention", "None"):
        page.get_by_role("radio", name=label).check()
        expect(page.locator("#layer")).to_be_visible(visible=label != "None")
        seen.append(page.locator("#stage").screenshot())
    assert len(set(seen)) == 4
    page.get_by_role("radio", name="Anomaly map").check()
    expect(page.locator("#layer")).to_be_visible()
    page.locator("#strength").focus()
    page.keyboard.press("Home")
    expect(page.locator("#layer")).to_have_css("opacity", "0")
    assert page.locator("#stage").screenshot() == seen[3]
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).not_to_be_visible()


def test_maps_are_smooth_where_they_had_blocks(opened: Opener, leaves_and_model: tuple[Path, Path]) -> None:
    page = opened()
    drop(page, *spotted(leaves_and_model[0], 1))
    page.locator("button.card").click()
    page.get_by_role("radio", name="Attention").check()
    expect(page.locator("#layer")).to_be_visible()
    blocks, smooth = steepest(page, "attention"), steepest(page, "layer")
    assert blocks > 50
    assert smooth < blocks / 10


def test_back_closes_the_image_and_forward_opens_it(opened: Opener, leaves_and_model: tuple[Path, Path]) -> None:
    page = opened()
    drop(page, *spotted(leaves_and_model[0], 2))
    expect(page.locator("#status")).to_contain_text("2 images:")
    detail = page.locator("#detail")
    page.locator("button.card").first.click()
    first = page.locator("#title").inner_text()
    page.locator("#next").click()
    expect(page.locator("#title")).not_to_have_text(first)
    page.go_back()
    expect(detail).not_to_be_visible()
    expect(page.locator(".card")).to_have_count(2)
    page.go_forward()
    expect(detail).to_be_visible()
    expect(page.locator("#title")).not_to_have_text(first)
    page.keyboard.press("Escape")
    expect(detail).not_to_be_visible()
    page.locator("button.card").first.click()
    page.locator("#close").click()
    expect(detail).not_to_be_visible()
    assert page.evaluate("history.state") is None


def test_results_survive_a_reload_without_asking_again(opened: Opener, tmp_path: Path) -> None:
    page = opened()
    take_examples(page, 3)
    drop(page, ("notes.txt", b"no picture"))
    expect(page.locator("#status")).to_contain_text("4 images:")
    page.locator("#slider").fill("0.25")
    before, counts = table(page, tmp_path / "before.csv"), page.locator("#status").inner_text()
    page.locator("button.card").first.click()
    page.get_by_role("radio", name="Attention").check()
    expect(page.locator("#layer")).to_be_visible()
    sent = predictions(page)
    page.reload()
    expect(page.locator("#detail")).to_be_visible()
    page.get_by_role("radio", name="Recolored").check()
    expect(page.locator("#layer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#status")).to_contain_text("4 images:")
    assert page.locator("#status").inner_text() == counts
    assert table(page, tmp_path / "after.csv") == before
    for image in page.locator(".frame img").all():
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert len(sent) == 1, "only what was not read is asked again"
    page.locator("#clear").click()
    expect(page.locator(".card")).to_have_count(0)
    page.reload()
    expect(page.locator("#examples button").first).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)


def test_a_browser_without_a_database_works_and_says_that_it_forgets(opened: Opener) -> None:
    page = opened()
    page.add_init_script("Object.defineProperty(window, 'indexedDB', {get() { throw new Error('refused'); }})")
    page.reload()
    take_examples(page, 2)
    expect(page.locator("#kept")).to_contain_text("after a reload, some are gone")
    page.locator("#clear").click()
    expect(page.locator(".card")).to_have_count(0)


def test_images_of_another_model_or_without_an_answer_are_asked_again(opened: Opener) -> None:
    page = opened()
    page.route("**/v1/predict**", lambda route: route.abort())
    page.locator("#examples button").first.click()
    expect(page.locator(".card .error")).to_contain_text("does not answer")
    page.unroute("**/v1/predict**")
    page.reload()
    expect(page.locator(".card .badge")).to_be_visible()

    def changed(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "threshold": 2.0})

    page.route("**/v1/model", changed)
    sent = predictions(page)
    page.reload()
    expect(page.locator(".card .badge")).to_have_text("● normal")
    assert len(sent) == 1


def test_what_a_limit_refused_is_asked_again_after_a_reload(
    opened: Opener, leaves_and_model: tuple[Path, Path]
) -> None:
    large = io.BytesIO()
    Image.new("RGB", (1500, 1000), "green").save(large, "PNG")
    with served(leaves_and_model[1], "--max-megapixels", "1") as (address, _):
        page = opened(address=address)
        drop(page, ("large.png", large.getvalue()))
        expect(page.locator(".card .error")).to_contain_text("1500 x 1000")
    with served(leaves_and_model[1], "--max-megapixels", "50", "--port", address.rpartition(":")[2]) as (same, _):
        assert same == address
        page.reload()
        expect(page.locator(".card .badge")).to_be_visible()


@pytest.mark.parametrize("status", [400, 408, 413, 500])
def test_what_is_refused_is_asked_again_after_a_reload(opened: Opener, status: int) -> None:
    page = opened()
    page.route("**/v1/predict**", lambda route: route.fulfill(status=status, json={"detail": "not today"}))
    page.locator("#examples button").first.click()
    expect(page.locator(".card .error")).to_have_text("not today")
    page.unroute("**/v1/predict**")
    page.reload()
    expect(page.locator(".card .badge")).to_be_visible()


def test_boxes_follow_the_threshold_as_those_of_predict_do(
    opened: Opener, tmp_path: Path, leaves_and_model: tuple[Path, Path]
) -> None:
    leaves, folder = leaves_and_model
    strict = load(folder).with_threshold(1.0)
    save(tmp_path / "strict", strict.card, strict.network, strict.maps)
    files = {name: leaves / "test" / "spot" / name.removeprefix("spotted-") for name, _ in spotted(leaves, 4)}
    expected = strict.with_threshold(0.0).predict(list(files.values()))
    boxes = {
        name: " ".join(map(str, result.box)) if result.box else ""
        for name, result in zip(files, expected, strict=True)
    }
    assert any(boxes.values())
    with served(tmp_path / "strict") as (address, _):
        page = opened(address=address)
        drop(page, *spotted(leaves, 4))
        expect(page.locator("#status")).to_contain_text("● 4 normal")
        assert not any(row["box"] for row in table(page, tmp_path / "own.csv"))
        page.locator("#exact").fill("0")
        assert {row["file"]: row["box"] for row in table(page, tmp_path / "moved.csv")} == boxes
        card(page, next(name for name, box in boxes.items() if box)).click()
        expect(page.locator("#box")).to_be_visible()


def test_a_picture_unlike_the_others_is_unfamiliar_whatever_the_threshold(browser: Browser, tmp_path: Path) -> None:
    make_leaves(tmp_path / "leaves", n_normal=24, n_anomalous=16, image_size=64, seed=3)
    options = ["--n-splits", "2", "--image-size", "64"]
    assert main(["fit", str(tmp_path / "leaves"), "--out", str(tmp_path / "head"), *options]) == 0
    stream = io.BytesIO()
    Image.effect_noise((80, 90), 90).convert("RGB").save(stream, "PNG")
    with served(tmp_path / "head") as (address, _):
        page = browser.new_page()
        page.goto(address)
        drop(page, ("noise.png", stream.getvalue()))
        expect(page.locator("#status")).to_contain_text("? 1 unfamiliar")
        page.locator("#exact").fill("0")
        expect(page.locator("#status")).to_contain_text("? 1 unfamiliar")
        card(page, "noise.png").click()
        expect(page.locator("#numbers")).to_contain_text("the model knows little about it")
        expect(page.locator("#box")).to_be_hidden()
        page.locator("#close").click()
        (row,) = table(page, tmp_path / "p.csv")
        assert (row["decision"], row["box"], float(row["unfamiliarity"]) > 98) == ("unfamiliar", "", True)
        page.close()


@pytest.mark.parametrize("wrong", ["5", "-3", "1.001"])
def test_a_threshold_that_is_no_probability_is_not_taken(opened: Opener, wrong: str) -> None:
    page = opened()
    take_examples(page, 2)
    exact = page.locator("#exact")
    exact.fill("0.25")
    exact.fill(wrong)
    exact.blur()
    expect(exact).to_have_value("0.25")
    page.reload()
    expect(page.locator("#status")).to_contain_text("2 images:")
    expect(exact).to_have_value("0.25")


def test_the_threshold_moves_counts_decisions_boxes_and_the_table(opened: Opener, tmp_path: Path) -> None:
    page = opened()
    take_examples(page, 10)
    given = table(page, tmp_path / "given.csv")
    own = page.locator("#exact").input_value()
    probabilities = sorted(float(row["probability"]) for row in given)
    between = [(low + high) / 2 for low, high in itertools.pairwise(probabilities) if high - low > 1e-4]
    for threshold in (between[0], between[-1], 0.0):
        page.locator("#exact").fill(f"{threshold:.6f}")
        anomalous = sum(p >= float(f"{threshold:.6f}") for p in probabilities)
        expect(page.locator("#status")).to_contain_text(f"▲ {anomalous} anomalous")
        expect(page.locator("#status")).to_contain_text(f"● {10 - anomalous} normal")
        expect(page.locator(".card .badge.anomalous")).to_have_count(anomalous)
        rows = table(page, tmp_path / "moved.csv")
        assert [row["decision"] for row in rows].count("anomalous") == anomalous
        assert not any(row["box"] for row in rows if row["decision"] == "normal")
        assert [row["probability"] for row in rows] == [row["probability"] for row in given]
    page.locator("#own").click()
    assert page.locator("#exact").input_value() == own
    assert table(page, tmp_path / "again.csv") == given
    page.locator("#slider").focus()
    page.keyboard.press("End")
    assert page.locator("#exact").input_value() == "1"


def test_without_probabilities_the_threshold_is_of_the_mean(
    opened: Opener, tmp_path: Path, leaves_and_model: tuple[Path, Path]
) -> None:
    some = made("CNN", "none", 1)
    card = replace(some.card, adn="", caan="none", attention_points=(), map_threshold=0.01)
    save(tmp_path / "map-only", card, None, some.maps)
    with served(tmp_path / "map-only") as (address, _):
        page = opened(address=address)
        drop(page, *spotted(leaves_and_model[0], 3))
        expect(page.locator("#status")).to_contain_text("▲ 3 anomalous")
        means = sorted(float(row["mean_delta_e"]) for row in table(page, tmp_path / "a.csv"))
        page.locator("#exact").fill("150")
        expect(page.locator("#status")).to_contain_text("● 3 normal")
        page.locator("#exact").fill("-3")
        expect(page.locator("#status")).to_contain_text("● 3 normal")
        page.locator("#exact").fill(f"{means[1] + 0.0001:.6f}")
        expect(page.locator("#status")).to_contain_text("▲ 1 anomalous")
        page.locator("#slider").focus()
        page.keyboard.press("End")
        assert float(page.locator("#exact").input_value()) == pytest.approx(means[-1], abs=0.005)
        page.locator("button.card").first.click()
        expect(page.locator("#verdict")).to_contain_text(f"mean ΔE {means[-1]:.2f}")
        expect(page.get_by_role("radio", name="Attention")).to_have_count(0)


def shape(place: Locator) -> float:
    found = place.bounding_box()
    assert found is not None
    return found["width"] / found["height"]


def odd_shapes() -> dict[str, bytes]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    files = {}
    for name, size, options in (
        ("wide.png", (400, 160), {}),
        ("tall.png", (90, 300), {}),
        ("turned.jpg", (320, 200), {"exif": turned}),
    ):
        stream = io.BytesIO()
        noise.resize(size).save(stream, "JPEG" if name.endswith("jpg") else "PNG", **options)
        files[name] = stream.getvalue()
    stream = io.BytesIO()
    noise.resize((210, 140)).convert("CMYK").save(stream, "TIFF")
    return {**files, "print.tif": stream.getvalue()}


@pytest.mark.parametrize("size", [(1200, 900), PHONE, (320, 568)])
def test_photographs_keep_their_shape(opened: Opener, size: tuple[int, int]) -> None:
    page = opened(size)
    files = odd_shapes()
    drop(page, *files.items())
    expect(page.locator("#status")).to_contain_text("4 images:")
    for name, content in files.items():
        width, height = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).size
        small = card(page, name).locator("img").first
        assert small.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert shape(small) == pytest.approx(width / height, rel=0.02)
        page.locator("button.card", has_text=name).click()
        expect(page.locator("#layer")).to_be_visible()
        assert shape(page.locator("#image")) == pytest.approx(width / height, rel=0.02)
        assert page.locator("#image").bounding_box() == page.locator("#layer").bounding_box()
        page.keyboard.press("Escape")
        expect(page.locator("#detail")).not_to_be_visible()


@pytest.mark.parametrize("size", [PHONE, (320, 568)])
def test_a_phone_has_two_columns_and_nothing_beside_the_screen(
    opened: Opener, size: tuple[int, int], leaves_and_model: tuple[Path, Path]
) -> None:
    page = opened(size)
    drop(page, *spotted(leaves_and_model[0], 4), ("a-long-name-" * 20 + ".png", b"no picture"))
    expect(page.locator("#status")).to_contain_text("5 images:")
    places = [found.bounding_box() for found in page.locator(".card").all()]
    assert len({place["x"] for place in places if place}) == 2
    inner = "[document.documentElement.scrollWidth, document.getElementById('detail').scrollWidth, innerWidth]"
    assert page.evaluate(inner)[0] == size[0]
    page.locator("button.card").first.click()
    assert page.evaluate(inner)[1:] == [size[0], size[0]]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("IMG_1.HEIC", b"\0\0\0\x18ftypheic" + bytes(99), r"^HEIC .* JPEG or PNG; .*Settings > Camera > "),
        ("renamed.jpg", b"\0\0\0\x18ftypmif1" + bytes(99), r"^HEIC .* Most Compatible\.$"),
        ("a.avif", b"\0\0\0\x1cftypavif" + bytes(99), r"^AVIF .* JPEG or PNG\.$"),
        ("DSC_1.NEF", b"II*\0" + bytes(99), r"^Camera raw .* JPEG or PNG\.$"),
        ("a.mov", b"\0\0\0\x14ftypqt  " + bytes(99), r"^Video "),
        ("scan.pdf", b"%PDF-1.7\n", r"^PDF .* JPEG or PNG\.$"),
        ("drawing.svg", b"<svg xmlns=''/>", r"^SVG "),
        ("notes.txt", b"no picture", r"^not a readable image .*Send a JPEG, PNG, "),
        ("empty.png", b"", r"^not a readable image \(empty file\)\.$"),
    ],
)
def test_what_cannot_be_read_is_answered_with_what_to_do(
    opened: Opener, name: str, content: bytes, told: str
) -> None:
    page = opened()
    drop(page, (name, content))
    expect(card(page, name).locator(".error")).to_have_text(re.compile(told))
    expect(page.locator("#status")).to_contain_text("1 not read")


@pytest.mark.parametrize("mark", [*"\u202e\u202a\u2066\u2069\u200e\u200f\u061c\u2028", "\x1b", "\x85"])
def test_a_name_is_shown_with_what_it_hides(
    opened: Opener, tmp_path: Path, leaves_and_model: tuple[Path, Path], mark: str
) -> None:
    page = opened()
    ((_, content),) = spotted(leaves_and_model[0], 1)
    name, seen = f"葉 {mark}gpj.exe.png", f"葉 \\u{ord(mark):04x}gpj.exe.png"
    drop(page, (name, content))
    expect(page.locator("#status")).to_contain_text("1 image:")
    page.locator("button.card").click()
    for place in (page.locator(".card .name"), page.locator("#title")):
        expect(place).to_have_text(seen)
        expect(place).to_have_attribute("title", seen)
    page.keyboard.press("Escape")
    assert mark not in page.locator("body").inner_text()
    (row,) = table(page, tmp_path / "predictions.csv")
    assert row["file"] == name


def test_the_table_is_safe_to_open_in_a_spreadsheet(
    opened: Opener, tmp_path: Path, leaves_and_model: tuple[Path, Path]
) -> None:
    page = opened()
    ((_, content),) = spotted(leaves_and_model[0], 1)
    plain = ["two\nlines.png", 'a,"b".png', "ü葉.png"]
    unsafe = ['=HYPERLINK("x").png', "+1.png", "-2.png", "@a.png", "\tx.png", "'=x.png", "＝葉.png"]
    drop(page, *((name, content) for name in plain + unsafe))
    expect(page.locator("#status")).to_contain_text("10 images:")
    page.locator("#sort").select_option("given")
    found = [row["file"] for row in table(page, tmp_path / "predictions.csv")]
    assert found == plain + ["'" + name for name in unsafe]


def test_examples_sorting_and_the_table(opened: Opener, tmp_path: Path) -> None:
    page = opened()
    take_examples(page, 10)
    page.locator("#sort").select_option("low")
    rows = table(page, tmp_path / "predictions.csv")
    probabilities = [float(row["probability"]) for row in rows]
    assert len(rows) == 10
    assert probabilities == sorted(probabilities)
    page.locator("#sort").select_option("high")


def test_of_several_models_one_is_chosen(browser: Browser, exported_onnx: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "green").save(picture, "PNG")
    asked: list[str] = []
    with served(exported_onnx, f"second={exported_onnx}") as (address, _):
        context = browser.new_context()
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url.removeprefix(address).partition("?")[0]))
        page.goto(address)
        expect(page.get_by_label("Model")).to_have_value("m")
        page.evaluate(DROP, [["a.png", base64.b64encode(picture.getvalue()).decode()]])
        expect(page.locator("#status")).to_contain_text("1 image:")
        assert "/v1/models/m/predict" in asked
        page.get_by_label("Model").select_option("second")
        expect(page.locator("#about")).to_contain_text("Model second:")
        expect(page.locator("#status")).to_contain_text("1 image:")
        assert asked.count("/v1/models/second/predict") == 1
        page.reload()
        expect(page.get_by_label("Model")).to_have_value("second")
        expect(page.locator("#status")).to_contain_text("1 image:")
        assert asked.count("/v1/models/second/predict") == 1
        context.close()


def test_one_model_is_not_chosen(browser: Browser, exported_onnx: Path) -> None:
    with served(exported_onnx) as (address, _):
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("#about")).to_contain_text("Model m:")
        expect(page.locator("#choice")).to_be_hidden()
        page.close()


def test_labels_are_given_by_keys_and_kept_in_the_file(
    opened: Opener, leaves_and_model: tuple[Path, Path], tmp_path: Path
) -> None:
    leaves, model = leaves_and_model
    with served(model, "--labels", str(tmp_path / "labels.csv")) as (address, _):
        page = opened(address=address)
        drop(page, *spotted(leaves, 3))
        expect(page.locator("#status")).to_contain_text("3 images:")
        expect(page.locator("#drop")).to_contain_text("The server keeps the labels that you give, and no picture.")
        page.locator("button.card").first.focus()
        page.keyboard.press("Enter")
        called = []
        for key in "rwu":
            name = page.locator("#title").inner_text()
            decision = page.locator("#verdict .badge").inner_text().split()[-1]
            page.keyboard.press(key)
            expect(page.locator("#label button[aria-pressed=true]")).to_have_text(
                {"r": "Right", "w": "Wrong", "u": "Unsure"}[key]
            )
            other = {"normal": "anomalous", "anomalous": "normal"}[decision]
            called.append((name, {"r": decision, "w": other, "u": ""}[key]))
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        expect(card(page, called[0][0])).to_contain_text(f"labeled {called[0][1]}")
        with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
            assert [(row["file"], row["label"]) for row in csv.DictReader(file)] == called
        page.reload()
        expect(card(page, called[2][0])).to_contain_text("labeled unsure")
    page.locator("button.card").first.click()
    page.keyboard.press("w")
    expect(page.locator("#kept-label")).to_contain_text("does not answer")
    page.keyboard.press("Escape")


def test_without_the_option_no_label_is_asked_for(opened: Opener, leaves_and_model: tuple[Path, Path]) -> None:
    page = opened()
    drop(page, *spotted(leaves_and_model[0], 1))
    expect(page.locator("#drop")).to_contain_text("The server stores nothing.")
    page.locator("button.card").click()
    expect(page.locator("#label")).not_to_be_visible()
    page.keyboard.press("r")
    expect(page.locator("#detail")).to_be_visible()


def test_arrow_keys_go_through_the_gallery(opened: Opener) -> None:
    page = opened()
    take_examples(page, 3)
    cards = page.locator("button.card")
    cards.first.focus()
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(cards.nth(2)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(cards.nth(1)).to_be_focused()


def test_a_phone_offers_its_camera(opened: Opener, leaves_and_model: tuple[Path, Path]) -> None:
    page = opened(PHONE)
    expect(page.locator("#camera")).to_be_visible()
    assert page.locator("#shot").get_attribute("capture") == "environment"
    name, content = spotted(leaves_and_model[0], 1)[0]
    page.locator("#shot").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})
    expect(page.locator(".card .badge")).to_be_visible()
    desk = opened()
    expect(desk.locator("#camera")).not_to_be_visible()
