"""`leanet predict --manifest`: millions of pictures, one Parquet file of answers for each shard of rows."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from leanet.config import PredictConfig
from leanet.data.decode import RESIZE_VERSION, Decoded, UnreadableImageError, decode_bytes
from leanet.data.manifest import (
    COLUMN,
    LIST_AGAIN,
    LISTING,
    Manifest,
    brief_hash,
    facts_of,
    is_table,
    open_manifest,
)
from leanet.data.pictures import Picture, pictures_of
from leanet.data.threads import THREADS
from leanet.errors import OptionError, UserError
from leanet.files import contents, write_json
from leanet.lock import alone_in
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.answers import OnPicture, Tally, read_answers, write_answers
from leanet.model.card import CARD, Card, read_card, refuse_without_maps, sha256_of_file, with_threshold
from leanet.model.exported import is_exported
from leanet.model.load import load
from leanet.model.predict_files import Loaded, loaded, results_ahead, results_by_tiles, tell_own_tiles
from leanet.model.tiles import by_tiles_of, refuse_balanced
from leanet.progress import SetDone, progress_bar
from leanet.reading import parse_json, read_bytes

_log = logging.getLogger(__name__)

T = TypeVar("T")

RECORD = "_manifest.json"
"""The file beside the answers that says what they were made from."""

READERS = 16
"""Pictures that are read at once: reading from another machine mainly waits."""

LARGE = 2
"""Pictures in memory at a time that are predicted by tiles."""

_RECORD_FORMAT = 1
_LARGEST_RECORD = 1_000_000
_decoding = threading.BoundedSemaphore(THREADS)


@dataclass(frozen=True)
class Shard:
    """A task: predict some rows of a manifest into one file. Plain data that pickles small.

    Attributes:
        config: the model and its options.
        manifest, first, last: rows first..last - 1 of it.
        part: the file of answers, written completely or not at all.
        pool: identity of the pool; answers of another one are made again.
    """

    config: PredictConfig
    manifest: Manifest
    first: int
    last: int
    part: Path
    pool: str

    def done(self) -> bool:
        """Whether the answers are on disk and undamaged."""
        return self.tally() is not None

    def tally(self) -> Tally | None:
        """The counts of the finished answers; None if they are missing, damaged, or of another pool."""
        return read_answers(self.part, self.description)

    @property
    def description(self) -> dict[str, object]:
        """What the file of answers says that it was made from."""
        return {"pool": self.pool, "first": self.first, "last": self.last}

    def run(self, model: AnomalyModel, on_picture: OnPicture | None = None) -> Tally:
        """Predict the rows and write the answers.

        Args:
            model: the model of the configuration; a process loads it once for all its shards.
            on_picture: called after each picture.
        Raises:
            UserError: the manifest or a bucket cannot be read.
            OSError: the answers cannot be written.
        """
        pictures = pictures_of(self.manifest.read(self.first, self.last), self.manifest.root)
        by_tiles = by_tiles_of(model, self.config.tile, self.config.overlap)
        if by_tiles is None:
            answers = results_ahead(model, pictures, functools.partial(_load, card=model.card), READERS)
        else:
            answers = results_by_tiles(by_tiles, pictures, _decoded, LARGE)
        with contextlib.closing(answers):
            return write_answers(self.part, self.description, answers, on_picture)


@dataclass(frozen=True)
class Pool:
    """All pictures of a manifest, divided into shards.

    Attributes:
        config: the options.
        manifest: the rows.
        rows: rows of a shard.
        identity: hash of what determines the answers.
    """

    config: PredictConfig
    manifest: Manifest
    rows: int
    identity: str

    def __len__(self) -> int:
        return -(-self.manifest.rows // self.rows)

    def shards(self) -> Iterator[Shard]:
        """The shards in the order of their rows."""
        digits = max(5, len(str(len(self) - 1)))
        for number in range(len(self)):
            first = number * self.rows
            last = min(first + self.rows, self.manifest.rows)
            part = self.config.out / f"part-{number:0{digits}}.parquet"
            yield Shard(self.config, self.manifest, first, last, part, self.identity)


def predict_pool(config: PredictConfig, model: Callable[[int], AnomalyModel]) -> int:
    """Predict all pictures of a manifest; finished shards are skipped.

    Args:
        config: the model, the manifest and the folder of answers.
        model: loads the model, for this many images; not called if nothing is left to predict.
    Returns:
        0, or 1 if a picture is unreadable.
    Raises:
        UserError: an unusable manifest; a folder of other things, or of answers from another manifest, model or
            options; a bucket that cannot be read.
        OSError: the answers cannot be written.
    """
    with alone_in(config.out):
        pool = open_pool(config)
        return run_shards(pool, functools.cache(lambda: with_asked_threshold(model(pool.manifest.rows), config)))


def with_asked_threshold(model: AnomalyModel, config: PredictConfig) -> AnomalyModel:
    """The model with the threshold that the options ask for."""
    return model if config.threshold is None else model.with_threshold(config.threshold)


def run_shards(pool: Pool, model: Callable[[], AnomalyModel]) -> int:
    """Run the unfinished shards one after another, and log the counts of all; returns the exit code."""
    everything, new, seconds = Tally(0), 0, 0.0
    with progress_bar("rows", pool.manifest.rows) as set_done:
        for shard in pool.shards():
            tally = shard.tally()
            if tally is None:
                if shard.part.exists():
                    log_damaged(shard)
                asked, started = model(), time.perf_counter()
                tally = shard.run(asked, functools.partial(_show, set_done, new))
                seconds += time.perf_counter() - started
                new += tally.files
            everything += tally
            set_done(shard.last, so_far(new))
    return told(everything, new, seconds, pool.config.out)


def log_damaged(shard: Shard) -> None:
    """Log that a shard's file is made again."""
    _log.info(f"{shard.part}: damaged, or of another kind; made again")


