"""The HTTP service: its routes, limits and responses."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, FastAPI, HTTPException, Query, Request, params
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from leanet import __version__
from leanet.config import ServeConfig
from leanet.data.decode import Cost, UnreadableImageError, cost_of, decode_bytes
from leanet.data.threads import THREADS
from leanet.errors import UserError
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.card import Card
from leanet.model.predict_files import Loaded, at_even_steps, find_files, loaded
from leanet.model.tiles import by_tiles_of
from leanet.serve.answer import (
    MapName,
    ModelInfo,
    ModelNames,
    Prediction,
    Predictions,
    Problem,
    model_info,
    prediction,
)
from leanet.serve.ending import Door
from leanet.serve.labels import LONGEST, Label, LabelFile, Labels
from leanet.serve.lane import Flow, Lane, together
from leanet.serve.metrics import Metrics
from leanet.serve.models import Answered, Asked, Served, named_models
from leanet.serve.request import BUSY, Admission, Refusal, flow_of, read_files, while_there, within
from leanet.serve.watch import Watch, log_line

EXAMPLES = 12

MAPPED_FILES = 8
"""Most images in a request with maps: their answers wait in memory until they are sent."""

HEAVY = 64_000_000
"""Above this many bytes (16 megapixels with 8 bits per channel), an image waits for the thread of heavy ones."""

SLOW = 408
"""Status of a request that took too long; the rest of it is not read."""

PAGE = Path(__file__).with_name("page.html")
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
)


_Encoded: TypeAlias = tuple[bytes, Card]
"""An image that waits to be decoded: its file, and the card of its model, which says its size and shape."""


class Service:
    """The state behind the routes: the models, their queues, and the limits.

    Args:
        models: by name, the default first; or one model, which has the name of the configuration's path.
        config: the limits.
    """

    def __init__(self, models: AnomalyModel | Mapping[str, AnomalyModel], config: ServeConfig) -> None:
        if isinstance(models, AnomalyModel):
            models = {next(iter(named_models(config))): models}
        self.config, self.door, self.metrics = config, Door(), Metrics()
        self._max_pixels = config.max_megapixels * 1_000_000
        self.models = {name: self._served(name, model) for name, model in models.items()}
        self._admission = Admission(config)
        self._light: Lane[_Encoded, Loaded] = Lane("decode", self._decode, threads=THREADS)
        self._heavy: Lane[_Encoded, Loaded] = Lane("decode-heavy", self._decode, yielding=True)

    def _served(self, name: str, model: AnomalyModel) -> Served:
        by_tiles = by_tiles_of(model, self.config.tile, self.config.overlap, small_whole=True)
        return Served(name, model, self.metrics, by_tiles, self._max_pixels)

    @asynccontextmanager
    async def running(self, _app: object) -> AsyncIterator[None]:
        """Warm up the models, then keep the queues open."""
        for served in self.models.values():
            await served.warm_up()
        yield
        self._light.close()
        self._heavy.close()
        for served in self.models.values():
            served.close()

    def served(self, name: str | None) -> Served:
        """The model of this name, or the default.

        Raises:
            HTTPException: 404 with the names, if there is none.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise HTTPException(404, f"no model '{name[:100]}' here; there is {', '.join(self.models)}")
        return self.models[name]

    async def predict(self, request: Request, maps: Sequence[MapName], name: str | None = None) -> JSONResponse:
        """Read a request within its limits, and answer it by the model of this name."""
        try:
            self.door.check()
            served = self.served(name)
            async with self._admission.bytes_in(request) as count:
                arriving = read_files(request, self.config, count)
                files = await within(self.config.timeout, SLOW, "the request took too long", arriving)
                if maps and len(files) > MAPPED_FILES:
                    raise HTTPException(400, f"maps of at most {MAPPED_FILES} images a request")
                results = await while_there(request, self._answers(request, served, files, maps))
        except ClientDisconnect:
            return JSONResponse({"detail": "the client left"}, 400)
        except HTTPException as error:
            if error.status_code == SLOW:
                raise
            return Refusal(error, request, self.config)
        status = 422 if all(r.error for r in results) else 200
        return JSONResponse(Predictions(results=results).model_dump(), status)

    async def _answers(
        self, request: Request, served: Served, files: list[tuple[str, bytes]], maps: Sequence[MapName]
    ) -> list[Prediction]:
        """Decode the images, then predict them; clients take turns in both. A large one is decoded last."""
        costs = await asyncio.to_thread(lambda: [cost_of(data, self._max_pixels) for _, data in files])
        large = await asyncio.to_thread(lambda: [served.divides(data) for _, data in files])
        flow = flow_of(request, sum(cost.bytes for cost in costs))
        timeout, card = self.config.timeout, served.model.card
        async with self._admission.images.held_by(flow, len(files)):
            with self.metrics.queued(len(files)):
                async with self._admission.pixels.held_by(flow, sum(cost.pixels for cost in costs)):
                    decoding = [
                        _later(data) if later else self._load(flow, (data, card), cost)
                        for (_, data), cost, later in zip(files, costs, large, strict=True)
                    ]
                    images = await within(timeout, 429, BUSY, together(decoding))
                asking = [_answered(served, flow, image, "recoloured" in maps) for image in images]
                found = await within(timeout, 503, "no answer in time; try again", together(asking))
        names = [name for name, _ in files]
        return await asyncio.to_thread(_told, names, found, served.model.card, maps)

    async def _load(self, flow: Flow, encoded: _Encoded, cost: Cost) -> Loaded | str:
        """A decoded image, or the reason why it is unreadable."""
        lane = self._heavy if cost.bytes > HEAVY else self._light
        try:
            return await lane.answer(flow, cost.bytes, encoded)
        except UnreadableImageError as error:
            return _unreadable(error)

    def _decode(self, batch: Sequence[_Encoded]) -> list[Loaded]:
        return [loaded(decode_bytes(data, Path("image"), self._max_pixels), card) for data, card in batch]


