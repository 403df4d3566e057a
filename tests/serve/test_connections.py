"""Connections that keep the service waiting are closed, and never stand in the way of the others."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from made import made
from starlette.requests import Request
from starlette.responses import Response

from leanet.config import ServeConfig
from leanet.serve import connections
from leanet.serve.connections import server_settings
from leanet.serve.service import make_app

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 30_000_000
EARLY = b"0001"


async def application(request: Request) -> Response:
    """Answers with as many bytes as the path says, once the body is there; with EARLY at once."""
    if request.url.path != f"/{EARLY.decode()}":
        await request.body()
    return Response(b"x" * int(request.url.path[1:] or 1))


def any_path() -> FastAPI:
    app = FastAPI()
    app.add_route("/{path:path}", application, methods=["GET", "POST"])
    return app


@contextlib.contextmanager
def running(app: FastAPI, seconds: float) -> Iterator[tuple[str, int]]:
    """Serve an application with so many seconds of patience; gives its address."""
    server, listening = uvicorn.Server(server_settings(app, seconds)), socket.socket()
    listening.bind(("127.0.0.1", 0))
    address: tuple[str, int] = listening.getsockname()
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield address
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[[float], tuple[str, int]]]:
    """Starts a server with so many seconds of patience; gives its address."""
    with contextlib.ExitStack() as servers:
        yield lambda seconds: servers.enter_context(running(any_path(), seconds))


@contextlib.contextmanager
def opened(address: tuple[str, int], first: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(first)
        yield connection


def closed(connection: socket.socket) -> bool:
    """Whether the other side has closed it, which is waited for; what had been sent before is passed over."""
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def trickle(connection: socket.socket) -> None:
    for _ in range(200):
        connection.sendall(b"x")
        time.sleep(0.05)


def answered(address: tuple[str, int]) -> bool:
    with opened(address, ASKED) as connection:
        return connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", ASKED + b"GET / HTT"])
def test_who_sends_no_whole_header_is_not_waited_for(serve: Callable[[float], Any], sent: bytes) -> None:
    with opened(serve(0.3), sent) as connection:
        assert closed(connection)


def test_a_header_that_trickles_is_not_waited_for(serve: Callable[[float], Any]) -> None:
    with opened(serve(0.3), b"GET / HTTP/1.1\r\nX: ") as connection, pytest.raises(ConnectionError):
        trickle(connection)


BODY_TO_COME = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"


def test_a_body_that_trickles_after_its_answer_is_not_waited_for(serve: Callable[[float], Any]) -> None:
    with opened(serve(0.3), BODY_TO_COME % EARLY) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionError):
            trickle(connection)


def test_how_long_a_body_may_take_is_left_to_the_application(serve: Callable[[float], Any]) -> None:
    with opened(serve(0.3), ASKED + BODY_TO_COME % b"") as connection:
        connection.settimeout(1)
        assert not closed(connection)
        connection.sendall(b"x" * 1000)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_who_does_not_take_the_answer_is_not_waited_for(serve: Callable[[float], Any]) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(serve(0.3))
        connection.sendall(f"GET /{LARGE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(1)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 20):
                taken += len(part)
    assert taken < LARGE


def test_an_answer_that_is_taken_is_given_whole_and_the_connection_kept(serve: Callable[[float], Any]) -> None:
    with opened(serve(2)) as connection:
        for _ in range(2):
            connection.sendall(f"GET /{LARGE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            taken = 0
            while taken < LARGE:
                part = connection.recv(1 << 20)
                assert part, "closed before the answer was whole"
                taken += len(part)


def test_however_many_connections_wait_others_are_answered(
    serve: Callable[[float], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST", 40)
    address = serve(20)
    with contextlib.ExitStack() as attack:
        first = (b"", BODY_TO_COME % b"", ASKED)
        many = [attack.enter_context(opened(address, first[n % 3])) for n in range(100)]
        assert all(answered(address) for _ in range(50))
        for connection in many:
            connection.settimeout(0.01)
        assert (
            sum(not closed(connection) for connection in many) <= 20
        )  # one client has no more than it leaves free


def asked(address: tuple[str, int], sent: bytes) -> bytes:
    """What is answered to a request that is never finished."""
    with opened(address, sent) as connection:
        return connection.recv(1 << 16)


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"


def test_a_body_has_one_length(serve: Callable[[float], Any]) -> None:
    address = serve(5)
    for version, more in ((b"1.1", b"Content-Length: 16\r\n"), (b"1.1", b"content-length: 1\r\n"), (b"1.0", b"")):
        with opened(
            address, b"POST / HTTP/%s\r\nHost: x\r\n%s%s%s" % (version, more, CHUNKED, ASKED)
        ) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
            assert closed(connection)
    assert asked(address, b"POST / HTTP/1.1\r\nHost: x\r\n" + CHUNKED).startswith(b"HTTP/1.1 200 ")


POST = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n"


def test_what_clients_do_wrong_is_told_to_them_alone_and_at_once(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = ServeConfig(Path("m"), max_megabytes=1)
    with running(make_app(made("CNN", "none", 1), config), config.timeout) as address:
        for wrong, status in (
            (b"\x16\x03\x01\r\n\r\n", b"400"),
            (POST + b"Content-Length: 1\r\n" + CHUNKED, b"400"),
            (POST + b"Content-Length: 1000001\r\n\r\n", b"413"),
            (POST + b"Content-Length: 1000001\r\nExpect: 100-continue\r\n\r\n", b"413"),
            (POST + b"Transfer-Encoding: chunked\r\n\r\nf4241\r\n" + b"x" * 1_000_001, b"413"),
            (POST + b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 3\r\n\r\nxyz", b"400"),
            (b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"200"),
        ):
            assert asked(address, wrong).startswith(b"HTTP/1.1 " + status)
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")


def test_a_client_that_sends_all_before_it_listens_hears_why_it_was_refused() -> None:
    config = ServeConfig(Path("m"), max_megabytes=1)
    all_of_it = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE
    with running(make_app(made("CNN", "none", 1), config), 30) as address, opened(address, all_of_it) as connection:
        heard = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert heard.startswith(b"HTTP/1.1 413 ")
    assert heard.endswith(b'{"detail":"the request is larger than 1 MB"}')
