"""The HTTP service: what may be asked of a model, within which limits, and how it answers."""

from __future__ import annotations

import asyncio
import base64
import hmac
import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib as mpl
import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from leanet import __version__
from leanet.data.pixels import THREADS, UnreadableImageError, decode_bytes
from leanet.inference.batching import Batcher
from leanet.inference.card import Card
from leanet.inference.exported import Predictor
from leanet.inference.predict_files import Loaded, at_even_steps, find_files, loaded
from leanet.inference.result import Result, layer, shown_unit
from leanet.settings import ServeConfig

MapName = Literal["overlay", "anomaly_map", "recoloured", "attention", "input"]

MAPPED_FILES = 8
"""Images of one request that maps may be asked of: their answers wait in memory until they are fetched."""

HELD_REQUESTS = 8
"""Bodies of how many requests of the largest size may be held in memory at once."""

EXAMPLES = 12

DELTA_E_STEPS = 200
"""Grey levels of an anomaly map's PNG for 1 ΔE."""

PAGE = Path(__file__).with_name("page.html")
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
)


class Prediction(BaseModel):
    """One image's answer; with `error`, all else is null."""

    file: str
    probability: float | None = None
    decision: Literal["normal", "anomalous"] | None = None
    adn_probability: float | None = None
    caan_probability: float | None = None
    mean_delta_e: float | None = None
    peak_delta_e: float | None = None
    box: tuple[int, int, int, int] | None = None
    width: int | None = None
    height: int | None = None
    note: str | None = None
    error: str | None = None
    maps: dict[MapName, str] | None = None


class Predictions(BaseModel):
    """The answers, in the order of the images."""

    results: list[Prediction]


class ModelInfo(BaseModel):
    """What the service asks: the model's name, networks, thresholds, and how well it did."""

    name: str
    adn: str
    caan: str
    attention_points: tuple[int, ...]
    colorizer: str | None
    image_size: int
    threshold: float
    map_threshold: float | None
    normals_unit: float | None
    classes: tuple[str, str] = ("normal", "anomalous")
    maps: tuple[MapName, ...]
    training: dict[str, Any]
    validation: dict[str, Any]
    versions: dict[str, str]
    limits: dict[str, int]


