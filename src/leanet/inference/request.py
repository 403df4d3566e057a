"""What is sent to the service: read within limits, and never written to disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from leanet.settings import ServeConfig

HELD_REQUESTS = 8
"""Bodies of how many requests of the largest size may be held in memory at once."""


class Admission:
    """What is in the house now: images that wait, and bytes of bodies."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.images = 0
        self.bytes = 0

    def check_room(self) -> None:
        """Say that there is no room before a body is read for nothing."""
        if self.images >= self.config.queue:
            raise busy()

    @contextmanager
    def images_in(self, count: int) -> Iterator[None]:
        """Let images in, or say that there is no room."""
        if self.images + count > self.config.queue:
            raise busy()
        self.images += count
        try:
            yield
        finally:
            self.images -= count

    @contextmanager
    def bytes_in(self) -> Iterator[Callable[[int], None]]:
        """Give a function that counts bytes as they arrive, and forget them at the end."""
        held, limit = 0, self.config.max_megabytes * 1_000_000

        def count(more: int) -> None:
            nonlocal held
            held += more
            self.bytes += more
            if held > limit:
                raise HTTPException(413, f"the request is larger than {self.config.max_megabytes} MB")
            if self.bytes > HELD_REQUESTS * limit:
                raise busy()

        try:
            yield count
        finally:
            self.bytes -= held


class _InMemory(MultiPartParser):
    spool_max_size = 0  # never rolls over to a file: nothing that was sent touches the disk


async def within(seconds: float, status: int, detail: str, work: Any) -> Any:
    """Wait for some work; past the time, an HTTP error of this status."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise HTTPException(status, detail, {"Retry-After": "1"} if status == 503 else None) from None


async def read_files(
    request: Request, config: ServeConfig, count: Callable[[int], None]
) -> list[tuple[str, bytes]]:
    """Names and contents of what was sent: the body as it is, or the parts of a form.

    Args:
        request, config: what was sent, and the limits.
        count: told of the bytes as they arrive; may raise.
    Raises:
        HTTPException: too large, too many, none, or a form that cannot be read.
    """

    async def counted() -> AsyncIterator[bytes]:
        async for chunk in request.stream():
            count(len(chunk))
            yield chunk

    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return [("image", b"".join([chunk async for chunk in counted()]))]
    parser = _InMemory(request.headers, counted(), max_files=config.max_files, max_fields=16)  # type: ignore[arg-type]
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    except UnicodeError:
        raise HTTPException(400, "the form's charset is unknown or wrong") from None
    files = [
        (_printable(part.filename or "image"), await part.read())
        for _, part in form.multi_items()
        if isinstance(part, UploadFile)
    ]
    if not files:
        raise HTTPException(400, "no file in the form: send images as parts with a file name")
    return files


async def drain(request: Request, config: ServeConfig) -> None:
    """Read what still comes and forget it, so that the client is there to hear the answer."""
    try:
        async with asyncio.timeout(config.timeout):
            async for _ in request.stream():
                pass
    except Exception:  # gone, too slow, or read to its end already
        return


def _printable(name: str) -> str:
    return name[:255].encode("utf-8", "replace").decode("utf-8")


def busy() -> HTTPException:
    """The error that tells a client to come again."""
    return HTTPException(429, "too much is waiting; come again in a moment", {"Retry-After": "1"})
