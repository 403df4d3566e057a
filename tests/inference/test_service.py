"""The HTTP service answers as the model does, keeps its limits, and says no more than it must."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient
from made import made, pictures
from numpy.typing import NDArray
from PIL import Image

from leanet.cli import main
from leanet.inference.model import load
from leanet.inference.request import Admission
from leanet.inference.result import Result
from leanet.inference.serve import read_token
from leanet.inference.service import PAGE, Service, make_app
from leanet.settings import ServeConfig


def png(picture: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, options.pop("format", "PNG"), **options)
    return stream.getvalue()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def send(client: TestClient, *files: tuple[str, bytes], query: str = "", **options: Any) -> Any:
    return client.post("/v1/predict" + query, files=[("files", file) for file in files], **options)


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    config = ServeConfig(folder, max_files=8, max_megabytes=3, max_megapixels=1, queue=8)
    with TestClient(make_app(load(folder), config), raise_server_exceptions=False) as client:
        yield client


def test_answers_are_the_models_whichever_way_images_are_sent(client: TestClient, folder: Path) -> None:
    model, some = load(folder), list(pictures())[:4]
    expected = model.predict(some)
    together = send(client, *((f"{i}.png", png(p)) for i, p in enumerate(some))).json()["results"]
    alone = [client.post("/v1/predict", content=png(p), headers={"Content-Type": "image/png"}) for p in some]
    for i, (e, t, response) in enumerate(zip(expected, together, alone, strict=True)):
        (a,) = response.json()["results"]
        assert t["file"] == f"{i}.png"
        for found in (t, a):
            assert found["probability"] == pytest.approx(e.probability, abs=1e-5)
            assert found["decision"] == e.decision
            assert found["mean_delta_e"] == pytest.approx(e.mean_delta_e, abs=1e-3)
            assert (found["box"] and tuple(found["box"])) == e.box
            assert found["error"] is found["maps"] is found["note"] is None


def test_maps_come_as_pngs_on_request(client: TestClient, folder: Path) -> None:
    picture = next(pictures())
    query = "?maps=anomaly_map&maps=overlay&maps=recoloured&maps=attention&maps=input"
    (found,) = send(client, ("a.png", png(picture)), query=query).json()["results"]
    expected = load(folder).predict(picture)
    maps = {name: opened(text) for name, text in found["maps"].items()}
    np.testing.assert_allclose(np.asarray(maps["anomaly_map"]) / 200, expected.anomaly_map, atol=0.01)
    np.testing.assert_allclose(np.asarray(maps["recoloured"]).astype(int), expected.recoloured, atol=1)
    assert maps["overlay"].mode == "RGBA"
    assert maps["attention"].size == expected.attention.shape[::-1]
    np.testing.assert_array_equal(np.asarray(maps["input"]), picture)
    refused = send(client, ("a.png", png(picture)), query="?maps=secrets")
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("maps: Input should be 'overlay'")


def test_a_broken_file_does_not_stop_the_others(client: TestClient) -> None:
    good, broken = png(next(pictures())), png(next(pictures()))[:200]
    mixed = send(client, ("good.png", good), ("broken.png", broken), ("empty.png", b""))
    assert mixed.status_code == 200
    assert [r["error"] is None for r in mixed.json()["results"]] == [True, False, False]
    alone = send(client, ("broken.png", broken))
    assert alone.status_code == 422
    assert alone.json()["results"][0]["error"].startswith("not a readable image (")


def unusual() -> dict[str, bytes]:
    grey = Image.fromarray((np.arange(64 * 64).reshape(64, 64) * 15).astype(np.uint16))
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green")]
    more = {"save_all": True, "append_images": frames[1:]}
    return {
        "1x1": png(Image.new("RGB", (1, 1), "green")),
        "20000x1": png(Image.new("RGB", (20_000, 1), "green")),
        "cmyk": png(Image.new("CMYK", (50, 40), (9, 90, 30, 0)), format="JPEG"),
        "16 bit": png(grey),
        "gif": png(frames[0], format="GIF", **more),
        "webp": png(frames[0], format="WEBP", lossless=True, **more),
    }


@pytest.mark.parametrize("kind", unusual())
def test_unusual_images_are_answered(client: TestClient, kind: str) -> None:
    response = send(client, (kind, unusual()[kind]))
    assert response.status_code == 200, response.text
    (found,) = response.json()["results"]
    assert found["note"] == ("the first of several frames or pages" if kind in ("gif", "webp") else None)


def test_limits_are_kept(client: TestClient) -> None:
    small = png(Image.new("RGB", (8, 8)))
    assert send(client, *[("a.png", small)] * 9).status_code == 400
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1000, 3), dtype=np.uint8)
    too_large = send(client, ("a.png", png(noise)))
    assert (too_large.status_code, too_large.json()["detail"]) == (413, "the request is larger than 3 MB")
    bomb = png(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    response = send(client, ("bomb.png", bomb))
    assert response.status_code == 422
    assert "the limit is 1 million" in response.json()["results"][0]["error"]
    tall = send(client, ("tall.png", png(Image.new("1", (1, 100_000)))))  # the resize would keep its height
    assert "the limit of a side is 65535" in tall.json()["results"][0]["error"]
    no_file = client.post("/v1/predict", files={"files": (None, "no file")})
    assert (no_file.status_code, no_file.json()["detail"][:19]) == (400, "no file in the form")
    assert (
        client.post("/v1/predict", content=b"x", headers={"Content-Type": "multipart/form-data"}).status_code == 400
    )


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded(client: TestClient) -> None:
    data = png(next(pictures()), format="JPEG", progressive=True)
    assert send(client, ("a.jpg", data)).status_code == 200
    last = data[data.rindex(b"\xff\xda") : data.rindex(b"\xff\xd9")]
    response = send(client, ("a.jpg", data[:-2] + last * 1000 + b"\xff\xd9"))
    assert "scans" in response.json()["results"][0]["error"]


def test_maps_are_given_of_a_few_images_only_and_each_once(client: TestClient) -> None:
    small = png(Image.new("RGB", (8, 8)))
    (found,) = send(client, ("a.png", small), query="?maps=overlay" + "&maps=overlay" * 50).json()["results"]
    assert list(found["maps"]) == ["overlay"]
    config = ServeConfig(Path("m"))
    with TestClient(make_app(made("CNN", "none", 1), config)) as other:
        assert send(other, *[("a.png", small)] * 9).status_code == 200
        refused = send(other, *[("a.png", small)] * 9, query="?maps=overlay")
    assert (refused.status_code, refused.json()["detail"]) == (400, "maps of at most 8 images a request")


@pytest.mark.parametrize("charset", ["undefined", "punycode", "utf-7", "nonsense"])
def test_a_strange_charset_is_no_error_of_ours(client: TestClient, charset: str) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="+2AA-"\r\n\r\nx\r\n--b--\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"}
    assert client.post("/v1/predict", content=body, headers=headers).status_code in (400, 422)


def test_other_names_of_this_machine_are_refused_where_hosts_are_given(folder: Path) -> None:
    app = make_app(load(folder), ServeConfig(folder), hosts=("localhost", "[::1]"))
    with TestClient(app, base_url="http://localhost:8000") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"Host": "[::1]:8000"}).status_code == 200
        assert client.get("/health", headers={"Host": "elsewhere.example"}).status_code == 400


class Stuck:
    """A model that waits until it is let go."""

    def __init__(self) -> None:
        self.inner = made("CNN", "none", 1)
        self.card = self.inner.card
        self.go, self.asked = threading.Event(), threading.Semaphore(0)
        self.warm = False

    def predict_pixels(
        self, images: Sequence[NDArray[np.uint8]], *, sizes: Any = None, paint: bool = False
    ) -> list[Result]:
        if self.warm:
            self.asked.release()
            assert self.go.wait(30)
        self.warm = True
        return self.inner.predict_pixels(images, sizes=sizes, paint=paint)


def test_past_the_queue_one_is_told_when_to_come_again() -> None:
    model, picture = Stuck(), ("a.png", png(Image.new("RGB", (8, 8))))
    config = ServeConfig(Path("m"), max_files=2, queue=2)
    with TestClient(make_app(model, config)) as client, ThreadPoolExecutor() as pool:
        first = pool.submit(send, client, picture, picture)
        assert model.asked.acquire(timeout=30)
        refused = send(client, picture)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert client.get("/health").status_code == 200
        model.go.set()
        assert first.result(30).status_code == 200
        assert send(client, picture).status_code == 200


def test_what_takes_too_long_is_answered_all_the_same() -> None:
    model = Stuck()
    with TestClient(make_app(model, ServeConfig(Path("m"), timeout=1))) as client:
        response = send(client, ("a.png", png(Image.new("RGB", (8, 8)))))
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        model.go.set()


def test_what_arrives_too_slowly_is_not_waited_for() -> None:
    scope = {"type": "http", "method": "POST", "headers": []}
    asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked > 1:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"x", "more_body": True}

    service = Service(made("CNN", "none", 1), ServeConfig(Path("m"), timeout=1))
    with pytest.raises(HTTPException) as refused:
        asyncio.run(service.predict(Request(scope, receive), ()))
    assert (refused.value.status_code, asked) == (408, 2)


def test_so_many_bytes_are_held_and_no_more() -> None:
    admission = Admission(ServeConfig(Path("m"), max_megabytes=1))
    with ExitStack() as requests:
        counts = [requests.enter_context(admission.bytes_in()) for _ in range(9)]
        for count in counts[:8]:
            count(1_000_000)
        with pytest.raises(HTTPException) as refused:
            counts[8](1)
    assert refused.value.status_code == 429
    assert admission.bytes == 0


class Broken(Stuck):
    def predict_pixels(
        self, images: Sequence[NDArray[np.uint8]], *, sizes: Any = None, paint: bool = False
    ) -> list[Result]:
        if self.warm:
            raise RuntimeError("secret of the house")
        self.warm = True
        return self.inner.predict_pixels(images, sizes=sizes, paint=paint)


def test_an_error_of_ours_is_not_told_and_not_the_end() -> None:
    with TestClient(make_app(Broken(), ServeConfig(Path("m"))), raise_server_exceptions=False) as client:
        for _ in range(2):
            response = send(client, ("a.png", png(Image.new("RGB", (8, 8)))))
            assert response.status_code == 500
            assert "secret" not in response.text


def test_nothing_that_was_sent_touches_the_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    assert len(png(noise)) > 2_000_000
    assert send(client, ("a.png", png(noise))).status_code == 200


def test_a_token_is_asked_for_where_there_is_one(folder: Path) -> None:
    with TestClient(make_app(load(folder), ServeConfig(folder), "open sesame")) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic b3BlbiBzZXNhbWU="}):
            assert client.get("/v1/model", headers=headers).status_code == 401
            assert client.post("/v1/predict", content=b"", headers=headers).status_code == 401
        right = {"Authorization": "Bearer open sesame"}
        assert client.get("/v1/model", headers=right).status_code == 200
        assert send(client, ("a.png", png(Image.new("RGB", (8, 8)))), headers=right).status_code == 200
        assert client.get("/health").status_code == client.get("/").status_code == 200


def test_the_model_is_described_without_paths(client: TestClient, folder: Path) -> None:
    found = client.get("/v1/model").json()
    assert (found["adn"], found["caan"], found["attention_points"]) == ("CNN", "Direct", [2])
    assert found["threshold"] == 0.3
    assert str(folder.parent) not in client.get("/v1/model").text


def test_examples_are_offered_by_number_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "a.png").write_bytes(png(next(pictures())))
    with TestClient(make_app(load(folder), ServeConfig(folder, examples=tmp_path))) as client:
        assert client.get("/v1/examples").json() == ["a.png"]
        assert client.get("/v1/examples/0").content == (tmp_path / "a.png").read_bytes()
        for other in ("1", "-1", "secret.txt", "..%2Fsecret.txt"):
            assert client.get(f"/v1/examples/{other}").status_code in (400, 404)
        assert client.get("/v1/examples/secret.txt").json()["detail"].startswith("number: ")


def test_the_pages_need_no_other_server(client: TestClient) -> None:
    assert not re.findall(r"https?://|//cdn", PAGE.read_text(encoding="utf-8"))
    assert "default-src 'none'" in client.get("/").headers["Content-Security-Policy"]
    docs = client.get("/docs").text
    local = re.findall(r'(?:src|href)="([^"]+)"', docs)
    assert local
    assert all(path.startswith("/") and client.get(path).status_code == 200 for path in local)


def test_the_description_of_the_api_has_what_is_answered(client: TestClient) -> None:
    answers = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["responses"]
    assert set(answers) == {"200", "400", "401", "408", "413", "422", "429", "503"}
    for status in ("200", "422"):
        assert answers[status]["content"]["application/json"]["schema"]["$ref"].endswith("/Predictions")


def test_mistakes_at_the_start_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def message(*arguments: str) -> str:
        assert main(["serve", *arguments]) == 2
        return capsys.readouterr().err

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "Address already in use" in message(str(folder), "--port", str(taken.getsockname()[1]))
    assert "0 to 65535" in message(str(folder), "--port", "70000")
    assert "--queue 4: at least 8" in message(str(folder), "--queue", "4", "--max-files", "8")
    assert "cannot listen" in message(str(folder), "--host", "a..b")
    assert "not a model folder" in message(str(tmp_path), "--port", "0")
    (tmp_path / "token").write_text("\n")
    assert "ASCII" in message(str(folder), "--port", "0", "--token-file", str(tmp_path / "token"))
    assert "cannot be read" in message(str(folder), "--port", "0", "--token-file", str(tmp_path / "none"))
    assert "no images in it" in message(str(folder), "--port", "0", "--examples", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "fastapi" else object())
    assert 'pip install -c constraints.txt -e ".[serve]"' in message(str(folder))


def test_a_token_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    assert read_token(tmp_path / "token") == "open sesame"