class _Admission:
    """What is in the house now: images that wait, and bytes of bodies."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.images = 0
        self.bytes = 0

    def check_room(self) -> None:
        """Say that there is no room before a body is read for nothing."""
        if self.images >= self.config.queue:
            raise _busy()

    @contextmanager
    def images_in(self, count: int) -> Iterator[None]:
        """Let images in, or say that there is no room."""
        if self.images + count > self.config.queue:
            raise _busy()
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
                raise _busy()

        try:
            yield count
        finally:
            self.bytes -= held


class _InMemory(MultiPartParser):
    spool_max_size = 0  # never rolls over to a file: nothing that was sent touches the disk


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
    admission, batcher = _Admission(config), Batcher(model)
    decoders = ThreadPoolExecutor(THREADS, "decode")
    examples = example_files(config.examples)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        side = model.card.image_size
        work = asyncio.create_task(batcher.run())
        await batcher.predict(np.zeros((side, side, 3), np.uint8), (side, side), paint=True)
        yield
        work.cancel()
        decoders.shutdown(wait=False, cancel_futures=True)

    app = FastAPIOffline(
        title="leanet",
        version=__version__,
        summary="Which picture is not right, where, and how sure to be.",
        lifespan=lifespan,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    guarded = [Depends(_bearer(token))]

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the service is up."""
        return {"status": "ok"}

    @app.get("/v1/model", dependencies=guarded)
    async def model_info() -> ModelInfo:
        """Tell what model this is, and within which limits it may be asked."""
        return _model_info(model.card, config)

    @app.get("/v1/examples", dependencies=guarded)
    async def list_examples() -> list[str]:
        """Names of the images that the page offers."""
        return [file.name for file in examples]

    @app.get("/v1/examples/{number}", dependencies=guarded, response_class=FileResponse)
    async def example(number: int) -> FileResponse:
        """One of these images, counted from 0."""
        if not 0 <= number < len(examples) or not examples[number].is_file():
            raise HTTPException(404, "no such example")
        return FileResponse(examples[number])

    async def answer(data: bytes, name: str, maps: Sequence[MapName]) -> Prediction:
        loop, side = asyncio.get_running_loop(), model.card.image_size
        try:
            image = await loop.run_in_executor(decoders, _load, data, side, config.max_megapixels * 1_000_000)
        except UnreadableImageError as error:
            return Prediction(file=name, error=f"not a readable image ({error.reason})")
        result = await batcher.predict(image.pixels, image.size, paint="recoloured" in maps)
        return await loop.run_in_executor(decoders, _prediction, name, result, image, model.card, maps)

    async def answers(files: list[tuple[str, bytes]], maps: Sequence[MapName]) -> list[Prediction]:
        async with asyncio.TaskGroup() as group:  # where one fails, none goes on after its place is given up
            tasks = [group.create_task(answer(data, name, maps)) for name, data in files]
        return [task.result() for task in tasks]

    @app.post(
        "/v1/predict",
        dependencies=guarded,
        responses={422: {"model": Predictions, "description": "No image could be read."}, **_REFUSALS},
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
        wanted = tuple(dict.fromkeys(maps or ()))
        try:
            with admission.bytes_in() as count:
                admission.check_room()
                arriving = _files(request, config, count)
                files = await _within(config.timeout, 408, "the request took too long", arriving)
                if wanted and len(files) > MAPPED_FILES:
                    raise HTTPException(400, f"maps of at most {MAPPED_FILES} images a request")
                with admission.images_in(len(files)):
                    work = answers(files, wanted)
                    results = await _within(config.timeout, 503, "no answer in time; try again", work)
        except ClientDisconnect:
            return JSONResponse({"detail": "the client left"}, 400)
        except HTTPException:
            await _drain(request, config)
            raise
        status = 422 if all(r.error for r in results) else 200
        return JSONResponse(Predictions(results=results).model_dump(), status)

    return app


def example_files(folder: Path | None) -> list[Path]:
    """Up to a dozen images of a folder, at even steps, to offer on the page.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if folder is None:
        return []
    return at_even_steps(find_files([str(folder)]), EXAMPLES)


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not a form that can be read."},
    401: {"description": "The token is missing or wrong."},
    408: {"description": "The request took too long to arrive."},
    413: {"description": "Too many bytes."},
    429: {"description": "Too much is waiting; come again after Retry-After seconds."},
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


def _busy() -> HTTPException:
    return HTTPException(429, "too much is waiting; come again in a moment", {"Retry-After": "1"})


async def _within(seconds: float, status: int, detail: str, work: Any) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise HTTPException(status, detail, {"Retry-After": "1"} if status == 503 else None) from None


async def _files(request: Request, config: ServeConfig, count: Callable[[int], None]) -> list[tuple[str, bytes]]:
    """Names and contents of what was sent.

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


def _printable(name: str) -> str:
    return name[:255].encode("utf-8", "replace").decode("utf-8")


async def _drain(request: Request, config: ServeConfig) -> None:
    """Read what still comes and forget it, so that the client is there to hear the answer."""
    try:
        async with asyncio.timeout(config.timeout):
            async for _ in request.stream():
                pass
    except Exception:  # gone, too slow, or read to its end already
        return


def _load(data: bytes, side: int, max_pixels: int) -> Loaded:
    return loaded(decode_bytes(data, Path("image"), max_pixels), side)


def _prediction(name: str, result: Result, image: Loaded, card: Card, maps: Sequence[MapName]) -> Prediction:
    return Prediction(
        file=name,
        probability=result.probability,
        decision=result.decision,
        adn_probability=result.probability,
        caan_probability=result.caan_probability,
        mean_delta_e=result.mean_delta_e,
        peak_delta_e=result.peak_delta_e,
        box=result.box,
        width=image.size[1],
        height=image.size[0],
        note="the first of several frames or pages" if image.first_of_several else None,
        maps=_pictures(result, card, maps, image.pixels) if maps else None,
    )


def _pictures(result: Result, card: Card, maps: Sequence[MapName], pixels: NDArray[np.uint8]) -> dict[MapName, str]:
    found: dict[MapName, Image.Image] = {}
    for name in maps:
        if name == "input":
            found[name] = Image.fromarray(pixels)
        elif name == "overlay" and result.anomaly_map is not None:
            found[name] = layer(result.anomaly_map, shown_unit(card, result))
        elif name == "anomaly_map" and result.anomaly_map is not None:
            grey = np.rint(result.anomaly_map * DELTA_E_STEPS).clip(0, 65535)
            found[name] = Image.fromarray(grey.astype(np.uint16))
        elif name == "recoloured" and result.recoloured is not None:
            found[name] = Image.fromarray(result.recoloured)
        elif name == "attention" and result.attention is not None:
            colours = mpl.colormaps["viridis"](_stretched(result.attention))[..., :3]
            found[name] = Image.fromarray((colours * 255).astype(np.uint8))
    return {name: _png(image) for name, image in found.items()}


def _stretched(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(attention.min()), float(attention.max())
    return (attention - low) / max(high - low, 1e-6)


def _png(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _model_info(card: Card, config: ServeConfig) -> ModelInfo:
    maps: list[MapName] = ["overlay", "anomaly_map", "input"]
    if card.colorizer:
        maps.append("recoloured")
    if card.attention_points:
        maps.append("attention")
    shown = {name: value for name, value in asdict(card).items() if name in ModelInfo.model_fields}
    limits = {
        "max_megabytes": config.max_megabytes,
        "max_megapixels": config.max_megapixels,
        "max_files": config.max_files,
    }
    path = config.model.resolve()
    name = path.stem if path.is_file() else path.name
    return ModelInfo(name=name, maps=tuple(maps), limits=limits, **shown)
