"""The service under load: ordinary clients, clients with heavy images, and clients that send nothing.

    python -m benchmarks.serve_load
    git worktree add ../before v0.2.0
    python -m benchmarks.serve_load --onnx --heavy 0 --silent 0 --before ../before --workers 1 2

The bar: for a minute, 64 clients beside ten with heavy images get no 5xx and no other client's answer, 95 % of
their answers within 5 s, and the service's memory stays the same within 10 %.

With `--before`, the service of another checkout answers the same clients first; the bar is 1.5 times its answers
per second. Each number after `--workers` is a run of its own.

`leanet serve` runs in its own process on a free port of 127.0.0.1, the clients in this one. Each sends its next
request when the last is answered, or a second after a refusal. Each ordinary client has its own image, a synthetic
leaf of about 256 px, whose answer is known. A heavy image is a 16-bit RGBA PNG of 7,000 x 7,000 pixels in 400 kB,
which takes seconds to decode. The default model is untrained.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks.common import facts, memory_of_tree, parser, verdict, write_csv
from leanet.data.synthetic import make_leaves
from leanet.maps.registry import build_map_source
from leanet.model.card import Card
from leanet.model.load import load as load_model
from leanet.model.model import save
from leanet.networks.registry import build_leanet

BAR, FASTER, GROWTH = 5.0, 1.5, 1.1
PATIENCE = 100.0  # longer than the service's limits, 30 s each to arrive, be decoded and be answered
HEAVY_SIDE = 7000


@dataclass(frozen=True)
class Picture:
    """What a client sends, and its answer: probability, mean of the map and width; None if any will do."""

    data: bytes
    answer: tuple[float, float, int] | None = None

    def is_answered_by(self, body: bytes) -> bool:
        """Whether a response is about this picture."""
        if self.answer is None:
            return True
        (found,) = json.loads(body)["results"]
        values = found["probability"], found["mean_delta_e"], found["width"]
        return all(abs(x - y) <= 1e-3 * max(1, abs(y)) for x, y in zip(values, self.answer, strict=True))


@dataclass
class Answers:
    """The answers to one kind of client: statuses, seconds of those with 200, and how many were another's."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    mixed: int = 0

    def percentile(self, percent: int) -> float:
        """Seconds within which this percentage of the answers came."""
        if len(self.seconds) < 2:
            return float("inf")
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def heavy_png(side: int) -> bytes:
    """A black image, 16 bits in each of four channels, written without holding it in memory."""
    deflate = zlib.compressobj(9)
    data = b"".join(deflate.compress(bytes(1 + 8 * side)) for _ in range(side)) + deflate.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def ordinary_pictures(folder: Path, count: int, model: Path) -> list[Picture]:
    """Synthetic leaves of as many widths, with the model's answers."""
    half = max(4, -(-count // 2))
    make_leaves(folder, n_normal=half, n_anomalous=half, image_size=256)
    files = [file for file in sorted(folder.rglob("*.png")) if "ground_truth" not in file.parts][:count]
    data = []
    for i, file in enumerate(files):
        stream = io.BytesIO()
        Image.open(file).resize((200 + i, 256)).save(stream, "PNG")
        data.append(stream.getvalue())
    results = load_model(model).predict(data)
    return [
        Picture(content, (float(result.probability or 0), float(result.mean_delta_e or 0), 200 + i))
        for i, (content, result) in enumerate(zip(data, results, strict=True))
    ]


def made_model(folder: Path, side: int) -> Path:
    """ResNet18 with the ResNet CAAN and a Unet, untrained."""
    card = Card("ResNet18", "ResNet", (2,), side, "true", "normals", 10.0, 0.5, "benchmark", colorizer="Unet")
    maps = build_map_source("color", side, card.maps)
    save(folder, card, build_leanet("ResNet18", "ResNet", (2,), side).eval(), maps.eval())
    return folder


class Server:
    """`leanet serve` in its own process, whose memory is sampled ten times a second.

    Args:
        model: the model.
        options: further options.
        checkout: the repository whose leanet answers; None: this one.
    """

    def __init__(self, model: Path, options: Sequence[str] = (), checkout: Path | None = None) -> None:
        source = (checkout or Path(__file__).parents[1]) / "src"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "leanet.cli", "serve", str(model), "--port", "0", "--device", "cpu", *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        assert self._process.stdout is not None
        found = None
        while not found and (line := self._process.stdout.readline()):
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, "serve ended before it answered"
        self.port, self._over = int(found.group(1)), threading.Event()
        self.samples: list[tuple[float, int]] = []
        self._sampler = threading.Thread(target=self._sample)
        self._sampler.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=300):
            pass

    @property
    def peak(self) -> int:
        """Most bytes so far."""
        return max((size for _, size in self.samples), default=0)

    def growth(self) -> float:
        """Memory in the last quarter of the time, relative to the second quarter: medians."""
        sizes = [size for _, size in self.samples]
        quarter = max(1, len(sizes) // 4)
        return statistics.median(sizes[-quarter:]) / statistics.median(sizes[quarter : 2 * quarter] or sizes)

    def _sample(self) -> None:
        while not self._over.wait(0.1):
            self.samples.append((time.perf_counter(), memory_of_tree(self._process.pid)))

    def close(self) -> None:
        """Stop it."""
        self._over.set()
        self._sampler.join()
        self._process.terminate()
        self._process.wait()


@contextlib.contextmanager
def serving(model: Path, options: Sequence[str] = (), checkout: Path | None = None) -> Iterator[Server]:
    """Run a server, and stop it at the end."""
    server = Server(model, options, checkout)
    try:
        yield server
    finally:
        server.close()


async def client(port: int, picture: Picture, until: float, answers: Answers) -> None:
    """Send requests one after another until the time is over; reconnect if the connection is closed."""
    head = (
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(picture.data)}"
    )
    request = head.encode() + b"\r\n\r\n" + picture.data
    while time.perf_counter() < until:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while time.perf_counter() < until:
                    started = time.perf_counter()
                    status, body = "no answer", b""
                    try:
                        status, body = await asyncio.wait_for(ask(reader, writer, request), PATIENCE)
                    finally:
                        answers.statuses[status] += 1
                    if status == "200":
                        answers.seconds.append(time.perf_counter() - started)
                        answers.mixed += not picture.is_answered_by(body)
                    else:
                        await asyncio.sleep(1)  # as Retry-After says
            finally:
                writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[str, bytes]:
    """Send a request; return the answer's status and body."""
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.I)
    assert length, head
    return head.split()[1].decode(), await reader.readexactly(int(length.group(1)))


