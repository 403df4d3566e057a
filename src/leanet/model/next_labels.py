"""`leanet next`: which pictures of a pool to label next."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from leanet.config import NextConfig
from leanet.data.decode import UnreadableImageError, decode_bytes, read_image_file
from leanet.data.manifest import are_labeled, is_table, open_manifest
from leanet.data.pictures import Picture, pictures_of
from leanet.data.remote import is_url
from leanet.errors import UserError
from leanet.files import LARGEST, open_text, refuse_other, write_csv, write_json
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.choose import choose
from leanet.model.exported import is_exported
from leanet.model.known import Known, read_known
from leanet.model.predict_files import Loaded, find_files, loaded, results_ahead
from leanet.model.result import Result
from leanet.progress import progress_bar
from leanet.reading import parse_json, read_bytes

_log = logging.getLogger(__name__)

COLUMNS = ("file", "probability", "decision", "unfamiliarity", "box")

CLASSES = ("Negative", "Positive")
"""What Label Studio's choices are called: normal and anomalous."""

_KNOWN = "known"
"""In place of a picture's pixels: the model was trained on it."""


@dataclass(frozen=True)
class Candidate:
    """A picture of the pool, and what the model says."""

    file: str
    result: Result


@dataclass
class _Left:
    """Counts of pictures that are left out."""

    known: int = 0
    labeled: int = 0
    twice: int = 0
    unreadable: int = 0


def next_labels(config: NextConfig, model: Callable[[], AnomalyModel]) -> int:
    """Choose pictures and write them, the most helpful first.

    Args:
        model: loads the model.
    Returns:
        0, or 1 if a picture is unreadable.
    Raises:
        UserError: no such pool or model, one without head, no unlabeled picture in the pool, or an output that
            would overwrite something else.
    """
    if is_exported(config.model):
        raise UserError(f"{config.model}: an exported file does not know its training pictures. Name its folder.")
    is_ours = _is_table if config.out.suffix.lower() == ".csv" else _are_tasks
    refuse_other(config.out, f"--out {config.out}", is_ours, [Path(config.pool)])
    asked, known, left = model(), read_known(config.model), _Left()
    if known is None:
        raise UserError(
            f"{config.model}: does not know its training pictures. It knows normal pictures alone, is a LEA-Net, "
            "or is of an earlier version. Fit a head to pictures of both classes."
        )
    if asked.card.tile is not None:
        raise UserError(
            f"{config.model}: was trained on tiles, and cannot compare whole pictures. Choose among those that "
            "`leanet predict` calls unfamiliar or is unsure of."
        )
    with _pictures(config, left) as (pictures, total):
        found = _predicted(asked, pictures, total, frozenset(known.sha256), left)
    _tell(left)
    if not found:
        raise UserError(f"{config.pool}: no unlabeled picture in it that can be read. Name another pool.")
    chosen = [found[i] for i in _choose(found, asked.card.threshold, known, config.count)]
    if config.out.suffix.lower() == ".csv":
        write_csv(config.out, COLUMNS, [_row(each) for each in chosen])
    else:
        write_json(config.out, [_task(each, config) for each in chosen])
    _log.info(f"{len(chosen)} of {len(found)} unlabeled pictures chosen: {config.out}")
    if len(chosen) < min(config.count, len(found)):
        _log.info("the others are nearly the same as these or as training pictures")
    return 1 if left.unreadable else 0


def _choose(found: Sequence[Candidate], threshold: float, known: Known, count: int) -> list[int]:
    probability = np.array([each.result.probability for each in found], dtype=np.float64)
    components = [each.result.components for each in found]
    return choose(
        probability, threshold, np.stack([c for c in components if c is not None]), known.components, count
    )


def _tell(left: _Left) -> None:
    if left.known:
        _log.info(f"{left.known} left out: the model was trained on them")
    if left.labeled:
        _log.info(f"{left.labeled} left out: they have a label")
    if left.twice:
        _log.info(f"{left.twice} left out: the same files under other names")
    if left.unreadable:
        _log.info(f"{left.unreadable} unreadable")