def _show(set_done: SetDone, before: int, row: int, pictures: int) -> None:
    set_done(row, so_far(before + pictures))


def so_far(pictures: int) -> str:
    """The progress's current work, in words."""
    return f"({pictures} pictures)"


def told(tally: Tally, new: int, seconds: float, out: Path) -> int:
    """Log the counts of all answers and the rate of the new ones; returns the exit code."""
    code = tally.told(out)
    for kind, count in tally.kinds.most_common():
        _log.info(f"  {count}: {kind}")
    if earlier := tally.files - new:
        _log.info(f"{earlier} of them by earlier calls")
    if new:
        _log.info(f"{new} pictures in {seconds:.0f} seconds, {new / seconds:.1f} a second")
    return code


def open_pool(config: PredictConfig) -> Pool:
    """The pool that a configuration asks for, new or to be resumed; its record and listing are in its folder.

    Raises:
        UserError: see `predict_pool`.
    """
    assert config.manifest is not None, "checked before"
    given, record = config.manifest, config.out / RECORD
    if config.column != COLUMN and not is_table(given):
        raise OptionError("column", config.column, f"{given} is no table. Leave it out.")
    found = _read_record(config.out)
    asked = {"format": _RECORD_FORMAT, **facts_of(given), **_options_of(config)}
    if found is not None:
        _refuse_changed(config, found, asked)
        _check_listing(config.out / LISTING, found.get("listing"))
    else:
        _check_model(config)
    manifest = open_manifest(given, config.column, config.out / LISTING)
    listed = {} if manifest.table == given else {"listing": brief_hash(manifest.table)[1]}
    content = {**asked, "rows": manifest.rows, **listed}
    if found is None:
        write_json(record, {"manifest": given, **content})
    else:
        _refuse_changed(config, found, content)
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return Pool(config, manifest, 1 if manifest.has_shards() else config.shard_rows, identity)


