"""Labels given on the page: a file that several processes write in turn, and that no other service may write."""

from __future__ import annotations

import csv
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from leanet.cli import main
from leanet.config import ServeConfig
from leanet.errors import UserError
from leanet.model.model import load
from leanet.serve.labels import MOST_ROWS, Label, LabelFile
from leanet.serve.service import make_app

pytestmark = pytest.mark.usefixtures("tiny_networks")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def client(model: Path, labels: Path | None, **options: Any) -> TestClient:
    return TestClient(make_app(load(model), ServeConfig(model, labels=labels, **options)))


def test_labels_are_kept_and_replaced_by_name(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with client(tiny_model, path) as page:
        assert page.get("/v1/model").json()["takes_labels"]
        for file, label in (
            ("a.jpg", "normal"),
            ("=b.jpg", "anomalous"),
            ("c ä.jpg", "unsure"),
            ("a.jpg", "anomalous"),
        ):
            said = {"file": file, "label": label, "decision": "normal", "probability": 0.25}
            assert page.put("/v1/labels", json=said).status_code == 204
        told = {one["file"]: one["label"] for one in page.get("/v1/labels").json()["labels"]}
    assert told == {"a.jpg": "anomalous", "=b.jpg": "anomalous", "c ä.jpg": "unsure"}
    assert [(row["file"], row["label"]) for row in rows(path)] == [
        ("a.jpg", "anomalous"),
        ("'=b.jpg", "anomalous"),
        ("c ä.jpg", ""),
    ]
    assert LabelFile(path).read()["=b.jpg"].probability == 0.25


def test_without_the_option_there_are_no_labels(tiny_model: Path) -> None:
    with client(tiny_model, None) as page:
        assert not page.get("/v1/model").json()["takes_labels"]
        assert page.put("/v1/labels", json={"file": "a.jpg", "label": "normal"}).status_code == 404


@pytest.mark.parametrize(
    "said",
    [
        {"file": "../a.jpg", "label": "normal"},
        {"file": "a\\b.jpg", "label": "normal"},
        {"file": "a\nb.jpg", "label": "normal"},
        {"file": "a\u2028b.jpg", "label": "normal"},
        {"file": "a\x85b.jpg", "label": "normal"},
        {"file": "", "label": "normal"},
        {"file": "x" * 256, "label": "normal"},
        {"file": "a.jpg", "label": "good"},
        {"file": "a.jpg", "label": "normal", "probability": 2},
        {"label": "normal"},
        [],
    ],
)
def test_what_is_no_label_is_refused(tiny_model: Path, tmp_path: Path, said: Any) -> None:
    with client(tiny_model, tmp_path / "labels.csv") as page:
        assert page.put("/v1/labels", json=said).status_code == 400
    assert not (tmp_path / "labels.csv").exists()


def test_labels_need_the_token_and_no_other_site_may_send_them(tiny_model: Path, tmp_path: Path) -> None:
    config = ServeConfig(tiny_model, labels=tmp_path / "labels.csv", cors_origin=("*",))
    said = {"file": "a.jpg", "label": "normal"}
    with TestClient(make_app(load(tiny_model), config, token="secret")) as page:
        assert page.put("/v1/labels", json=said).status_code == 401
        assert page.get("/v1/labels").status_code == 401
        asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "PUT"}
        assert page.options("/v1/labels", headers=asked).status_code == 400


def test_processes_and_threads_lose_no_label(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    files = [LabelFile(path), LabelFile(path)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: files[i % 2].add(Label(file=f"{i}.jpg", label="normal")), range(40)))
    assert {row["file"] for row in rows(path)} == {f"{i}.jpg" for i in range(40)}


def test_a_second_service_is_refused(tmp_path: Path) -> None:
    path, refused = tmp_path / "labels.csv", list[str]()

    def second() -> None:
        with pytest.raises(UserError) as error, LabelFile(path).kept():
            pass
        refused.append(str(error.value))

    with LabelFile(path).kept():
        other = threading.Thread(target=second)
        other.start()
        other.join()
    assert str(path) in refused[0]
    assert "in use by" in refused[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.csv", "file,species\na.jpg,oak\n", "not a file of labels"),
        ("labels.csv", "file,label,decision,probability\na.jpg,normal\n", "not a file of labels"),
        ("labels.csv", "", "not a file of labels"),
        ("labels.csv", "\x00\xff", "not a file of labels"),
        ("labels.txt", None, "ends in .csv"),
        ("no/labels.csv", None, "no folder"),
    ],
)
def test_a_file_that_is_none_of_labels_is_refused_before_a_model_is_loaded(
    tiny_model: Path, tmp_path: Path, name: str, content: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="latin-1")
    assert main(["serve", str(tiny_model), "--labels", str(tmp_path / name)]) == 2
    assert said in capsys.readouterr().err


def test_a_full_file_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("file,label,decision,probability\n" + "".join(f"{i}.jpg,normal,,\n" for i in range(MOST_ROWS)))
    with client(tiny_model, path) as page:
        assert page.put("/v1/labels", json={"file": "a.jpg", "label": "normal"}).status_code == 507
        assert page.put("/v1/labels", json={"file": "7.jpg", "label": "anomalous"}).status_code == 204


def test_a_long_body_is_refused_and_not_read_without_the_token(tiny_model: Path, tmp_path: Path) -> None:
    config = ServeConfig(tiny_model, labels=tmp_path / "labels.csv")
    with TestClient(make_app(load(tiny_model), config)) as page:
        assert page.put("/v1/labels", content=b" " * 100_000).status_code == 413
    with TestClient(make_app(load(tiny_model), config, token="secret")) as page:
        assert page.put("/v1/labels", content=b" " * 100_000).status_code == 401


def test_a_file_that_is_spoilt_later_is_told(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with client(tiny_model, path) as page:
        path.write_text("spoilt")
        assert page.get("/v1/labels").status_code == 507
        assert page.put("/v1/labels", json={"file": "a.jpg", "label": "normal"}).status_code == 507
    assert path.read_text() == "spoilt"