async def silent(port: int) -> bool:
    """Connect and send nothing; return whether the service closed the connection in time."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(30):
                return await reader.read(1) == b""
        finally:
            writer.close()
    except TimeoutError:
        return False
    except OSError:
        return True


async def load(
    port: int, ordinary: Sequence[Picture], heavy: Sequence[Picture], silent_clients: int, seconds: float
) -> list[Answers]:
    """Run ordinary, heavy and silent clients together; return each kind's answers."""
    until = time.perf_counter() + seconds
    answers = [Answers(), Answers(), Answers()]
    asking = [
        client(port, picture, until, kind)
        for pictures, kind in zip((ordinary, heavy), answers, strict=False)
        for picture in pictures
    ]
    closed = [asyncio.ensure_future(silent(port)) for _ in range(silent_clients)]
    await asyncio.gather(*asking)
    answers[2].statuses.update("closed" if one else "left open" for one in await asyncio.gather(*closed))
    return answers


@dataclass(frozen=True)
class Side:
    """One of the services that are compared: its name, options and checkout."""

    name: str
    options: tuple[str, ...] = ()
    checkout: Path | None = None


def sides(given: argparse.Namespace) -> list[Side]:
    """The services to run, one after another."""
    before = [Side("before", (), given.before)] if given.before else []
    return before + [Side(f"{n} process{'es' * (n > 1)}", ("--workers", str(n))) for n in given.workers]


def told(name: str, answers: Answers, count: int, seconds: float) -> dict[str, object]:
    """Print one kind of client's answers; the row of the table."""
    statuses = ", ".join(f"{number} x {status}" for status, number in sorted(answers.statuses.items()))
    times = {f"p{percent}_s": round(answers.percentile(percent), 3) for percent in (50, 95, 99)}
    rate = len(answers.seconds) / seconds
    shown = "  ".join(f"{key[:-2]} {value:.2f} s" for key, value in times.items()) if answers.seconds else ""
    print(f"{count:4} {name:9} {rate:7.1f} answers/s  {shown}  {statuses}")
    return {"clients": name, "count": count, "rate": rate, **times, "statuses": statuses, "mixed": answers.mixed}


