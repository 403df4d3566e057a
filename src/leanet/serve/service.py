"""The HTTP service: its routes, limits and responses."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Query, Request, params
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from leanet import __version__
from leanet.config import ServeConfig
from leanet.data.decode import Cost, UnreadableImageError, cost_of, decode_bytes
from leanet.data.threads import THREADS
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.predict_files import Loaded, at_even_steps, find_files, loaded
from leanet.model.result import Result
from leanet.model.where import strength
from leanet.serve.answer import MapName, ModelInfo, Prediction, Predictions, Problem, model_info, prediction
from leanet.serve.lane import Flow, Lane, together
from leanet.serve.request import BUSY, Admission, Refusal, flow_of, read_files, while_there, within

EXAMPLES = 12

MAPPED_FILES = 8
"""Most images in a request with maps: their answers wait in memory until they are sent."""

BATCH = 16
"""Images in one batch of the model."""

HEAVY = 64_000_000
"""Above this many bytes (16 megapixels with 8 bits per channel), an image waits for the thread of heavy ones."""

SLOW = 408
"""Status of a request that took too long; the rest of it is not read."""

PAGE = Path(__file__).with_name("page.html")
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
)


@dataclass(frozen=True)
class _Asked:
    """An image that waits for the model, at the model's size."""

    image: Loaded
    paint: bool


class Service:
    """The state behind the routes: a model, its queues, and the limits."""

    def __init__(self, model: AnomalyModel, config: ServeConfig) -> None:
        self.model, self.config = model, config
        self._max_pixels = config.max_megapixels * 1_000_000
        self._admission = Admission(config)
        self._light: Lane[bytes, Loaded] = Lane("decode", self._decode, threads=THREADS)
        self._heavy: Lane[bytes, Loaded] = Lane("decode-heavy", self._decode, yielding=True)
        self._model: Lane[_Asked, Result] = Lane("predict", self._ask, batch=BATCH)

    @asynccontextmanager
    async def running(self, _app: object) -> AsyncIterator[None]:
        """Warm up the model, then keep the queues open."""
        side = self.model.card.image_size
        black = Loaded(
            np.zeros((side, side, 3), np.uint8), (side, side), first_of_several=False, broken_profile=False
        )
        first = await self._model.answer("warm-up", 1, _Asked(black, paint=True))
        if first.anomaly_map is not None:  # what draws boxes is imported when it is first used
            strength(first.anomaly_map, 1.0)
        yield
        for lane in (self._light, self._heavy, self._model):
            lane.close()

    async def predict(self, request: Request, maps: Sequence[MapName]) -> JSONResponse:
        """Read a request within its limits, and answer it."""
        try:
            async with self._admission.bytes_in(request) as count:
                arriving = read_files(request, self.config, count)
                files = await within(self.config.timeout, SLOW, "the request took too long", arriving)
                if maps and len(files) > MAPPED_FILES:
                    raise HTTPException(400, f"maps of at most {MAPPED_FILES} images a request")
                results = await while_there(request, self._answers(request, files, maps))
        except ClientDisconnect:
            return JSONResponse({"detail": "the client left"}, 400)
        except HTTPException as error:
            if error.status_code == SLOW:
                raise
            return Refusal(error, request, self.config)
        status = 422 if all(r.error for r in results) else 200
        return JSONResponse(Predictions(results=results).model_dump(), status)

    async def _answers(
        self, request: Request, files: list[tuple[str, bytes]], maps: Sequence[MapName]
    ) -> list[Prediction]:
        """Decode the images, then predict them; clients take turns in both."""
        costs = await asyncio.to_thread(lambda: [cost_of(data, self._max_pixels) for _, data in files])
        flow = flow_of(request, sum(cost.bytes for cost in costs))
        timeout = self.config.timeout
        async with self._admission.images.held_by(flow, len(files)):
            async with self._admission.pixels.held_by(flow, sum(cost.pixels for cost in costs)):
                decoding = [self._load(flow, data, cost) for (_, data), cost in zip(files, costs, strict=True)]
                images = await within(timeout, 429, BUSY, together(decoding))
            asking = [self._result(flow, image, "recoloured" in maps) for image in images]
            found = await within(timeout, 503, "no answer in time; try again", together(asking))
        names = [name for name, _ in files]
        return await asyncio.to_thread(self._told, names, images, found, maps)

    async def _load(self, flow: Flow, data: bytes, cost: Cost) -> Loaded | str:
        """A decoded image, or the reason why it is unreadable."""
        lane = self._heavy if cost.bytes > HEAVY else self._light
        try:
            return await lane.answer(flow, cost.bytes, data)
        except UnreadableImageError as error:
            return f"not a readable image ({error.reason})"

    async def _result(self, flow: Flow, image: Loaded | str, paint: bool) -> Result | None:
        return None if isinstance(image, str) else await self._model.answer(flow, 1, _Asked(image, paint))

    def _decode(self, batch: Sequence[bytes]) -> list[Loaded]:
        side = self.model.card.image_size
        return [loaded(decode_bytes(data, Path("image"), self._max_pixels), side) for data in batch]

    def _ask(self, batch: Sequence[_Asked]) -> list[Result]:
        images = [asked.image for asked in batch]
        return self.model.predict_pixels(
            [image.pixels for image in images],
            sizes=[image.size for image in images],
            paint=any(asked.paint for asked in batch),
        )

    def _told(
        self,
        names: Sequence[str],
        images: Sequence[Loaded | str],
        results: Sequence[Result | None],
        maps: Sequence[MapName],
    ) -> list[Prediction]:
        return [
            Prediction(file=name, error=str(image))
            if isinstance(image, str) or result is None
            else prediction(name, result, image, self.model.card, maps)
            for name, image, result in zip(names, images, results, strict=True)
        ]


