"""A minute of 64 clients at once, good, broken and oversized files among each other."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest
from made import pictures
from PIL import Image
from serving import served
from test_service import png

from leanet.model.model import load

CLIENTS, SECONDS = 64, 60


def anonymous_memory(process: int) -> int:
    """Bytes of a process' memory that belong to no file."""
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", text)
    assert found
    return int(found.group(1)) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_a_minute_of_many_clients(folder: Path) -> None:
    model = load(folder)
    good = [(png(p), model.predict(p)) for p in pictures()]
    noise = np.random.default_rng(1).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    bad = {
        "broken": (good[0][0][:300], 422),
        "no image": (b"just text", 422),
        "too many bytes": (png(noise), 413),
        "too many pixels": (png(Image.new("1", (20_000, 20_000))), 422),
    }
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def one_client(number: int, address: str, until: float) -> None:
        chance = random.Random(number)
        with httpx2.Client(base_url=address, timeout=60) as client:
            while time.monotonic() < until:
                count = chance.choice((1, 1, 1, 3))
                if chance.random() < 0.25:
                    content, expected = chance.choice(list(bad.values()))
                    response = client.post("/v1/predict", files={"files": ("bad", content)})
                    assert response.status_code in (expected, 429), response.text
                else:
                    chosen = [chance.choice(good) for _ in range(count)]
                    parts = [("files", (f"{number}-{i}", content)) for i, (content, _) in enumerate(chosen)]
                    response = client.post("/v1/predict?maps=anomaly_map", files=parts)
                    assert response.status_code in (200, 429), response.text
                    if response.status_code == 200:
                        for i, (found, (_, result)) in enumerate(
                            zip(response.json()["results"], chosen, strict=True)
                        ):
                            assert found["file"] == f"{number}-{i}"
                            assert found["probability"] == pytest.approx(result.probability, abs=1e-4)
                            assert found["mean_delta_e"] == pytest.approx(result.mean_delta_e, rel=1e-3)
                with lock:
                    statuses[response.status_code] += 1

    options = ("--max-megabytes", "2", "--max-megapixels", "4", "--queue", "48")
    with served(folder, *options) as (address, process), ThreadPoolExecutor(CLIENTS) as pool:
        until = time.monotonic() + SECONDS
        clients = [pool.submit(one_client, number, address, until) for number in range(CLIENTS)]
        time.sleep(SECONDS / 4)
        early = anonymous_memory(process)
        for client in clients:
            client.result(SECONDS * 2)
        late = anonymous_memory(process)
    print(f"\n{dict(statuses)}; anonymous memory {early / 1e6:.0f} MB early, {late / 1e6:.0f} MB late")
    assert statuses[200] > CLIENTS
    assert statuses[429] > 0
    assert late < 1.1 * early
