"""Connections to the service: how many one client may open, and how long each may keep the service waiting."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from leanet.inference.request import client_of

MOST = 512
"""Open connections, half of the files that systems commonly let a process open."""

HEADER_SECONDS = 10.0
"""For a request's header to arrive, from the connection or from the answer before on."""


def patient(seconds: float) -> type[asyncio.Protocol]:
    """Connections as uvicorn has them, whose clients have to take an answer within so many seconds."""

    class Patient(_Connection):
        answer_seconds = seconds
        header_seconds = min(seconds, HEADER_SECONDS)

    return Patient


class _Connection(H11Protocol):
    """uvicorn's connection, given up where the client does not send a header, or does not take what it asked for.

    How long the body may take is the service's affair, which answers 408.
    """

    answer_seconds: float
    header_seconds: float
    _patience: asyncio.TimerHandle | None = None

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
            self.transport.abort()  # close() would wait until all is sent

    def _make_room(self) -> None:
        """Let each client hold as many connections as it leaves free; past that, its longest wait ends.

        A connection waits until a request has arrived whole, so that what is being answered is never given up.
        """
        there = [c for c in self.connections if isinstance(c, _Connection) and not c.transport.is_closing()]
        own = [c for c in there if c._client == self._client]
        if len(own) > MOST - len(there):
            waiting = [c for c in own if c.cycle is None or c.cycle.response_complete or c.cycle.more_body]
            min(waiting, key=lambda c: c._waits_since).transport.abort()