def judged(ordinary: Answers, growth: float) -> None:
    """Print whether the ordinary clients' answers and the memory meet the bar."""
    failed = sum(number for status, number in ordinary.statuses.items() if not status.startswith(("2", "4")))
    measured = ordinary.percentile(95)
    print(
        f"{failed} failures, {ordinary.mixed} mixed answers, 95 % within {measured:.2f} s, memory x{growth:.2f} "
        f"({verdict(not failed and not ordinary.mixed and measured <= BAR and growth <= GROWTH)}: 0, 0, {BAR} s, "
        f"x{GROWTH})"
    )


def options() -> argparse.Namespace:
    """The options of the command line."""
    arguments = parser(__doc__, "serve_load")
    arguments.add_argument("--model", type=Path, help="model to serve (default: an untrained one)")
    arguments.add_argument("--side", type=int, default=128, help="image size of the untrained one (%(default)s)")
    arguments.add_argument("--onnx", action="store_true", help="export the untrained one first")
    arguments.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, to compare with")
    arguments.add_argument("--workers", type=int, nargs="+", default=[1], help="processes (%(default)s)")
    arguments.add_argument("--seconds", type=float, default=60, help="how long (%(default)s)")
    arguments.add_argument("--ordinary", type=int, default=64, help="clients with a small image (%(default)s)")
    arguments.add_argument("--heavy", type=int, default=10, help="clients with a heavy one (%(default)s)")
    arguments.add_argument("--silent", type=int, default=900, help="connections without a header (%(default)s)")
    arguments.add_argument("--heavy-side", type=int, default=HEAVY_SIDE, help="side in pixels (%(default)s)")
    return arguments.parse_args()


def model_to_serve(given: argparse.Namespace, folder: Path) -> Path:
    """The given model, or an untrained one in a folder, made by the earlier program: the later one reads it too."""
    if given.model:
        return Path(given.model)
    source = given.before or Path(__file__).parents[1]
    made = f"made_model(Path('model'), {given.side})"
    commands = [["-c", f"from pathlib import Path; from benchmarks.serve_load import made_model; {made}"]]
    if given.onnx:
        commands.append(["-m", "leanet.cli", "export", "model"])
    for command in commands:
        paths = os.pathsep.join([str(source.resolve() / "src"), str(source.resolve())])
        subprocess.run([sys.executable, *command], cwd=folder, env={**os.environ, "PYTHONPATH": paths}, check=True)
    return folder / ("model.onnx" if given.onnx else "model")


def main() -> None:
    """Serve, attack, and print the results of each service."""
    given = options()
    machine = facts()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the server too
    seconds, silent_clients = min(given.seconds, 3600), min(given.silent, 5000)
    rows: list[dict[str, object]] = []
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="leanet-benchmark-") as scratch:
        model = model_to_serve(given, Path(scratch))
        ordinary = ordinary_pictures(Path(scratch) / "leaves", min(given.ordinary, 1000), model)
        heavy = [Picture(heavy_png(given.heavy_side))] * min(given.heavy, 1000) if given.heavy else []
        for side in sides(given):
            with serving(model, side.options, side.checkout) as server:
                answers = asyncio.run(load(server.port, ordinary, heavy, silent_clients, seconds))
                growth = server.growth()
            print(f"{side.name}: peak memory {server.peak / 1e9:.2f} GB")
            for name, kind, count in zip(
                ("ordinary", "heavy", "silent"),
                answers,
                (len(ordinary), len(heavy), silent_clients),
                strict=True,
            ):
                row = told(name, kind, count, seconds)
                rows.append(
                    {"service": side.name, **row, "peak_bytes": server.peak, "growth": growth, "bar_s": BAR}
                )
            judged(answers[0], growth)
            rates.append(len(answers[0].seconds) / seconds)
    write_csv(given.csv, rows, machine)
    for side, rate in list(zip(sides(given), rates, strict=True))[1:]:
        ratio = rate / max(rates[0], 1e-9)
        bar = f" ({verdict(ratio >= FASTER)}: {FASTER})" if given.before else ""
        print(f"{side.name}: {ratio:.2f} times the answers of {sides(given)[0].name}{bar}")


if __name__ == "__main__":
    main()
