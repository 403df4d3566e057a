"""Pools of pictures: pictures per second and memory of `leanet predict --manifest`, and the cost of rows alone.

    python -m benchmarks.pool leaf-model plantvillage_potato --out pool --count 100000
    python -m benchmarks.pool leaf-model plantvillage_potato --out pool-tar --count 100000 --tar 1000
    python -m benchmarks.pool --simulate 100000000 --out simulated

The pictures of a folder become `--count` pictures: hard links of other names, or members of tar shards. They are
predicted once, then the same command is repeated, which only checks the answers.

--simulate lists, divides, answers and resumes a pool without pictures: every row gets the same answer, by the
functions that the command calls. Both do a tenth of the work first. Time per picture or row and peak memory must
not be larger for the whole.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common import LEANET, Watched, facts, parser, verdict, watch, write_csv
from leanet.config import PredictConfig
from leanet.data.find import find_images
from leanet.data.pictures import Picture
from leanet.model.answers import write_answers
from leanet.model.pool import Shard, open_pool
from leanet.model.result import Result

FOLDER = 1000
"""Links in a folder."""

GROWTH = 1.1
"""Most that time per row and memory may be of a tenth's."""

ANSWER = Result(0.25, False, None, 3.5, 12.5)


def names(count: int, suffixes: Iterator[str]) -> Iterator[str]:
    """So many names of pictures in folders."""
    for number, suffix in zip(range(count), suffixes, strict=False):
        yield f"{number // FOLDER:05}/{number:09}{suffix}"


def make_links(pictures: list[Path], count: int, place: Path) -> str:
    """Hard links of the pictures, in turn; returns the manifest."""
    suffixes = itertools.cycle(picture.suffix for picture in pictures)
    for picture, name in zip(itertools.cycle(pictures), names(count, suffixes), strict=False):
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(picture, file)
        except OSError:  # another file system
            shutil.copy(picture, file)
    return str(place)


def make_shards(pictures: list[Path], count: int, place: Path, size: int) -> str:
    """Tar shards of `size` members; returns the manifest."""
    place.mkdir(parents=True)
    suffixes = itertools.cycle(picture.suffix for picture in pictures)
    members = zip(itertools.cycle(pictures), names(count, suffixes), strict=False)
    for number in range(-(-count // size)):
        with tarfile.open(place / f"{number:06}.tar", "w") as tar:
            for picture, name in itertools.islice(members, size):
                tar.add(picture, Path(name).name)
    return str(place / "*.tar")


def measure_pictures(given: argparse.Namespace, count: int) -> list[dict[str, object]]:
    """Predict `count` pictures, then repeat the command."""
    home = given.out / str(count)
    shutil.rmtree(home, ignore_errors=True)
    pictures = list(find_images(given.pictures).images)
    if given.tar:
        manifest = make_shards(pictures, count, home / "shards", given.tar)
    else:
        manifest = make_links(pictures, count, home / "photos")
    command = [LEANET, "predict", str(given.model), "--manifest", manifest, "--out", str(home / "answers")]
    work = {what: watch(command, interval=0.1) for what in ("predict", "predict again")}
    return [row_of(what, count, watched) for what, watched in work.items()]


def simulated(given: argparse.Namespace, rows: int) -> list[dict[str, object]]:
    """List, answer and resume a pool of `rows` rows, each in a process of its own."""
    from benchmarks.serve_load import made_model  # with torch, which the processes do without

    home = given.out / str(rows)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    made_model(home / "model", 64)
    with (home / "pool.csv").open("w", encoding="ascii") as file:
        file.write("file\n")
        file.writelines(f"{name}\n" for name in names(rows, itertools.repeat(".jpg")))
    itself = [sys.executable, "-m", "benchmarks.pool", "--out", str(home), "--stage"]
    return [row_of(stage, rows, watch([*itself, stage], interval=0.05)) for stage in STAGES]


def config_of(home: Path) -> PredictConfig:
    """The options of a simulated pool, whose model is not loaded."""
    return PredictConfig(home / "model", (), home / "answers", manifest=str(home / "pool.csv"))


def list_rows(home: Path) -> None:
    """List the manifest."""
    open_pool(config_of(home))


def answer_rows(home: Path) -> None:
    """Write all answers."""
    for shard in open_pool(config_of(home)).shards():
        write_answers(shard.part, shard.description, answers_of(shard))


def answers_of(shard: Shard) -> Iterator[tuple[Picture, None, Result]]:
    """The same answer for each row."""
    for row, file in shard.manifest.read(shard.first, shard.last):
        yield Picture(row, file, bytes), None, ANSWER


def resume(home: Path) -> None:
    """Check all answers, as a repeated command does."""
    assert all(shard.done() for shard in open_pool(config_of(home)).shards())


STAGES: dict[str, Callable[[Path], None]] = {"list": list_rows, "answer": answer_rows, "resume": resume}


def row_of(work: str, rows: int, watched: Watched) -> dict[str, object]:
    """A line of the CSV file, which is also printed."""
    microseconds, megabytes = 1e6 * watched.seconds / rows, watched.peak / 1e6
    rate = rows / watched.seconds
    print(
        f"{work:15} {rows:>11,} rows: {microseconds:11.2f} µs a row, {rate:10.1f} a second, peak {megabytes:.0f} MB"
    )
    return {"work": work, "rows": rows, "us_per_row": microseconds, "per_second": rate, "peak_mb": megabytes}


def compare(tenth: list[dict[str, object]], whole: list[dict[str, object]]) -> None:
    """Print whether time per row and memory stay flat."""
    for less, more in zip(tenth, whole, strict=True):
        for name in ("us_per_row", "peak_mb"):
            ratio = float(str(more[name])) / float(str(less[name]))
            print(f"{more['work']:15} {name:10} {ratio:.2f} times a tenth's ({verdict(ratio <= GROWTH)}: {GROWTH})")


def main() -> None:
    """Do a tenth of the work, then all of it."""
    options = parser(__doc__, "pool")
    options.add_argument("model", type=Path, nargs="?", metavar="MODEL")
    options.add_argument(
        "pictures", type=Path, nargs="?", metavar="PICTURES", help="folder of pictures to multiply"
    )
    options.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    options.add_argument("--count", type=int, default=100_000, help="pictures (%(default)s)")
    options.add_argument("--tar", type=int, metavar="N", help="put them into tar shards of N")
    options.add_argument("--simulate", type=int, metavar="ROWS", help="rows without pictures")
    options.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.stage:
        STAGES[given.stage](given.out)
        return
    if not given.simulate and not given.pictures:
        options.error("expected MODEL and PICTURES, or --simulate ROWS")
    machine = facts()
    measure, count = (simulated, given.simulate) if given.simulate else (measure_pictures, given.count)
    tenth, whole = measure(given, max(1, count // 10)), measure(given, count)
    compare(tenth, whole)
    write_csv(given.csv, [*tenth, *whole], machine)


if __name__ == "__main__":
    main()
