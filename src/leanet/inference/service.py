"""The HTTP service: what may be asked of a model, within which limits, and how it answers."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from leanet import __version__
from leanet.data.pixels import THREADS, UnreadableImageError, decode_bytes
from leanet.inference.answer import MapName, ModelInfo, Prediction, Predictions, model_info, prediction
from leanet.inference.batching import Batcher
from leanet.inference.exported import Predictor
from leanet.inference.predict_files import Loaded, at_even_steps, find_files, loaded
from leanet.inference.request import Admission, drain, read_files, within
from leanet.settings import ServeConfig

EXAMPLES = 12

MAPPED_FILES = 8
"""Images of one request that maps may be asked of: their answers wait in memory until they are fetched."""

SLOW = 408
"""Said of a request that took too long; what still comes of it is not waited for."""

PAGE = Path(__file__).with_name("page.html")
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
)


class Service:
    """What stands behind the routes: a model with its queue, and the limits of what may be asked of it."""

    def __init__(self, model: Predictor, config: ServeConfig) -> None:
        self.model, self.config = model, config
        self._admission, self._batcher = Admission(config), Batcher(model)
        self._decoders = ThreadPoolExecutor(THREADS, "decode")

    @asynccontextmanager
    async def running(self, _app: object) -> AsyncIterator[None]:
        """Keep the queue at work, the model warmed up before the first request."""
        side = self.model.card.image_size
        work = asyncio.create_task(self._batcher.run())
        await self._batcher.predict(np.zeros((side, side, 3), np.uint8), (side, side), paint=True)
        yield
        work.cancel()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    async def predict(self, request: Request, maps: Sequence[MapName]) -> JSONResponse:
        """Read a request within its limits, and answer it."""
        timeout = self.config.timeout
        try:
            with self._admission.bytes_in() as count:
                self._admission.check_room()
                arriving = read_files(request, self.config, count)
                files = await within(timeout, SLOW, "the request took too long", arriving)
                if maps and len(files) > MAPPED_FILES:
                    raise HTTPException(400, f"maps of at most {MAPPED_FILES} images a request")
                with self._admission.images_in(len(files)):
                    work = self._answers(files, maps)
                    results = await within(timeout, 503, "no answer in time; try again", work)
        except ClientDisconnect:
            return JSONResponse({"detail": "the client left"}, 400)
        except HTTPException as error:
            if error.status_code != SLOW:
                await drain(request, self.config)
            raise
        status = 422 if all(r.error for r in results) else 200
        return JSONResponse(Predictions(results=results).model_dump(), status)

    async def _answers(self, files: list[tuple[str, bytes]], maps: Sequence[MapName]) -> list[Prediction]:
        async with asyncio.TaskGroup() as group:  # where one fails, none goes on after its place is given up
            tasks = [group.create_task(self._answer(data, name, maps)) for name, data in files]
        return [task.result() for task in tasks]

    async def _answer(self, data: bytes, name: str, maps: Sequence[MapName]) -> Prediction:
        loop, card = asyncio.get_running_loop(), self.model.card
        limit = self.config.max_megapixels * 1_000_000
        try:
            image = await loop.run_in_executor(self._decoders, _load, data, card.image_size, limit)
        except UnreadableImageError as error:
            return Prediction(file=name, error=f"not a readable image ({error.reason})")
        result = await self._batcher.predict(image.pixels, image.size, paint="recoloured" in maps)
        return await loop.run_in_executor(self._decoders, prediction, name, result, image, card, maps)


def make_app(
    model: Predictor, config: ServeConfig, token: str | None = None, hosts: Sequence[str] = ("*",)
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        model: what to ask; warmed up before the first request.
        config: names, limits and examples; host and port are not used.
        token: the secret that requests must bear; None: everyone may ask.
        hosts: names that requests may call this machine by; '*' is any.
    """
    service, examples = Service(model, config), example_files(config.examples)
    app = FastAPIOffline(
        title="leanet",
        version=__version__,
        summary="Which picture is not right, where, and how sure to be.",
        lifespan=service.running,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    guarded = [Depends(_bearer(token))]

    @app.exception_handler(RequestValidationError)
    async def bad_parameter(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][1]}: {first['msg']}"}, 400)

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the service is up."""
        return {"status": "ok"}

    @app.get("/v1/model", dependencies=guarded)
    async def describe_model() -> ModelInfo:
        """Tell what model this is, and within which limits it may be asked."""
        return model_info(model.card, config)

    @app.get("/v1/examples", dependencies=guarded, include_in_schema=False)
    async def list_examples() -> list[str]:
        """Names of the images that the page offers."""
        return [file.name for file in examples]

    @app.get("/v1/examples/{number}", dependencies=guarded, include_in_schema=False)
    async def example(number: int) -> FileResponse:
        """One of these images, counted from 0."""
        if not 0 <= number < len(examples) or not examples[number].is_file():
            raise HTTPException(404, "no such example")
        return FileResponse(examples[number])

    @app.post(
        "/v1/predict",
        dependencies=guarded,
        responses=_ANSWERS,
        openapi_extra={"requestBody": _REQUEST_BODY},
    )
    async def predict(
        request: Request,
        maps: Annotated[list[MapName] | None, Query(description="Pictures to add, PNG in base64.")] = None,
    ) -> JSONResponse:
        """Classify one image, sent as it is, or several as the parts of a form.

        Maps are PNGs in base64 at the model's size: `overlay` (RGBA, to be laid over the image), `anomaly_map`
        (16-bit grey, 200 levels for 1 ΔE), `recoloured`, `attention` (at its own, smaller size) and `input`.
        """
        return await service.predict(request, tuple(dict.fromkeys(maps or ())))

    return app


def example_files(folder: Path | None) -> list[Path]:
    """Up to a dozen images of a folder, at even steps, to offer on the page.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if folder is None:
        return []
    return at_even_steps(find_files([str(folder)]), EXAMPLES)


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": Predictions, "description": "At least one image was read."},
    422: {"model": Predictions, "description": "No image could be read."},
    400: {"description": "No form that can be read, too many files or maps, no such map, or an unknown host."},
    401: {"description": "The token is missing or wrong."},
    SLOW: {"description": "The request took too long to arrive."},
    413: {"description": "Too many bytes."},
    429: {"description": "Too much is waiting; come again after Retry-After seconds."},
    503: {"description": "No answer in time; come again after Retry-After seconds."},
}

_REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                "required": ["files"],
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}


def _bearer(token: str | None) -> Callable[..., None]:
    scheme = HTTPBearer(auto_error=False)

    def check(given: HTTPAuthorizationCredentials | None = Depends(scheme)) -> None:  # noqa: B008 - FastAPI's way
        if token is None:
            return
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})

    return check


def _load(data: bytes, side: int, max_pixels: int) -> Loaded:
    return loaded(decode_bytes(data, Path("image"), max_pixels), side)