def make_app(
    model: AnomalyModel, config: ServeConfig, token: str | None = None, hosts: Sequence[str] = ("*",)
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        model: the model; warmed up before the first request.
        config: names, limits and examples; host and port are not used.
        token: the secret that requests must carry; None: no secret.
        hosts: allowed names of this machine in requests; '*' is any.
    """
    service = Service(model, config)
    app = FastAPIOffline(
        title="leanet",
        version=__version__,
        summary="Color anomaly detection: which images are anomalous, where, and how surely.",
        lifespan=service.running,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    if config.cors_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origin,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=("Retry-After",),
        )
    guarded = [] if token is None else [Depends(_bearer(token))]
    _add_page(app, example_files(config.examples), guarded)
    _add_api(app, service, guarded)
    _answer_head(app)
    return app


def _add_page(app: FastAPI, examples: Sequence[Path], guarded: Sequence[params.Depends]) -> None:
    """The routes of the page, which the API's description leaves out."""

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": PAGE_POLICY})

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


def _add_api(app: FastAPI, service: Service, guarded: Sequence[params.Depends]) -> None:
    """The routes of the API, and its answer to a parameter that is none."""

    @app.exception_handler(RequestValidationError)
    async def bad_parameter(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][1]}: {first['msg']}"}, 400)

    @app.get("/health", responses=_answers(400))
    async def health() -> dict[str, str]:
        """Report that the service is up."""
        return {"status": "ok"}

    @app.get("/v1/model", dependencies=guarded, responses=_answers(400, 401))
    async def describe_model() -> ModelInfo:
        """Describe the model and the limits of requests."""
        return model_info(service.model.card, service.config)

    @app.post(
        "/v1/predict",
        dependencies=guarded,
        responses=_IMAGES_ANSWERED | _answers(*_PROBLEMS),
        openapi_extra={"requestBody": _request_body(service.config.max_files)},
    )
    async def predict(
        request: Request,
        maps: Annotated[tuple[MapName, ...], Query(description="Pictures to add, PNG in base64.")] = (),
    ) -> JSONResponse:
        """Classify one image, sent as the body, or several as the parts of a form.

        Maps are PNGs in base64 at the model's size: `overlay` (RGBA, to be laid over the image), `anomaly_map`
        (16-bit gray, 200 levels for 1 ΔE), `recoloured`, `attention` (at its own, smaller size) and `input`.
        """
        return await service.predict(request, tuple(dict.fromkeys(maps)))


def example_files(folder: Path | None) -> list[Path]:
    """Up to a dozen images of a folder, at even steps, to offer on the page.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if folder is None:
        return []
    return at_even_steps(find_files([str(folder)]), EXAMPLES)


_IMAGES_ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {"model": Predictions, "description": "At least one image was read."},
    422: {"model": Predictions, "description": "No image could be read."},
}

_PROBLEMS = {
    400: "No whole form, too many files or maps, no such map, or an unknown host.",
    401: "The token is missing or wrong.",
    SLOW: "The request took too long to arrive.",
    413: "Too many bytes.",
    429: "Too much is waiting.",
    503: "No answer in time.",
}

_HEADERS = {
    401: {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds after which to come again.", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds after which to come again.", "schema": {"type": "integer"}}},
}


def _answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Descriptions of a route's errors; errors of the host name are plain text."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        found[status] = {"model": Problem, "description": _PROBLEMS[status]}
        if status in _HEADERS:
            found[status]["headers"] = _HEADERS[status]
    if 400 in found:
        found[400]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return found


def _request_body(max_files: int) -> dict[str, Any]:
    image = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": image, "minItems": 1, "maxItems": max_files}
    form = {"type": "object", "properties": {"files": files}, "required": ["files"]}
    return {
        "required": True,
        "content": {"multipart/form-data": {"schema": form}, "image/*": {"schema": image}},
    }


def _answer_head(app: FastAPI) -> None:
    """Answer HEAD for every GET route; the server omits the body."""
    for route in list(app.routes):
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            app.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                dependencies=route.dependencies,
                include_in_schema=False,
            )


def _bearer(token: str) -> Callable[..., None]:
    scheme = HTTPBearer(auto_error=False)

    def check(given: HTTPAuthorizationCredentials | None = Depends(scheme)) -> None:  # noqa: B008 - FastAPI's way
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})

    return check