def _check_model(config: PredictConfig) -> None:
    """Refuse a bad model or option before the record names it, because a corrected one would then be another."""
    if is_exported(config.model):
        card = load(config.model, device=config.device, precision=config.precision).card
    else:
        card = read_card(config.model)
        refuse_without_maps(card, config.model)
    if config.threshold is not None:
        with_threshold(card, config.threshold)
    if config.tile is not None:
        refuse_balanced(card)
    tell_own_tiles(config, card)


def _check_listing(listing: Path, expected: str | None) -> None:
    """Raise UserError unless a listing is as it was written."""
    if expected is None:
        return
    if not listing.exists():
        raise UserError(f"{listing}: missing. {LIST_AGAIN}")
    if brief_hash(str(listing))[1] != expected:
        raise UserError(f"{listing}: damaged or changed. {LIST_AGAIN}")


def _options_of(config: PredictConfig) -> dict[str, object]:
    """What determines the answers, apart from the pictures."""
    given = config.manifest or ""
    return {
        **({"column": config.column} if is_table(given) else {}),
        "model": identity_of(config.model),
        "threshold": config.threshold,
        "precision": "bfloat16" if config.precision == "bfloat16" else "float32",
        "shard_rows": config.shard_rows,
        "decoding": RESIZE_VERSION,
        **({} if config.tile is None else {"tile": config.tile, "overlap": config.overlap}),
    }


def identity_of(model: Path) -> str:
    """A hash of a model: of its folder's card, which has the weights' hashes, or of an exported file."""
    file = model / CARD if model.is_dir() else model
    try:
        return sha256_of_file(file)
    except OSError:
        raise UserError(f"{model}: no model there. Name one that `leanet fit` or `leanet export` made.") from None


def _read_record(out: Path) -> dict[str, Any] | None:
    """What an earlier call wrote; None in a new folder.

    Raises:
        UserError: the folder holds something else.
    """
    path = out / RECORD
    if not path.exists():
        if others := [each for each in contents(out) if each.name != LISTING]:
            raise UserError(f"--out {out}: holds {others[0].name}, and no {RECORD}. Choose another folder.")
        (out / LISTING).unlink(missing_ok=True)  # of a call that was stopped before its record was written
        return None
    try:
        return dict(parse_json(read_bytes(path, _LARGEST_RECORD)))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{path}: damaged, or not of this command. Choose another --out.") from None


TILES = "tile", "overlap"
"""Options that are recorded only if they are given, as earlier versions' records are."""

_WORDS = {
    "bytes": "the manifest's size in bytes",
    "hash": "the manifest's content",
    "place": "the place that was listed",
    "root": "the folder of the pictures",
    "model": "the model",
    "decoding": "the version of decoding",
}


def _refuse_changed(config: PredictConfig, found: dict[str, Any], asked: dict[str, object]) -> None:
    """Raise UserError if answers were made from something else, with what changed."""
    changed = [name for name in {**asked, **dict.fromkeys(TILES)} if found.get(name) != asked.get(name)]
    if changed:
        said = ", ".join(_change(name, found.get(name), asked.get(name)) for name in changed)
        raise UserError(f"--out {config.out}: its answers were made otherwise: {said}. Choose another --out.")


def _change(name: str, before: object, now: object) -> str:
    words = _WORDS.get(name, name)
    is_hash = name in ("hash", "model")
    return f"{words} changed" if is_hash else f"{words} was {before!s:.80}, now {now!s:.80}"


def _load(picture: Picture, card: Card) -> Loaded | str:
    """A picture's pixels at the model's size, or why it is unreadable."""
    return _opened(picture, lambda whole: loaded(whole, card))


def _decoded(picture: Picture) -> Decoded | str:
    """A whole picture, or why it is unreadable."""
    return _opened(picture, lambda whole: whole)


def _opened(picture: Picture, reduced: Callable[[Decoded], T]) -> T | str:
    """What is made of a picture; few are decoded at once, because they can be large."""
    try:
        data = picture.read() if picture.waits else None
        with _decoding:
            data = picture.read() if data is None else data
            return reduced(decode_bytes(data, Path(picture.file)))
    except UnreadableImageError as error:
        return error.reason
