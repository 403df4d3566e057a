"""The service under attack: ordinary clients, clients with heavy images, and clients that send nothing.

    python -m benchmarks.serve_load

The bar: for a minute, 64 clients beside ten with heavy images get no 5xx, and 95 % of their answers within 5 s.

`leanet serve` runs in its own process on a free port of 127.0.0.1, the clients in this one. Each sends its next
request when the last is answered, or a second after a refusal. An ordinary image is a synthetic leaf of 256 px; a
heavy one is a 16-bit RGBA PNG of 7,000 x 7,000 pixels in 400 kB, which takes seconds to decode. The default model
is untrained.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import signal
import statistics
import struct
import subprocess
import tempfile
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks.common import LEANET, facts, memory_of_tree, parser, verdict, write_csv
from leanet.data.synthetic import make_leaves
from leanet.maps.registry import build_map_source
from leanet.model.card import Card
from leanet.model.model import save
from leanet.networks.registry import build_leanet

BAR = 5.0
PATIENCE = 100.0  # longer than the service's limits, 30 s each to arrive, be decoded and be answered
HEAVY_SIDE = 7000


@dataclass
class Answers:
    """The answers to one kind of client: statuses, and seconds of those with 200."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

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


def ordinary_png(folder: Path) -> bytes:
    """A synthetic leaf."""
    make_leaves(folder, n_normal=4, n_anomalous=4, image_size=256)
    stream = io.BytesIO()
    Image.open(next(folder.rglob("*.png"))).save(stream, "PNG")
    return stream.getvalue()


def made_model(folder: Path, side: int) -> Path:
    """ResNet18 with the ResNet CAAN and a Unet, untrained."""
    card = Card("ResNet18", "ResNet", (2,), side, "true", "normals", 10.0, 0.5, "benchmark", colorizer="Unet")
    maps = build_map_source("color", side, card.maps)
    save(folder, card, build_leanet("ResNet18", "ResNet", (2,), side).eval(), maps.eval())
    return folder


class Server:
    """`leanet serve` in its own process, whose memory is sampled ten times a second."""

    def __init__(self, model: Path) -> None:
        self._process = subprocess.Popen(
            [LEANET, "serve", str(model), "--port", "0", "--device", "cpu"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        found = None
        while not found and (line := self._process.stdout.readline()):
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, "serve ended before it answered"
        self.port, self.peak, self._over = int(found.group(1)), 0, threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self._sampler.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=300):
            pass

    def _sample(self) -> None:
        while not self._over.wait(0.1):
            self.peak = max(self.peak, memory_of_tree(self._process.pid))

    def close(self) -> None:
        """Stop it."""
        self._over.set()
        self._sampler.join()
        self._process.terminate()
        self._process.wait()


@contextlib.contextmanager
def serving(model: Path) -> Iterator[Server]:
    """Run a server, and stop it at the end."""
    server = Server(model)
    try:
        yield server
    finally:
        server.close()


async def client(port: int, image: bytes, until: float, answers: Answers) -> None:
    """Send requests one after another until the time is over; reconnect if the connection is closed."""
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(image)}"
    )
    request = head.encode() + b"\r\n\r\n" + image
    while time.perf_counter() < until:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while time.perf_counter() < until:
                    started = time.perf_counter()
                    status = "no answer"
                    try:
                        status = await asyncio.wait_for(ask(reader, writer, request), PATIENCE)
                    finally:
                        answers.statuses[status] += 1
                    if status == "200":
                        answers.seconds.append(time.perf_counter() - started)
                    else:
                        await asyncio.sleep(1)  # as Retry-After says
            finally:
                writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    """Send a request; return the answer's status."""
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.I)
    assert length, head
    await reader.readexactly(int(length.group(1)))
    return head.split()[1].decode()


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
    port: int, images: tuple[bytes, bytes], clients: tuple[int, int, int], seconds: float
) -> list[Answers]:
    """Run ordinary, heavy and silent clients together; return each kind's answers."""
    until = time.perf_counter() + seconds
    answers = [Answers(), Answers(), Answers()]
    asking = [
        client(port, image, until, kind)
        for image, kind, count in zip(images, answers, clients, strict=False)
        for _ in range(count)
    ]
    closed = [asyncio.ensure_future(silent(port)) for _ in range(clients[2])]
    await asyncio.gather(*asking)
    answers[2].statuses.update("closed" if one else "left open" for one in await asyncio.gather(*closed))
    return answers


def main() -> None:
    """Serve, attack, and print the ordinary clients' results."""
    arguments = parser(__doc__, "serve_load")
    arguments.add_argument("--model", type=Path, help="model to serve (default: an untrained one)")
    arguments.add_argument("--side", type=int, default=128, help="image size of the untrained one (%(default)s)")
    arguments.add_argument("--seconds", type=float, default=60, help="how long (%(default)s)")
    arguments.add_argument("--ordinary", type=int, default=64, help="clients with a small image (%(default)s)")
    arguments.add_argument("--heavy", type=int, default=10, help="clients with a heavy one (%(default)s)")
    arguments.add_argument("--silent", type=int, default=900, help="connections without a header (%(default)s)")
    arguments.add_argument("--heavy-side", type=int, default=HEAVY_SIDE, help="side in pixels (%(default)s)")
    given = arguments.parse_args()
    machine = facts()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the server too
    clients = min(given.ordinary, 1000), min(given.heavy, 1000), min(given.silent, 5000)
    with tempfile.TemporaryDirectory(prefix="leanet-benchmark-") as scratch:
        images = ordinary_png(Path(scratch) / "leaves"), heavy_png(given.heavy_side)
        with serving(given.model or made_model(Path(scratch) / "model", given.side)) as server:
            answers = asyncio.run(load(server.port, images, clients, min(given.seconds, 3600)))
    rows: list[dict[str, object]] = []
    for name, count, found in zip(("ordinary", "heavy", "silent"), clients, answers, strict=True):
        statuses = ", ".join(f"{number} x {status}" for status, number in sorted(found.statuses.items()))
        times = {f"p{percent}_s": round(found.percentile(percent), 3) for percent in (50, 95, 99)}
        rate = len(found.seconds) / given.seconds
        told = "  ".join(f"{key[:-2]} {value:.2f} s" for key, value in times.items()) if found.seconds else ""
        print(f"{count:4} {name:9} {rate:7.1f} answers/s  {told}  {statuses}")
        rows.append({"clients": name, "count": count, "rate": rate, **times, "statuses": statuses})
    print(f"peak memory of the service {server.peak / 1e9:.2f} GB")
    write_csv(given.csv, [{**row, "peak_bytes": server.peak, "bar_s": BAR} for row in rows], machine)
    failed = sum(number for status, number in answers[0].statuses.items() if not status.startswith(("2", "4")))
    measured = answers[0].percentile(95)
    print(
        f"{failed} failures, 95 % within {measured:.2f} s ({verdict(not failed and measured <= BAR)}: 0, {BAR} s)"
    )


if __name__ == "__main__":
    main()
