"""Connections that keep the service waiting are closed, and never stand in the way of the others."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from leanet.inference import connections
from leanet.inference.connections import patient

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 30_000_000
EARLY = b"0001"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with as many bytes as the path says, once the body is there; with EARLY at once."""
    request = Request(scope, receive)
    if request.url.path != f"/{EARLY.decode()}":
        await request.body()
    await Response(b"x" * int(request.url.path[1:] or 1))(scope, receive, send)


@pytest.fixture
def serve() -> Iterator[Callable[[float], tuple[str, int]]]:
    """Starts a server with so many seconds of patience; gives its address."""
    with contextlib.ExitStack() as servers:

        def start(seconds: float) -> tuple[str, int]:
            config = uvicorn.Config(application, http=patient(seconds), lifespan="off", log_level="critical")
            server, listening = uvicorn.Server(config), socket.socket()
            listening.bind(("127.0.0.1", 0))
            address: tuple[str, int] = listening.getsockname()
            running = threading.Thread(target=server.run, args=([listening],))
            running.start()
            servers.callback(running.join)
            servers.callback(lambda: setattr(server, "should_exit", True))
            while not server.started:
                time.sleep(0.01)
            return address

        yield start


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
                taken += len(connection.recv(1 << 20))


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