@contextlib.contextmanager
def _pictures(config: NextConfig, left: _Left) -> Iterator[tuple[Iterator[Picture], int]]:
    """The pool's pictures without a label and, about, their number."""
    if not (is_table(config.pool) or is_url(config.pool) or config.pool.endswith(".tar")):
        files = find_files([config.pool])
        named = (Picture(i, str(file), functools.partial(read_image_file, file)) for i, file in enumerate(files))
        yield named, len(files)
        return
    with tempfile.TemporaryDirectory() as folder:
        manifest = open_manifest(config.pool, config.column, Path(folder, "rows.parquet"))
        labeled = are_labeled(config.pool, config.column) if is_table(config.pool) else iter(())
        rows = zip(manifest.read(0, manifest.rows), itertools.chain(labeled, itertools.repeat(False)), strict=False)
        yield pictures_of(_unlabeled(rows, left), manifest.root), manifest.rows


def _unlabeled(rows: Iterable[tuple[tuple[int, str], bool]], left: _Left) -> Iterator[tuple[int, str]]:
    """The rows without a label; counts the others."""
    for row, is_labeled in rows:
        if is_labeled:
            left.labeled += 1
        else:
            yield row


def _predicted(
    model: AnomalyModel, pictures: Iterator[Picture], total: int, known: frozenset[str], left: _Left
) -> list[Candidate]:
    """What the model says of all pictures that it does not know."""
    found: list[Candidate] = []
    digests: dict[str, str] = {}

    def load(picture: Picture) -> Loaded | str:
        try:
            data = picture.read()
            digests[picture.file] = hashlib.sha256(data).hexdigest()
            if digests[picture.file] in known:
                return _KNOWN
            return loaded(decode_bytes(data, Path(picture.file)), model.card)
        except UnreadableImageError as error:
            return error.reason

    seen: set[str] = set()
    with progress_bar("images", total) as set_done:
        for done, (picture, _, said) in enumerate(results_ahead(model, pictures, load)):
            if isinstance(said, str):
                left.known += said == _KNOWN
                left.unreadable += said != _KNOWN
            elif (digest := digests[picture.file]) in seen:
                left.twice += 1
            else:
                seen.add(digest)
                found.append(Candidate(picture.file, _without_maps(said)))
            set_done(done + 1, "")
    return found


def _without_maps(result: Result) -> Result:
    """What is kept of each picture, which may be one of many."""
    r = result
    return Result(r.probability, r.anomalous, box=r.box, unfamiliarity=r.unfamiliarity, components=r.components)


def _row(candidate: Candidate) -> list[object]:
    r = candidate.result
    numbers = ["" if value is None else f"{value:.6g}" for value in (r.probability, r.unfamiliarity)]
    box = "" if r.box is None else " ".join(map(str, r.box))
    return [candidate.file, numbers[0], r.decision, numbers[1], box]


def _task(candidate: Candidate, config: NextConfig) -> dict[str, Any]:
    """A task of Label Studio, with the model's answer as its prediction.

    Label Studio reads files below its document root, which is to be the pool's folder.
    """
    r, place = candidate.result, candidate.file
    if not is_url(place):
        root = Path(config.pool) if Path(config.pool).is_dir() else Path(config.pool).parent
        place = "/data/local-files/?d=" + quote(Path(os.path.relpath(place, root)).as_posix())
    choice = CLASSES[int((r.probability or 0.0) >= 0.5)] if r.unfamiliar else CLASSES[int(r.anomalous)]
    answer = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [choice]}}
    data = {"image": place, "file": candidate.file, "decision": r.decision, "unfamiliarity": r.unfamiliarity}
    prediction = {"model_version": config.model.name, "score": r.probability, "result": [answer]}
    return {"data": data, "predictions": [prediction]}


def _is_table(path: Path) -> bool:
    with open_text(path) as file:
        return file.readline(200).rstrip("\r\n") == ",".join(COLUMNS)  # others may hold people's labels


def _are_tasks(path: Path) -> bool:
    try:
        tasks = parse_json(read_bytes(path, LARGEST))
        answered = {"annotations", "completions"}
        return all("unfamiliarity" in t["data"] and "predictions" in t and not answered & {*t} for t in tasks)
    except (KeyError, TypeError, ValueError):
        return False
