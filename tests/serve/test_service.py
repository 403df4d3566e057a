"""The HTTP service answers as the model does, keeps its limits, and says no more than it must."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from leanet.config import ServeConfig
from leanet.data.decode import Decoded, decode_bytes
from leanet.data.tiles import Tiling
from leanet.errors import UserError
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.load import load as load_any
from leanet.model.model import Model, load
from leanet.model.result import Result
from leanet.model.tiles import predict_tiled
from leanet.serve import service
from leanet.serve.request import Admission, Share, client_of
from leanet.serve.server import read_token
from leanet.serve.service import PAGE, Service, make_app

pytestmark = pytest.mark.usefixtures("tiny_networks")


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
def loaded(tiny_model: Path) -> Model:
    """The tiny model, loaded."""
    return load(tiny_model)


@pytest.fixture(scope="module")
def client(tiny_model: Path, loaded: Model) -> Iterator[TestClient]:
    config = ServeConfig(tiny_model, max_files=8, max_megabytes=3, max_megapixels=1, queue=8)
    with TestClient(make_app(loaded, config), raise_server_exceptions=False) as client:
        yield client


def test_answers_are_the_models_whichever_way_images_are_sent(client: TestClient, loaded: Model) -> None:
    some = list(pictures())[:4]
    expected = loaded.predict(some)
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
            if e.anomalous:
                assert found["region"] == found["box"]
            assert found["error"] is found["maps"] is found["note"] is None


def test_the_region_is_the_box_of_a_threshold_that_calls_the_image_anomalous(
    tiny_model: Path, loaded: Model
) -> None:
    noise, grey = list(pictures())[1], np.full((90, 120, 3), 90, np.uint8)
    strict, lenient = loaded.with_threshold(1.0), loaded.with_threshold(0.0)
    with TestClient(make_app(strict, ServeConfig(tiny_model))) as asked:
        found = send(asked, ("a.png", png(noise)), ("b.png", png(grey))).json()["results"]
    assert [one["decision"] for one in found] == ["normal", "normal"]
    assert [one["box"] for one in found] == [None, None]
    boxes = [result.box for result in lenient.predict([noise, grey])]
    assert boxes[0] is not None
    assert [one["region"] and tuple(one["region"]) for one in found] == boxes


def test_maps_come_as_pngs_on_request(client: TestClient, loaded: Model) -> None:
    picture = next(pictures())
    query = "?maps=anomaly_map&maps=overlay&maps=recoloured&maps=attention&maps=input"
    (found,) = send(client, ("a.png", png(picture)), query=query).json()["results"]
    expected = loaded.predict(picture)
    maps = {name: opened(text) for name, text in found["maps"].items()}
    np.testing.assert_allclose(np.asarray(maps["anomaly_map"]) / 200, expected.anomaly_map, atol=0.01)
    np.testing.assert_allclose(np.asarray(maps["recoloured"]).astype(int), expected.recoloured, atol=1)
    assert maps["overlay"].mode == "RGBA"
    assert maps["attention"].size == expected.attention.shape[::-1]
    np.testing.assert_array_equal(np.asarray(maps["input"]), picture)
    refused = send(client, ("a.png", png(picture)), query="?maps=secrets")
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("maps: Input should be 'overlay'")


@pytest.mark.parametrize("kind", ["folder", pytest.param("onnx", marks=pytest.mark.slow)])
def test_large_images_are_answered_by_tiles(tiny_model: Path, kind: str, request: pytest.FixtureRequest) -> None:
    model = load_any(tiny_model if kind == "folder" else request.getfixturevalue("exported_onnx"), at_once=2)
    large = np.random.default_rng(5).integers(0, 256, (70, 130, 3), dtype=np.uint8)
    large[20:40, 50:90] = (250, 0, 0)
    small, data = large[:60, :60], png(large)
    config = ServeConfig(tiny_model, max_megapixels=1, tile=64, overlap=0.5)
    expected = predict_tiled(model.with_threshold(0.0), large, Tiling(64, 0.5))
    query = "?maps=overlay&maps=anomaly_map&maps=input&maps=attention&maps=recoloured"
    with TestClient(make_app(model, config)) as client:
        assert client.get("/v1/model").json()["tile"] == 64
        sent = ("large.png", data), ("small.png", png(small)), ("broken.png", data[:-400]), ("none.png", data[:20])
        found = send(client, *sent, query=query).json()["results"]
    by_tiles, whole, broken, none = found
    assert by_tiles["probability"] == pytest.approx(expected.probability, abs=1e-5)
    assert (by_tiles["width"], by_tiles["height"]) == (130, 70)
    assert (by_tiles["region"] and tuple(by_tiles["region"])) == expected.box
    maps = {name: opened(text) for name, text in by_tiles["maps"].items()}
    assert expected.anomaly_map is not None
    np.testing.assert_allclose(np.asarray(maps["anomaly_map"]) / 200, expected.anomaly_map, atol=0.01)
    assert {name: shown.size for name, shown in maps.items()} == dict.fromkeys(
        ("overlay", "anomaly_map", "input"), (130, 70)
    )
    np.testing.assert_array_equal(np.asarray(maps["input"]), large)
    assert whole["probability"] == pytest.approx(model.predict(small).probability, abs=1e-5)
    assert whole["maps"].keys() == maps.keys() | {"attention", "recoloured"}
    assert all(one["error"].startswith("not a readable image (") for one in (broken, none))


def test_tiles_do_not_go_with_white_balance(loaded: Model, tiny_model: Path) -> None:
    balanced = dataclasses.replace(loaded, card=dataclasses.replace(loaded.card, white_balance="border"))
    with pytest.raises(UserError, match="--tile: the model has --white-balance border"):
        make_app(balanced, ServeConfig(tiny_model, tile=64))


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


def test_other_names_of_this_machine_are_refused_where_hosts_are_given(tiny_model: Path, loaded: Model) -> None:
    app = make_app(loaded, ServeConfig(tiny_model), hosts=("localhost", "[::1]"))
    with TestClient(app, base_url="http://localhost:8000") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"Host": "[::1]:8000"}).status_code == 200
        assert client.get("/health", headers={"Host": "elsewhere.example"}).status_code == 400


class Stuck(AnomalyModel):
    """A model that waits until it is let go."""

    def __init__(self) -> None:
        self.inner = made("CNN", "none", 1)
        self.card = self.inner.card
        self.go, self.asked = threading.Event(), threading.Semaphore(0)
        self.warm = False

    def predict_pixels(
        self,
        images: Sequence[NDArray[np.uint8]],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        paint: bool = False,
    ) -> list[Result]:
        if self.warm:
            self.wait()
        self.warm = True
        return self.inner.predict_pixels(images, anomaly_maps, sizes=sizes, paint=paint)

    def wait(self) -> None:
        self.asked.release()
        assert self.go.wait(30)


def test_past_the_queue_one_is_told_when_to_come_again() -> None:
    model, picture = Stuck(), ("a.png", png(Image.new("RGB", (8, 8))))
    config = ServeConfig(Path("m"), max_files=2, queue=2)
    with TestClient(make_app(model, config)) as client, ThreadPoolExecutor() as pool:
        first = pool.submit(send, client, picture, picture)
        assert model.asked.acquire(timeout=30)
        refused = send(client, picture, picture)
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

    slow = Service(made("CNN", "none", 1), ServeConfig(Path("m"), timeout=1))
    with pytest.raises(HTTPException) as refused:
        asyncio.run(slow.predict(Request(scope, receive), ()))
    assert (refused.value.status_code, asked) == (408, 2)


async def outcome(share: Share, client: str, amount: int, leave: asyncio.Event, size: int = 0) -> int:
    """Hold some until all may leave; gives the status."""
    try:
        async with share.held_by((client, size), amount):
            await leave.wait()
    except HTTPException as error:
        return error.status_code
    return 200


def test_where_there_is_no_room_whoever_holds_most_gives_way() -> None:
    async def act() -> None:
        share, leave = Share(100), asyncio.Event()

        async def ask(client: str, amount: int) -> asyncio.Task[int]:
            task = asyncio.create_task(outcome(share, client, amount, leave))
            await asyncio.sleep(0)
            return task

        early = [await ask("greedy", 20) for _ in range(5)]
        assert await (await ask("greedy", 20)) == 429  # it has most itself
        small = [await ask(f"client {number}", 10) for number in range(6)]
        assert share.held == 100
        assert [await task for task in early[2:]] == [429, 429, 429]  # the latest of the greedy
        assert await (await ask("another", 30)) == 429  # it would have most
        assert share.held == 100
        leave.set()
        assert [await task for task in (*early[:2], *small)] == [200] * 8
        assert share.held == 0
        assert await outcome(share, "alone", 500, leave) == 200  # an idle service takes any request

    asyncio.run(act())


def test_a_client_that_holds_most_in_requests_of_many_sizes_gives_way() -> None:
    async def act() -> None:
        share, leave = Share(100), asyncio.Event()

        async def ask(client: str, amount: int, size: int) -> asyncio.Task[int]:
            task = asyncio.create_task(outcome(share, client, amount, leave, size))
            await asyncio.sleep(0)
            return task

        many = [await ask("greedy", 10, size) for size in range(10)]
        honest = await ask("honest", 30, 5)  # more than any size of the greedy holds
        small = await ask("greedy", 1, 11)  # of its own client the size gives way that holds most
        assert share.held <= 100
        leave.set()
        assert [await honest, await small] == [200, 200]
        assert sorted([await task for task in many]) == [200] * 6 + [429] * 4

    asyncio.run(act())


def upload_of(host: str, declared: int) -> Request:
    headers = [(b"content-length", str(declared).encode())]
    return Request({"type": "http", "method": "POST", "headers": headers, "client": (host, 1)})


async def upload(admission: Admission, request: Request, arriving: int, leave: asyncio.Event) -> int:
    """Let so many bytes arrive and stay until all may leave; gives the status."""
    try:
        async with admission.bytes_in(request) as count:
            for _ in range(0, arriving, 100_000):
                count(100_000)
                assert admission.bytes.held <= admission.bytes.limit
            await leave.wait()
    except HTTPException as error:
        return error.status_code
    return 200


def test_bytes_are_held_within_limits_and_given_back() -> None:
    async def act() -> None:
        admission, leave = Admission(ServeConfig(Path("m"), max_megabytes=1)), asyncio.Event()
        assert await upload(admission, upload_of("192.0.2.1", 0), 1_100_000, leave) == 413
        large, small = upload_of("192.0.2.1", 1_000_000), upload_of("192.0.2.1", 100_000)
        full = [asyncio.create_task(upload(admission, large, 1_000_000, leave)) for _ in range(8)]
        await asyncio.sleep(0)
        few = [asyncio.create_task(upload(admission, small, 100_000, leave)) for _ in range(20)]
        await asyncio.sleep(0)
        leave.set()
        assert [await task for task in few] == [200] * 20
        assert sorted([await task for task in full]) == [200] * 6 + [429] * 2
        assert admission.bytes.held == 0

    asyncio.run(act())


@pytest.mark.parametrize("declared", [[1_000_000], [100_000 << size for size in range(4)]])
def test_half_sent_bodies_of_one_client_leave_room_for_a_larger_one_of_another(declared: list[int]) -> None:
    async def act() -> None:
        admission, leave = Admission(ServeConfig(Path("m"), max_megabytes=1)), asyncio.Event()
        attack = [
            asyncio.create_task(
                upload(admission, upload_of("192.0.2.1", declared[number % len(declared)]), 100_000, leave)
            )
            for number in range(100)
        ]
        await asyncio.sleep(0)
        assert admission.bytes.held == admission.bytes.limit
        photo = asyncio.create_task(upload(admission, upload_of("192.0.2.2", 800_000), 800_000, leave))
        await asyncio.sleep(0)
        leave.set()
        assert await photo == 200
        assert sorted([await task for task in attack]) == [200] * 72 + [429] * 28

    asyncio.run(act())


def test_a_body_too_large_by_its_header_is_refused_before_it_is_read(tiny_model: Path, loaded: Model) -> None:
    heard: list[str] = []

    async def receive() -> dict[str, Any]:
        heard.append("read")
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        heard.append(str(message.get("status", "body")))

    app = make_app(loaded, ServeConfig(tiny_model, max_megabytes=1))
    headers = [(b"host", b"x"), (b"content-length", b"1000001")]
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    assert heard == ["413", "body", "read", "body"]


FORM = b"".join(
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="%d.png"\r\n\r\n%s\r\n'
    % (number, png(Image.new("RGB", (8, 8))))
    for number in range(2)
)


@pytest.mark.parametrize("sent", [FORM, FORM[: len(FORM) // 2], FORM[: len(FORM) // 2 - 1], FORM + b"--b", b""])
def test_a_form_that_ends_early_is_refused_whole(client: TestClient, sent: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/predict", content=sent, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("the form ends early")
    for end in (b"--b--", b"--b--\r\nepilogue"):
        assert len(client.post("/v1/predict", content=FORM + end, headers=headers).json()["results"]) == 2
    empty = client.post("/v1/predict", content=b"--b--\r\n", headers=headers)
    assert (empty.status_code, empty.json()["detail"][:19]) == (400, "no file in the form")


def test_light_images_do_not_wait_for_heavy_ones_which_are_decoded_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, asked, at_once = threading.Event(), threading.Semaphore(0), 0

    def slow(data: bytes, name: Path, max_pixels: int) -> Decoded:
        nonlocal at_once
        decoded = decode_bytes(data, name, max_pixels)
        if decoded.pixels.size > 10_000:
            at_once += 1
            asked.release()
            assert go.wait(30)
            assert at_once == 1
            at_once -= 1
        return decoded

    monkeypatch.setattr(service, "HEAVY", 10_000)
    monkeypatch.setattr(service, "decode_bytes", slow)
    heavy, light = png(Image.new("RGB", (100, 100))), png(Image.new("RGB", (8, 8)))
    config = ServeConfig(Path("m"), max_megapixels=1)
    with TestClient(make_app(made("CNN", "none", 1), config)) as client, ThreadPoolExecutor() as pool:
        waiting = [pool.submit(send, client, ("heavy.png", heavy)) for _ in range(3)]
        assert asked.acquire(timeout=30)
        assert send(client, ("light.png", light)).status_code == 200
        assert send(client, ("bomb.png", png(Image.new("1", (1_001, 1_000))))).status_code == 422
        assert not any(future.done() for future in waiting)
        go.set()
        assert [future.result(30).status_code for future in waiting] == [200] * 3


def test_what_finds_no_thread_in_time_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def stuck(data: bytes, name: Path, max_pixels: int) -> Decoded:
        assert go.wait(30)
        return decode_bytes(data, name, max_pixels)

    monkeypatch.setattr(service, "decode_bytes", stuck)
    with TestClient(make_app(made("CNN", "none", 1), ServeConfig(Path("m"), timeout=1))) as client:
        answer = send(client, ("a.png", png(Image.new("RGB", (8, 8)))))
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        go.set()
        assert send(client, ("a.png", png(Image.new("RGB", (8, 8))))).status_code == 200


def test_when_the_client_leaves_its_images_are_given_up() -> None:
    image = png(Image.new("RGB", (8, 8)))
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": image, "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def act() -> int:
        asked = Service(model, ServeConfig(Path("m")))
        async with asked.running(None):
            scope = {"type": "http", "method": "POST", "headers": [], "client": ("192.0.2.1", 1)}
            response = await asked.predict(Request(scope, receive), ())
            model.go.set()
            return response.status_code

    model = Stuck()
    assert asyncio.run(act()) == 400
    assert not model.asked.acquire(blocking=False)


class Broken(Stuck):
    def wait(self) -> None:
        raise RuntimeError("secret of the house")


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


def test_a_token_is_asked_for_where_there_is_one(tiny_model: Path, loaded: Model) -> None:
    with TestClient(make_app(loaded, ServeConfig(tiny_model), "open sesame")) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic b3BlbiBzZXNhbWU="}):
            assert client.get("/v1/model", headers=headers).status_code == 401
            assert client.post("/v1/predict", content=b"", headers=headers).status_code == 401
        right = {"Authorization": "Bearer open sesame"}
        assert client.get("/v1/model", headers=right).status_code == 200
        assert send(client, ("a.png", png(Image.new("RGB", (8, 8)))), headers=right).status_code == 200
        assert client.get("/health").status_code == client.get("/").status_code == 200


def test_the_model_is_described_without_paths(client: TestClient, tiny_model: Path) -> None:
    found = client.get("/v1/model").json()
    assert (found["adn"], found["caan"], found["attention_points"]) == ("CNN", "Direct", [2])
    assert found["threshold"] == 0.3
    assert str(tiny_model.parent) not in client.get("/v1/model").text


def test_examples_are_offered_by_number_and_nothing_else(tiny_model: Path, loaded: Model, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "a.png").write_bytes(png(next(pictures())))
    with TestClient(make_app(loaded, ServeConfig(tiny_model, examples=tmp_path))) as client:
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
    description = client.get("/openapi.json").json()
    paths = description["paths"]
    answers = paths["/v1/predict"]["post"]["responses"]
    assert set(answers) == {"200", "400", "401", "408", "413", "422", "429", "503"}
    for status, answer in answers.items():
        body = "Predictions" if status in ("200", "422") else "Problem"
        assert answer["content"]["application/json"]["schema"]["$ref"] == f"#/components/schemas/{body}"
    assert "Retry-After" in answers["429"]["headers"].keys() & answers["503"]["headers"].keys()
    assert "WWW-Authenticate" in answers["401"]["headers"]
    assert set(paths["/v1/model"]["get"]["responses"]) == {"200", "400", "401"}
    assert {method for path in paths.values() for method in path} == {"get", "post"}
    assert description["components"]["schemas"]["Problem"]["properties"].keys() == {"detail"}


def test_head_is_answered_as_get_is_without_the_body(tiny_model: Path, loaded: Model, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(next(pictures())))
    config = ServeConfig(tiny_model, examples=tmp_path)
    paths = (
        "/",
        "/health",
        "/ready",
        "/v1/model",
        "/v1/models",
        "/v1/examples",
        "/v1/examples/0",
        "/docs",
        "/openapi.json",
    )
    with TestClient(make_app(loaded, config, "open sesame")) as client:
        for path in paths:
            for headers in ({}, {"Authorization": "Bearer open sesame"}):
                full, head = client.get(path, headers=headers), client.head(path, headers=headers)
                assert (head.status_code, head.content) == (full.status_code, b""), path
                assert head.headers["content-length"] == full.headers["content-length"], path
        assert client.head("/v1/predict").status_code == 405


def test_pages_of_other_sites_may_ask_where_that_is_wanted(tiny_model: Path, loaded: Model) -> None:
    ask = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    ask["Access-Control-Request-Headers"] = "authorization, content-type"
    allowed = "access-control-allow-origin"
    with TestClient(make_app(loaded, ServeConfig(tiny_model, cors_origin=("https://example.org",)))) as client:
        preflight = client.options("/v1/predict", headers=ask)
        assert (preflight.status_code, preflight.headers[allowed]) == (200, "https://example.org")
        answer = client.get("/v1/model", headers={"Origin": "https://example.org"})
        assert (answer.status_code, answer.headers[allowed]) == (200, "https://example.org")
        assert allowed not in client.get("/v1/model", headers={"Origin": "https://example.com"}).headers
    with TestClient(make_app(loaded, ServeConfig(tiny_model))) as client:
        assert client.options("/v1/predict", headers=ask).status_code == 405
        assert allowed not in client.get("/v1/model", headers={"Origin": "https://example.org"}).headers
    for wrong in ("example.org", "https://example.org/", "https://example.org/page", "https://*.org", ""):
        with pytest.raises(UserError, match="--cors-origin"):
            ServeConfig(tiny_model, cors_origin=(wrong,))


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data; boundary=b", "Multipart/Form-Data; Boundary=b", "MULTIPART/FORM-DATA ;BOUNDARY=b"],
)
def test_content_types_compare_without_case(client: TestClient, kind: str) -> None:
    body = b'--b\r\ncontent-disposition: Form-Data; Name="f"; FileName="a.png"\r\nCONTENT-TYPE: Image/PNG\r\n\r\n'
    body += png(Image.new("RGB", (8, 8))) + b"\r\n--b--\r\n"
    answer = client.post("/v1/predict", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["results"]
    assert (found["file"], found["error"]) == ("a.png", None)


def test_whom_an_address_counts_for() -> None:
    assert client_of("192.0.2.1") == client_of("::ffff:192.0.2.1") != client_of("192.0.2.2")
    assert client_of("2001:db8::1") == client_of("2001:db8::2:3:4:5") != client_of("2001:db8:0:1::1")
    assert client_of("fe80::1%eth0") == client_of("fe80::2")
    assert client_of("testclient") == "testclient"


def test_mistakes_at_the_start_are_one_line(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def message(*arguments: str) -> str:
        assert main(["serve", *arguments]) == 2
        return capsys.readouterr().err

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "Address already in use" in message(str(tiny_model), "--port", str(taken.getsockname()[1]))
    assert "0 to 65535" in message(str(tiny_model), "--port", "70000")
    assert "--workers 0: expected at least 1" in message(str(tiny_model), "--workers", "0")
    assert "has the name 'tiny' already" in message(str(tiny_model), "--port", "0", str(tiny_model))
    assert "--queue 4: expected at least 8" in message(str(tiny_model), "--queue", "4", "--max-files", "8")
    assert "cannot listen" in message(str(tiny_model), "--host", "a..b")
    assert "not a model folder" in message(str(tmp_path), "--port", "0")
    for rest in ((), ("--port", "0")):
        assert "--cors-origin: expected at least one value" in message(str(tiny_model), "--cors-origin", *rest)
    (tmp_path / "token").write_text("\n")
    assert "ASCII" in message(str(tiny_model), "--port", "0", "--token-file", str(tmp_path / "token"))
    assert "cannot be read" in message(str(tiny_model), "--port", "0", "--token-file", str(tmp_path / "none"))
    assert "no images in it" in message(str(tiny_model), "--port", "0", "--examples", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "fastapi" else object())
    assert 'pip install -c constraints.txt -e ".[serve]"' in message(str(tiny_model))


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "long", "binary"])
def test_a_token_file_that_is_none_is_named_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "token"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"a" * 5000 if kind == "long" else b"\xff\xfe")
    expected = {
        "folder": r"cannot be read \(Is a directory\)",
        "long": r"cannot be read \(larger than",
        "binary": "expected one line of ASCII characters",
    }.get(kind, r"cannot be read \(not a regular file\)")
    with pytest.raises(UserError, match=f"--token-file {path}: {expected}"):
        read_token(path)


def test_a_token_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    assert read_token(tmp_path / "token") == "open sesame"