async def _later(data: bytes) -> bytes:
    """A large image, which is decoded when its turn to be predicted comes."""
    return data


async def _answered(served: Served, flow: Flow, image: Loaded | bytes | str, paint: bool) -> Answered | str:
    """An image with its result, or the reason why it is unreadable."""
    if isinstance(image, str):
        return image
    if isinstance(image, Loaded):
        return image, await served.result(flow, Asked(image, paint))
    try:
        return await served.large_result(flow, len(image), image)
    except UnreadableImageError as error:
        return _unreadable(error)


def _unreadable(error: UnreadableImageError) -> str:
    return f"not a readable image ({error.reason})"


def _told(
    names: Sequence[str], found: Sequence[Answered | str], card: Card, maps: Sequence[MapName]
) -> list[Prediction]:
    return [
        Prediction(file=name, error=answer)
        if isinstance(answer, str)
        else prediction(name, answer[1], answer[0], card, maps)
        for name, answer in zip(names, found, strict=True)
    ]


def make_app(
    models: AnomalyModel | Mapping[str, AnomalyModel],
    config: ServeConfig,
    token: str | None = None,
    hosts: Sequence[str] = ("*",),
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        models: the model, or several by name, the default first; warmed up before the first request.
        config: names, limits, examples and the log; host, port and workers are not used.
        token: the secret that requests must carry; None: no secret.
        hosts: allowed names of this machine in requests; '*' is any.
    Returns:
        The application; `state.door` counts the requests inside it.
    """
    service = Service(models, config)
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
    log = log_line if config.access_log else None
    app.add_middleware(Watch, door=service.door, metrics=service.metrics, log=log)  # the last one is outermost
    app.state.door = service.door
    guarded = [] if token is None else [Depends(_bearer(token))]
    _add_page(app, example_files(config.examples), guarded)
    if config.labels is not None:
        _add_labels(app, LabelFile(config.labels), guarded)
    _add_state(app, service, guarded)
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


def _add_labels(app: FastAPI, kept: LabelFile, guarded: Sequence[params.Depends]) -> None:
    """The page's routes for labels, which other sites' pages cannot use: CORS allows no PUT."""

    @app.get("/v1/labels", dependencies=guarded, include_in_schema=False)
    def list_labels() -> Labels:
        """All labels."""
        try:
            return Labels(labels=list(kept.read().values()))
        except UserError:
            raise HTTPException(507, "the file of labels cannot be read") from None

    @app.put("/v1/labels", dependencies=guarded, include_in_schema=False, status_code=204)
    async def add_label(request: Request) -> None:
        """Add a label, or replace that of the same name; the token is checked before the body is read."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LONGEST:
                raise HTTPException(413, f"a label has at most {LONGEST} bytes")
        try:
            label = Label.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise HTTPException(400, f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
        await asyncio.to_thread(kept.add, label)


def _add_state(app: FastAPI, service: Service, guarded: Sequence[params.Depends]) -> None:
    """The routes for a balancer and for Prometheus."""

    @app.get("/health", responses=_answers(400))
    async def health() -> dict[str, str]:
        """Report that the service is up."""
        return {"status": "ok"}

    @app.get("/ready", responses=_answers(400, 503))
    async def ready() -> dict[str, str]:
        """Report that the service takes requests; when it is ending, it takes none."""
        service.door.check()
        return {"status": "ready"}

    @app.get("/metrics", dependencies=guarded, responses=_answers(400, 401), response_class=PlainTextResponse)
    def metrics() -> Response:
        """The service's numbers in Prometheus' format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


Maps: TypeAlias = Annotated[tuple[MapName, ...], Query(description="Pictures to add, PNG in base64.")]


def _add_api(app: FastAPI, service: Service, guarded: Sequence[params.Depends]) -> None:
    """The routes of the API, and its answer to a parameter that is none."""

    @app.exception_handler(RequestValidationError)
    async def bad_parameter(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][1]}: {first['msg']}"}, 400)

    def info(name: str | None) -> ModelInfo:
        served = service.served(name)
        return model_info(served.name, served.model.card, service.config)

    @app.get("/v1/model", dependencies=guarded, responses=_answers(400, 401))
    async def describe_model() -> ModelInfo:
        """Describe the model, the first of several, and the limits of requests."""
        return info(None)

    @app.get("/v1/models", dependencies=guarded, responses=_answers(400, 401))
    async def list_models() -> ModelNames:
        """List the models' names."""
        return ModelNames(default=next(iter(service.models)), models=list(service.models))

    @app.get("/v1/models/{name}", dependencies=guarded, responses=_answers(400, 401, 404))
    async def describe_named_model(name: str) -> ModelInfo:
        """Describe the model of this name, and the limits of requests."""
        return info(name)

    @app.post(
        "/v1/predict",
        dependencies=guarded,
        responses=_IMAGES_ANSWERED | _answers(*(status for status in _PROBLEMS if status != 404)),
        openapi_extra={"requestBody": _request_body(service.config.max_files)},
    )
    async def predict(request: Request, maps: Maps = ()) -> JSONResponse:
        """Classify one image, sent as the body, or several as the parts of a form; of several models, by the first.

        Maps are PNGs in base64 at the model's size, or of an image that is divided into tiles in its own shape:
        `overlay` (RGBA, to be laid over the image), `anomaly_map` (16-bit gray, 200 levels for 1 ΔE), `recoloured`,
        `attention` (at its own, smaller size) and `input`. By tiles, there is no `recoloured` and no `attention`.
        """
        return await service.predict(request, tuple(dict.fromkeys(maps)))

    @app.post(
        "/v1/models/{name}/predict",
        dependencies=guarded,
        responses=_IMAGES_ANSWERED | _answers(*_PROBLEMS),
        openapi_extra={"requestBody": _request_body(service.config.max_files)},
    )
    async def predict_by_name(request: Request, name: str, maps: Maps = ()) -> JSONResponse:
        """Classify as `/v1/predict` does, by the model of this name."""
        return await service.predict(request, tuple(dict.fromkeys(maps)), name)


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
    404: "No model has this name; the answer lists those that there are.",
    SLOW: "The request took too long to arrive.",
    413: "Too many bytes.",
    429: "Too much is waiting.",
    503: "No answer in time, or the service is ending.",
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
