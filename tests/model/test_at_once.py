"""A model that several threads ask at once answers as it does alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from made import pictures

from leanet.data import threads
from leanet.model.load import load


@pytest.mark.parametrize("form", ["folder", "onnx"])
def test_threads_get_the_answers_of_their_own_pictures(form: str, folder: Path, exported_onnx: Path) -> None:
    path = folder if form == "folder" else exported_onnx
    before = torch.get_num_threads()
    some = list(pictures())
    alone = load(path).predict(some)
    try:
        model = load(path, at_once=3)
        assert model.at_once == 3
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(model.predict, some * 3))
    finally:
        torch.set_num_threads(before)
    for result, expected in zip(found, alone * 3, strict=True):
        assert result.probability == pytest.approx(expected.probability, abs=1e-5)
        assert result.anomaly_map is not None
        assert expected.anomaly_map is not None
        np.testing.assert_allclose(result.anomaly_map, expected.anomaly_map, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000\n", 5), ("200000 100000\n", 2), ("250000 100000\n", 3), ("1000 100000\n", 1), ("nonsense", 5)],
)
def test_a_containers_limit_counts(
    text: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(5)), raising=False)
    (tmp_path / "cpu.max").write_text(text)
    assert threads.processors(tmp_path / "cpu.max") == expected
    assert threads.processors(tmp_path / "none") == 5
