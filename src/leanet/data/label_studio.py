"""Label Studio's JSON export: the labels of its tasks, and their regions as masks."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from leanet.data.decode import MAX_PIXELS
from leanet.data.remote import content, is_url
from leanet.errors import UserError
from leanet.reading import parse_json

LARGEST = 1_000_000_000
"""Most bytes of an export; brushed masks take a few thousand each."""

SHAPES = ("rectangle", "polygon", "ellipse", "brush")
REGIONS = frozenset((*SHAPES, *(f"{shape}labels" for shape in SHAPES)))
"""Types of results that mark a place; the longer names have labels."""

CHOICES = "choices"

_PLACE = frozenset(("x", "points", "rle"))
"""What the values of results have that belong to a region."""

REMARKS = frozenset(("textarea", "rating", "number", "datetime", "taxonomy", "relation"))
"""Types of results that leave labels and places as they are."""

EXPORT = "In Label Studio, export an image project as JSON"

_TASK = re.compile(r"(.+\.json)#([^/#]+)((?:#[^#]*)*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Region:
    """A marked place: its labels, the picture's width and height in pixels, the shape as Label Studio has it."""

    labels: tuple[str, ...]
    size: tuple[int, int]
    value: Mapping[str, Any]


@dataclass(frozen=True)
class Annotation:
    """One person's answer to a task: the choices by the name of their question, and the regions."""

    choices: Mapping[str, tuple[str, ...]]
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Task:
    """A task: its number, its data as imported, and the submitted annotations, oldest first."""

    id: str
    data: Mapping[str, Any]
    annotations: tuple[Annotation, ...]


def read_export(place: str) -> tuple[Task, ...]:
    """The tasks of an export.

    Args:
        place: path or URL of a JSON file.
    Raises:
        UserError: no such file; not such an export, or one of another type of project.
    """
    try:
        found = parse_json(content(place, LARGEST, "Check the path of the export."))
    except ValueError as error:
        raise UserError(f"{place}: not a JSON file ({error}). {EXPORT}.") from None
    if not isinstance(found, list) or not all(isinstance(task, dict) for task in found) or not found:
        raise UserError(f"{place}: not a list of tasks. {EXPORT}.")
    try:
        return tuple(_task(place, number, task) for number, task in enumerate(found, 1))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(f"{place}: not an export with annotations. {EXPORT} (not JSON-MIN).") from None


def is_task(place: str) -> bool:
    """Whether a mask's place is a task of an export."""
    return _TASK.fullmatch(place) is not None


def task_place(export: str, task: Task, labels: Collection[str]) -> str:
    """The place of the mask that a task's regions with these labels make up, of its last annotation."""
    every = {label_of(region) for region in _last_regions(task)}
    return "#".join((export, task.id, *(sorted(labels) if every - {*labels} else ())))


def size_of_task(place: str) -> tuple[int, int]:
    """Width and height of a task's mask in pixels; OSError as `mask_of_task`."""
    return _regions(place)[0].size


