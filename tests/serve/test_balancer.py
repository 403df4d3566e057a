"""The service behind a balancer: its state, numbers and log, its end, and several models."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from made import pictures
from PIL import Image
from serving import numbers
from test_service import Broken, Stuck, png, send

from leanet.config import ServeConfig
from leanet.errors import UserError
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.model import Model, load
from leanet.serve.connections import server_settings
from leanet.serve.ending import EndingServer
from leanet.serve.models import named_models
from leanet.serve.service import make_app
from leanet.serve.watch import LONGEST_PATH

pytestmark = pytest.mark.usefixtures("tiny_networks")

SMALL = png(Image.new("RGB", (8, 8)))
CONFIG = ServeConfig(Path("m"))


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load(tiny_model)


def test_what_is_answered_is_counted(model: Model) -> None:
    with TestClient(make_app(model, ServeConfig(Path("m"), max_megabytes=1))) as client:
        send(client, ("a.png", SMALL), ("b.png", SMALL))
        send(client, ("a.png", b"nothing"))
        client.post("/v1/predict", content=b"x" * 1_000_001)
        client.get("/no/such/path")
        client.request("PROPFIND", "/health")
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = numbers(response.text)
    for labels, count in (
        ("POST,/v1/predict,200", 1),
        ("POST,/v1/predict,422", 1),
        ("POST,/v1/predict,413", 1),
        ("GET,other,404", 1),
        ("other,/health,405", 1),
    ):
        assert found[f"leanet_requests_total{{{labels}}}"] == count, labels
    assert found["leanet_request_seconds_count{/v1/predict}"] == 3
    assert found["leanet_refused_total{413}"] == 1
    assert found["leanet_refused_total{429}"] == found["leanet_queue_images{}"] == 0
    assert found["leanet_batch_images_sum{m}"] == 2


def test_images_that_wait_are_counted_until_they_are_answered() -> None:
    stuck = Stuck()
    with TestClient(make_app(stuck, CONFIG)) as client, ThreadPoolExecutor() as pool:
        waiting = pool.submit(send, client, ("a.png", SMALL), ("b.png", SMALL))
        assert stuck.asked.acquire(timeout=30)
        assert numbers(client.get("/metrics").text)["leanet_queue_images{}"] == 2
        stuck.go.set()
        assert waiting.result(30).status_code == 200
        assert numbers(client.get("/metrics").text)["leanet_queue_images{}"] == 0


def test_an_error_of_ours_is_counted() -> None:
    with TestClient(make_app(Broken(), CONFIG), raise_server_exceptions=False) as client:
        send(client, ("a.png", SMALL))
        assert numbers(client.get("/metrics").text)["leanet_requests_total{POST,/v1/predict,500}"] == 1


def test_the_numbers_need_the_token_and_the_state_does_not(model: Model) -> None:
    with TestClient(make_app(model, CONFIG, "open sesame")) as client:
        assert client.get("/metrics").status_code == client.get("/v1/models").status_code == 401
        assert client.get("/metrics", headers={"Authorization": "Bearer open sesame"}).status_code == 200
        assert client.get("/ready").json() == {"status": "ready"}
        assert client.get("/health").status_code == 200


def test_a_request_is_a_line_of_the_log(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    with TestClient(make_app(model, ServeConfig(Path("m"), access_log=True))) as client:
        send(client, ("a.png", SMALL))
        client.get("/" + "%0A" * 300)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(first) == ["time", "client", "method", "path", "status", "seconds", "bytes"]
    assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/predict", 200)
    assert first["bytes"] > 0 < first["seconds"]
    assert second["path"] == "/" + "\n" * (LONGEST_PATH - 1)


def test_nothing_is_logged_unless_asked(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    with TestClient(make_app(model, CONFIG)) as client:
        client.get("/health")
    assert capsys.readouterr().out == ""


# ---- Several models


@pytest.fixture(scope="module")
def two(model: Model) -> Mapping[str, AnomalyModel]:
    """Two models with the opposite decision."""
    return {"strict": model.with_threshold(1.0), "lenient": model.with_threshold(0.0)}


def test_a_model_is_chosen_by_name(two: Mapping[str, AnomalyModel]) -> None:
    picture = png(next(pictures()))
    with TestClient(make_app(two, CONFIG)) as client:
        assert client.get("/v1/models").json() == {"default": "strict", "models": ["strict", "lenient"]}
        for path, decision in (("", "normal"), ("/models/strict", "normal"), ("/models/lenient", "anomalous")):
            (found,) = client.post(f"/v1{path}/predict", content=picture).json()["results"]
            assert found["decision"] == decision, path
        assert client.get("/v1/model").json() == client.get("/v1/models/strict").json()
        assert client.get("/v1/models/lenient").json()["threshold"] == 0
        assert client.get("/v1/models/lenient").json()["name"] == "lenient"


def test_an_unknown_model_is_answered_with_the_names(two: Mapping[str, AnomalyModel]) -> None:
    with TestClient(make_app(two, CONFIG)) as client:
        for answer in (client.get("/v1/models/tile"), client.post("/v1/models/tile/predict", content=SMALL)):
            assert answer.status_code == 404
            assert answer.json() == {"detail": "no model 'tile' here; there is strict, lenient"}


def test_models_are_named_by_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tile.v2.onnx").touch()
    (tmp_path / "x=y").mkdir()
    (tmp_path / "current").symlink_to("x=y")
    given = [Path(name) for name in ("leaf", "tile.v2.onnx", "old=tile.v2.onnx", "x=y", "current")]
    assert named_models(ServeConfig(given[0], more=tuple(given[1:]))) == {
        "leaf": given[0],
        "tile.v2": given[1],
        "old": Path("tile.v2.onnx"),
        "x=y": given[3],
        "current": given[4],
    }
    for first, second, told in (
        ("a/leaf", "b/leaf", "b/leaf: a/leaf has the name 'leaf' already. Give one of them another: NAME=b/leaf"),
        ("leaf", "two words=b", "two words=b: expected NAME=MODEL"),
        ("leaf", "b=", "b=: expected NAME=MODEL"),
    ):
        with pytest.raises(UserError, match=told):
            named_models(ServeConfig(Path(first), more=(Path(second),)))


# ---- The end


@contextlib.contextmanager
def running(model: AnomalyModel, seconds: float = 30) -> Iterator[tuple[EndingServer, str, threading.Thread]]:
    """A server in a thread; yields it, its address and the thread."""
    app = make_app(model, CONFIG)
    ready = threading.Event()
    server = EndingServer(server_settings(app, 30), app.state.door, seconds, ready.set)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            assert ready.wait(30)
            yield server, f"http://127.0.0.1:{listening.getsockname()[1]}", thread
        finally:
            server.should_exit = server.force_exit = True
            thread.join(30)


def test_answers_in_progress_are_finished_and_new_requests_refused() -> None:
    stuck = Stuck()
    with running(stuck) as (server, address, thread), ThreadPoolExecutor() as pool:
        with httpx2.Client(base_url=address) as first, httpx2.Client(base_url=address) as second:
            assert second.get("/ready").status_code == 200
            waiting = pool.submit(first.post, "/v1/predict", content=SMALL)
            assert stuck.asked.acquire(timeout=30)
            server.should_exit = True  # what a signal does
            while (answer := second.get("/ready")).status_code == 200:
                time.sleep(0.01)
            assert answer.status_code == 503
            refused = second.post("/v1/predict", content=SMALL)  # on a new connection
            assert (refused.status_code, refused.headers["Connection"]) == (503, "close")
            assert refused.json()["detail"].startswith("the service is ending")
            assert second.get("/health").status_code == 200
            assert thread.is_alive()
            stuck.go.set()
            assert waiting.result(30).status_code == 200
        thread.join(30)
        assert not thread.is_alive()


def test_an_answer_that_takes_too_long_is_not_waited_for() -> None:
    stuck = Stuck()
    with running(stuck, seconds=0) as (server, address, thread), ThreadPoolExecutor() as pool:
        with httpx2.Client(base_url=address) as client:
            pool.submit(client.post, "/v1/predict", content=SMALL)
            assert stuck.asked.acquire(timeout=30)
            server.should_exit = True
            while not server.servers or server.servers[0].is_serving():
                time.sleep(0.01)
            stuck.go.set()
        thread.join(30)
        assert not thread.is_alive()
