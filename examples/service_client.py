"""Send pictures to a running `leanet serve MODEL`, with the standard library only.

Usage: python service_client.py http://127.0.0.1:8000 PICTURE ...

Each request's body is one picture; the answer holds an overlay as a PNG.
"""

from __future__ import annotations

import base64
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any


def ask(address: str, picture: Path) -> dict[str, Any]:
    """The service's answer for one picture, with an overlay."""
    request = urllib.request.Request(f"{address}/v1/predict?maps=overlay", picture.read_bytes())
    request.add_header("Content-Type", "application/octet-stream")
    with urllib.request.urlopen(request, timeout=60) as answer:  # HTTPError: its body says what is wrong
        result: dict[str, Any] = json.load(answer)["results"][0]
    return result


def main(address: str, *pictures: str) -> None:
    """Print each picture's answer, and write its overlay into the working folder."""
    for picture in map(Path, pictures):
        result = ask(address, picture)
        overlay = Path(f"{picture.stem}-overlay.png")
        overlay.write_bytes(base64.b64decode(result["maps"]["overlay"]))
        print(f"{picture.name}: {result['decision']}, probability {result['probability']}, overlay {overlay}")


if __name__ == "__main__":
    main(*sys.argv[1:])
