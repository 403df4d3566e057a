"""The end of the service: answers in progress are finished, and new requests are sent elsewhere."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from fastapi import HTTPException


class Door:
    """How many requests are inside, and whether new ones are still let in."""

    def __init__(self) -> None:
        self.inside, self.ending = 0, False

    def check(self) -> None:
        """Raise HTTPException 503 if the service is ending; the client then closes the connection."""
        if self.ending:
            headers = {"Retry-After": "1", "Connection": "close"}
            raise HTTPException(503, "the service is ending; send the request to another one", headers)


class EndingServer(uvicorn.Server):
    """A server that listens until the requests inside are answered, so that new ones hear a 503.

    A signal begins the end. A second Ctrl-C ends at once.

    Args:
        config: uvicorn's settings.
        door: the application's.
        seconds: most seconds that the requests inside are waited for.
        on_ready: called once the port is open.
    """

    def __init__(
        self, config: uvicorn.Config, door: Door, seconds: float, on_ready: Callable[[], None] | None = None
    ) -> None:
        super().__init__(config)
        self._door, self._seconds, self._on_ready = door, seconds, on_ready
        self._until = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, once the application has started."""
        await super().startup(sockets)
        if self.started and self._on_ready:
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Whether to close the port and end."""
        if not await super().on_tick(counter):
            return False
        now = asyncio.get_running_loop().time()
        if not self._door.ending:
            self._door.ending, self._until = True, now + self._seconds
        return self.force_exit or not self._door.inside or now >= self._until
