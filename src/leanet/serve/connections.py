"""Connections to the service: limits on number per client, content and time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from leanet.serve.request import client_of

MOST = 512
"""Most open connections: half of the usual limit on a process's open files."""

HEADER_SECONDS = 10.0
"""Seconds for a request's header to arrive after the connection or the previous answer."""


def server_settings(app: FastAPI, seconds: float) -> uvicorn.Config:
    """Uvicorn's settings for an application; clients must receive an answer within `seconds`."""

    class Patient(_Connection):
        answer_seconds = seconds
        header_seconds = min(seconds, HEADER_SECONDS)

    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    return uvicorn.Config(
        app,
        http=Patient,
        ws="none",
        log_level="error",  # warnings depend on clients' input, and a client could fill the disk with them
        lifespan="on",
        timeout_graceful_shutdown=5,
        server_header=False,
        headers=[("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")],
    )


class _OneLength(h11.Connection):
    """Refuses a request with Transfer-Encoding beside Content-Length, or in HTTP/1.0.

    A proxy may use the other length and take the rest of the body for the next client's request.
    """

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            if b"transfer-encoding" in names and (b"content-length" in names or event.http_version < b"1.1"):
                raise h11.RemoteProtocolError("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
        return event


class _Connection(H11Protocol):
    """A uvicorn connection, closed if the client sends no header or does not receive the answer in time.

    The service itself limits the time for the body, with status 408.
    """

    answer_seconds: float
    header_seconds: float
    _patience: asyncio.TimerHandle | None = None

    def __init__(self, config: uvicorn.Config, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self.conn = _OneLength(h11.SERVER)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._client = client_of(self.client[0] if self.client else "")
        self._wait_for_header()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience:
            self._patience.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_header()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait(self.answer_seconds)

    def _wait_for_header(self) -> None:
        self._waits_since = self.loop.time()
        unsent = self.transport.get_write_buffer_size()
        self._wait(self.answer_seconds if unsent else self.header_seconds)

    def _wait(self, seconds: float) -> None:
        if self._patience:
            self._patience.cancel()
        self._patience = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        in_progress = self.cycle is not None and not self.cycle.response_complete
        if self.flow.write_paused or not in_progress:
            self.transport.abort()  # close() would first send the rest

    def _make_room(self) -> None:
        """Close the client's longest-waiting connection if it holds more connections than it leaves free.

        A connection waits until its request has arrived; one whose request is being answered is never closed.
        """
        there = [c for c in self.connections if isinstance(c, _Connection) and not c.transport.is_closing()]
        own = [c for c in there if c._client == self._client]
        if len(own) > MOST - len(there):
            waiting = [c for c in own if c.cycle is None or c.cycle.response_complete or c.cycle.more_body]
            min(waiting, key=lambda c: c._waits_since).transport.abort()
