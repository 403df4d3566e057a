"""Names in figures: every script is drawn or replaced, without a warning, and none is longer than its place."""

from __future__ import annotations

import io

import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from rich.cells import cell_len

from leanet.report.labels import PLACEHOLDER, label, style

NAMES = ["葉_001.png", "잎.png", "ใบไม้", "😀", "a\nb\tc", "\udcff.png", "$a_$", "ℵ𝛼", "Blätter – ×", "\U000e0fff"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_any_name_is_drawn_without_a_warning(suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    figure = Figure(figsize=(6, 2 * len(NAMES)), layout="constrained")
    for axes, name in zip(figure.subplots(len(NAMES)), NAMES, strict=True):
        text = label(name, 28)
        axes.set_ylabel(text, **style(text))
        axes.set_title(text, **style(text))
    written = io.BytesIO()
    figure.savefig(written, format=suffix)
    assert written.tell() > 1000
    assert not caplog.records


def test_what_no_font_has_is_replaced_and_the_rest_is_kept() -> None:
    default = get_font(findfont("DejaVu Sans")).get_charmap()
    assert ord(PLACEHOLDER) in default
    assert label("Blätter – ΔE.png", 28) == "Blätter – ΔE.png"
    assert label("a\n\udcff\U000e0fff$_$.png", 28) == f"a{PLACEHOLDER * 3}$_$.png"
    assert style("Δ") == {"parse_math": False, "fontfamily": ["DejaVu Sans"]}


@pytest.mark.parametrize("name", ["x" * 80 + ".png", "葉" * 40 + ".png", "short.png"])
def test_a_long_name_keeps_its_ends(name: str) -> None:
    short = label(name, 28)
    assert cell_len(short) <= 28
    assert short.endswith(".png")
    assert (short == name) is (len(name) < 28)
