"""What every request passes: it is counted, timed and, by option, logged."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leanet.serve.ending import Door
from leanet.serve.metrics import Metrics

OTHER = "other"
"""The route of a path that the service does not have."""

LONGEST_PATH = 200
"""Characters of a path in the log, which the client chooses."""

METHODS = ("GET", "HEAD", "POST", "OPTIONS")


@dataclass(frozen=True)
class Answered:
    """One request, as a line of the log has it."""

    time: str
    client: str
    method: str
    path: str
    status: int
    seconds: float
    bytes: int


def log_line(answered: Answered) -> None:
    """Write a request as one line of JSON to standard output."""
    sys.stdout.write(json.dumps(asdict(answered)) + "\n")  # escapes everything but ASCII
    sys.stdout.flush()


class Watch:
    """Middleware that keeps count of requests.

    Args:
        app: the application.
        door: counts the requests inside.
        metrics: counts the answered ones.
        log: called with each request; None: no log.
    """

    def __init__(
        self, app: ASGIApp, door: Door, metrics: Metrics, log: Callable[[Answered], None] | None = None
    ) -> None:
        self._app, self._door, self._metrics, self._log = app, door, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, sent = time.perf_counter(), 500, 0  # an error of ours has sent nothing here

        async def counted(message: Message) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            await send(message)

        self._door.inside += 1
        try:
            await self._app(scope, receive, counted)
        finally:
            self._door.inside -= 1
            self._tell(scope, status, time.perf_counter() - started, sent)

    def _tell(self, scope: Scope, status: int, seconds: float, sent: int) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self._metrics.answered(getattr(scope.get("route"), "path", OTHER), method, status, seconds)
        if self._log:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            client = scope.get("client") or ("", 0)
            path = scope["path"][:LONGEST_PATH]
            self._log(Answered(now, client[0], method, path, status, round(seconds, 4), sent))
