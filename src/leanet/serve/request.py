"""Requests to the service: attribute them to clients, read them within limits, never write them to disk."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from leanet.config import ServeConfig

HELD_REQUESTS = 8
"""Most maximum-size request bodies in memory at once."""

T = TypeVar("T")

ClientFlow: TypeAlias = tuple[str, int]
"""A client and the size class of its requests."""


def client_of(host: str) -> str:
    """The client of an address: the address itself or, with IPv6, its /64 network, which one machine may own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a Unix socket, or a test
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(address), 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


def flow_of(request: Request, size: int) -> ClientFlow:
    """The flow of a request: its client and size class (within a factor of 4).

    The size matters because many people may share an address, behind a proxy or in an office.
    """
    return client_of(request.client.host if request.client else ""), size.bit_length() // 2


@dataclass(eq=False)
class _Holding:
    flow: ClientFlow
    amount: int
    scope: asyncio.Timeout


class Share:
    """A limited resource that requests hold until they are answered.

    If it runs out, the client that holds most loses the latest request of its largest flow, with status 429. A new
    client therefore always gets a share. A request may take all that is free, within its own limits.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self._holdings: list[_Holding] = []

    @asynccontextmanager
    async def held_by(self, flow: ClientFlow, amount: int = 0) -> AsyncIterator[Callable[[int], None]]:
        """Hold an amount within a context; yield a function that takes more.

        Raises:
            HTTPException: 429, from the context or the function: the resource ran out, or this request lost its
                share.
        """
        try:
            async with asyncio.timeout(None) as scope:
                holding = _Holding(flow, 0, scope)
                self._holdings.append(holding)
                try:
                    self._take(holding, amount)
                    yield functools.partial(self._take, holding)
                finally:
                    self._release(holding)
        except TimeoutError:
            raise busy() from None

    def _take(self, holding: _Holding, more: int) -> None:
        if self.held and (missing := self.held + more - self.limit) > 0:
            for other in self._who_gives_way(holding.flow, more, missing):
                self._release(other)
                other.scope.reschedule(asyncio.get_running_loop().time())
        holding.amount += more
        self.held += more

    def _who_gives_way(self, flow: ClientFlow, more: int, missing: int) -> list[_Holding]:
        """The requests to drop until enough is free, each the latest one of the client that holds most."""
        stay, gone = [other for other in self._holdings if other.amount], []
        clients, flows = Counter({flow[0]: more}), Counter({flow: more})  # first, and so chosen in a tie
        for other in stay:
            clients[other.flow[0]] += other.amount
            flows[other.flow] += other.amount
        while missing > 0:
            client = max(clients, key=lambda one: clients[one])
            most = max((one for one in flows if one[0] == client), key=lambda one: flows[one])
            if most == flow:
                raise busy()
            latest = next(other for other in reversed(stay) if other.flow == most)
            stay.remove(latest)
            gone.append(latest)
            clients[client] -= latest.amount
            flows[most] -= latest.amount
            missing -= latest.amount
        return gone

    def _release(self, holding: _Holding) -> None:
        if holding in self._holdings:
            self._holdings.remove(holding)
            self.held -= holding.amount


class Admission:
    """The current load: bytes of bodies, pixels waiting for decoding, images waiting for prediction."""

    def __init__(self, config: ServeConfig) -> None:
        self._max_megabytes = config.max_megabytes
        self.bytes = Share(HELD_REQUESTS * config.max_megabytes * 1_000_000)
        self.pixels = Share(config.queue_megapixels * 1_000_000)
        self.images = Share(config.queue)

    @asynccontextmanager
    async def bytes_in(self, request: Request) -> AsyncIterator[Callable[[int], None]]:
        """Yield a function that counts a request's bytes as they arrive; release them at the end.

        Raises:
            HTTPException: 413, at once from the header or later from the function; 429 as in `Share`.
        """
        declared = request.headers.get("content-length", "")
        self._check_size(size := int(declared) if declared.isdecimal() else 0)
        async with self.bytes.held_by(flow_of(request, size)) as take:
            arrived = 0

            def count(more: int) -> None:
                nonlocal arrived
                arrived += more
                self._check_size(arrived)
                take(more)

            yield count

    def _check_size(self, size: int) -> None:
        if size > self._max_megabytes * 1_000_000:
            raise HTTPException(413, f"the request is larger than {self._max_megabytes} MB")


class _InMemory(MultiPartParser):
    spool_max_size = 0  # never rolls over to a file: no upload touches the disk
    ended = False

    def on_end(self) -> None:  # called at the closing boundary of the form
        self.ended = True


async def within(seconds: float, status: int, detail: str, work: Awaitable[T]) -> T:
    """Wait for work; after the time limit, raise an HTTP error with this status."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise HTTPException(status, detail, None if status == 408 else {"Retry-After": "1"}) from None


async def while_there(request: Request, work: Awaitable[T]) -> T:
    """Wait for work on a request that was read; cancel it if the client disconnects.

    Raises:
        ClientDisconnect: the client disconnected.
    """

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def read_files(
    request: Request, config: ServeConfig, count: Callable[[int], None]
) -> list[tuple[str, bytes]]:
    """Names and contents of the uploaded files: the body itself, or the parts of a form.

    Args:
        request, config: the request and the limits.
        count: called with the number of bytes as they arrive; may raise.
    Raises:
        HTTPException: too large a request, too many files or none, or a form that is unreadable or ends early.
    """

    async def counted() -> AsyncIterator[bytes]:
        async for chunk in request.stream():
            count(len(chunk))
            yield chunk

    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        return [("image", b"".join([chunk async for chunk in counted()]))]
    parser = _InMemory(request.headers, counted(), max_files=config.max_files, max_fields=16)  # type: ignore[arg-type]
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    except UnicodeError:
        raise HTTPException(400, "the form's charset is unknown or wrong") from None
    if not parser.ended:
        raise HTTPException(400, "the form ends early: its closing boundary is missing")
    files = [
        (_printable(part.filename or "image"), await part.read())
        for _, part in form.multi_items()
        if isinstance(part, UploadFile)
    ]
    if not files:
        raise HTTPException(400, "no file in the form: send images as parts with a file name")
    return files


class Refusal(JSONResponse):
    """An error, sent at once; the rest of the request is read and dropped.

    Closing the connection while the client sends would reset it, and the client would not get the answer.
    """

    def __init__(self, error: HTTPException, request: Request, config: ServeConfig) -> None:
        super().__init__({"detail": error.detail}, error.status_code, error.headers)
        self._request, self._seconds = request, config.timeout

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await self._drain()
        await send({"type": "http.response.body", "body": b""})

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                async for _ in self._request.stream():
                    pass
        except (ClientDisconnect, TimeoutError, RuntimeError):  # gone, too slow, or already read
            return


def _printable(name: str) -> str:
    return name[:255].encode("utf-8", "replace").decode("utf-8")


def busy() -> HTTPException:
    """The error that asks a client to retry."""
    return HTTPException(429, BUSY, {"Retry-After": "1"})


BUSY = "the service is busy; try again in a moment"