def mask_of_task(place: str) -> NDArray[np.bool_]:
    """The union of a task's regions: bool (H, W).

    Args:
        place: from `task_place`.
    Raises:
        OSError: no such export, task or region, or a damaged one.
    """
    regions = _regions(place)
    width, height = regions[0].size
    mask = np.zeros((height, width), dtype=bool)
    try:
        for region in regions:
            if region.size != (width, height):
                raise ValueError("regions of pictures of different sizes")
            mask |= _drawn(region)
    except (KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
        raise OSError(f"{place}: a damaged region ({error})") from None
    return mask


def decode_brush(rle: bytes, values: int) -> NDArray[np.uint8]:
    """The values that a brush's run-length code stands for: uint8 (values,), channel by channel and pixel by pixel.

    A bit stream: the number of values (32 bits), bits of a value less 1 (5), four widths less 1 (4 each); then
    runs. A run has a bit that says whether one value is repeated, the number of its width (2), its length less 1,
    and the value or the values.

    Raises:
        ValueError: damaged, or another number of values.
    """
    bits = np.unpackbits(np.frombuffer(rle, np.uint8))
    at = 0

    def number(width: int) -> int:
        nonlocal at
        if at + width > len(bits):
            raise ValueError("the brush's code ends too early")
        found = int("".join(map(str, bits[at : at + width])), 2)
        at += width
        return found

    if number(32) != values:
        raise ValueError("a brush of another size")
    width = number(5) + 1
    if width > 8:
        raise ValueError("a brush of more than 8 bits")
    widths = [number(4) + 1 for _ in range(4)]
    out, filled = np.zeros(values, np.uint8), 0
    while filled < values:
        repeats = number(1)
        length = number(widths[number(2)]) + 1
        if filled + length > values:
            raise ValueError("a brush of another size")
        if repeats:
            out[filled : filled + length] = number(width)
        else:
            if at + length * width > len(bits):
                raise ValueError("the brush's code ends too early")
            words = bits[at : at + length * width].reshape(length, width)
            out[filled : filled + length] = words @ (1 << np.arange(width)[::-1])
            at += length * width
        filled += length
    return out


def _task(place: str, number: int, task: dict[str, Any]) -> Task:
    answers = task["annotations"] if "annotations" in task else task["completions"]
    submitted = [answer for answer in answers if not answer.get("was_cancelled")]
    name = str(task.get("id", number))
    data = {str(key): value for key, value in task["data"].items()}
    return Task(name, data, tuple(_annotation(place, name, answer["result"]) for answer in submitted))


def _annotation(place: str, task: str, results: list[dict[str, Any]]) -> Annotation:
    choices, regions = dict[str, tuple[str, ...]](), dict[str, Region]()
    for number, result in enumerate(results):
        kind = result["type"]
        value = result.get("value", {})
        has_place = bool(_PLACE & value.keys())
        if kind in REGIONS or (kind == "labels" and has_place):
            name = str(result.get("id", number))  # a shape and its labels may be two results of one region
            labels = regions[name].labels if name in regions else ()
            size = int(result["original_width"]), int(result["original_height"])
            regions[name] = Region((*labels, *map(str, value.get(kind, ()))), size, value)
        elif kind == CHOICES:
            if not has_place:  # else it describes a region
                choices[result["from_name"]] = tuple(map(str, value[CHOICES]))
        elif kind not in REMARKS:
            raise UserError(
                f"{place}: task {task} has {kind}, another type of project. leanet reads choices for whole images, "
                "rectangles, polygons, ellipses and brushes."
            )
    return Annotation(choices, tuple(regions.values()))


def label_of(region: Region) -> str:
    """A region's first label, "" if it has none."""
    return region.labels[0] if region.labels else ""


def _last_regions(task: Task) -> tuple[Region, ...]:
    return next((answer.regions for answer in reversed(task.annotations) if answer.regions), ())


def _regions(place: str) -> tuple[Region, ...]:
    """The regions that a place names, one or more."""
    found = _TASK.fullmatch(place)
    assert found is not None
    export, labels = found[1], found[3].split("#")[1:]
    try:
        status = None if is_url(export) else Path(export).stat()
        task = _tasks(export, status and (status.st_mtime_ns, status.st_size))[found[2]]
    except (UserError, KeyError) as error:
        raise OSError(f"{place}: no such task ({error})") from None
    regions = tuple(region for region in _last_regions(task) if not labels or label_of(region) in labels)
    if not regions:
        raise OSError(f"{place}: no regions")
    if not all(0 < side < 65_536 for region in regions for side in region.size):
        raise OSError(f"{place}: a picture of {regions[0].size[0]} x {regions[0].size[1]} pixels")
    if math.prod(regions[0].size) > MAX_PIXELS:
        raise OSError(f"{place}: more than {MAX_PIXELS:,} pixels")
    return regions


@functools.lru_cache(maxsize=2)
def _tasks(export: str, _version: object) -> dict[str, Task]:
    return {task.id: task for task in read_export(export)}


def _drawn(region: Region) -> NDArray[np.bool_]:
    """A region as a mask of its picture's size."""
    width, height = region.size
    value = region.value
    if "rle" in value:
        brushed = decode_brush(bytes(value["rle"]), 4 * width * height)
        return brushed.reshape(height, width, 4)[:, :, 3] > 0
    mask = Image.new("1", (width, height))
    draw = ImageDraw.Draw(mask)
    if "points" in value:
        draw.polygon([(x * width / 100, y * height / 100) for x, y in value["points"]], fill=1)
    else:
        outline = list(_outline(value, width / 100, height / 100))
        if len(outline) == 4 and not value.get("rotation"):
            return _box(outline[0], outline[2], width, height)
        draw.polygon(outline, fill=1)
    return np.asarray(mask)


def _box(start: tuple[float, float], end: tuple[float, float], width: int, height: int) -> NDArray[np.bool_]:
    """The pixels whose centers are in an upright rectangle."""
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    across = (columns > start[0]) & (columns < end[0])
    down = (rows > start[1]) & (rows < end[1])
    return down[:, None] & across[None, :]


def _outline(value: Mapping[str, Any], across: float, down: float) -> Iterator[tuple[float, float]]:
    """The corners of a rectangle or ellipse in pixels; it turns clockwise, about its first corner or its center."""
    x, y = value["x"] * across, value["y"] * down
    if "radiusX" in value:
        angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        points = [
            (value["radiusX"] * across * math.cos(angle), value["radiusY"] * down * math.sin(angle))
            for angle in angles
        ]
    else:
        w, h = value["width"] * across, value["height"] * down
        points = [(0.0, 0.0), (w, 0.0), (w, h), (0.0, h)]
    turn = math.radians(value.get("rotation", 0))
    for dx, dy in points:
        yield x + dx * math.cos(turn) - dy * math.sin(turn), y + dx * math.sin(turn) + dy * math.cos(turn)
