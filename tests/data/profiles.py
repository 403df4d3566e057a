"""Color profiles written by hand, from published colorants and curves, as cameras and screens embed them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

Colorants = tuple[tuple[float, float, float], ...]

SRGB: Colorants = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3: Colorants = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB: Colorants = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_WHITE = (0.9642, 1.0, 0.8249)


def srgb_curve(points: int = 1024) -> bytes:
    """The curve of sRGB, IEC 61966-2-1, at so many points."""
    t = np.linspace(0, 1, points)
    linear = np.where(t <= 0.04045, t / 12.92, ((t + 0.055) / 1.055) ** 2.4)
    levels = [round(float(value) * 65535) for value in linear]
    return b"curv\0\0\0\0" + struct.pack(f">I{points}H", points, *levels)


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def rgb(name: str, colorants: Colorants, curve: bytes) -> bytes:
    tags = {f"{channel}XYZ": _xyz(xyz) for channel, xyz in zip("rgb", colorants, strict=True)}
    return _profile(name, "RGB ", "XYZ ", tags | {f"{channel}TRC": curve for channel in "rgb"})


def grey(name: str, curve: bytes) -> bytes:
    return _profile(name, "GRAY", "XYZ ", {"kTRC": curve})


def cmyk(name: str, corners: Sequence[tuple[float, float, float]]) -> bytes:
    """A press that knows Lab at the 16 corners of CMYK, the black's channel changing fastest."""
    lab = np.array(corners)
    table = np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], 1)
    unit = np.eye(3).ravel()
    straight = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + b"".join(struct.pack(">i", round(v * 65536)) for v in unit)
    return _profile(
        name,
        "CMYK",
        "Lab ",
        {"A2B0": lut + straight * 4 + np.rint(table).astype(np.uint8).tobytes() + straight * 3},
    )


def _profile(name: str, space: str, connection: str, more: dict[str, bytes]) -> bytes:
    text = name.encode() + b"\0"
    tags = {"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78, "wtpt": _xyz(_WHITE)} | more
    body, table, at = b"", struct.pack(">I", len(tags)), 132 + 12 * len(tags)
    for key, value in tags.items():
        table += key.encode() + struct.pack(">II", at + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    kind = b"prtr" if space == "CMYK" else b"mntr"
    header = struct.pack(">I4xI", at + len(body), 0x02100000) + kind + space.encode() + connection.encode()
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + _xyz(_WHITE)[8:]
    return header.ljust(128, b"\0") + table + body


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)
