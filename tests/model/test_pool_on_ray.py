"""A pool's shards at another place, several at once: the same answers, whatever the order and the interruptions."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from leanet.cli import main, parse
from leanet.errors import UserError
from leanet.model.answers import Tally
from leanet.model.pool import Pool, Shard, open_pool
from leanet.model.pool_on_ray import Job, perform_shard, run_spread

ROWS = 9
Opened = Callable[..., Pool]


@dataclass
class Here:
    """A place that runs two shards when both are asked for, the later one first."""

    job: Job
    started: list[str] = field(default_factory=list)
    waiting: list[tuple[Shard, Future[Tally | str]]] = field(default_factory=list)

    def start(self, shard: Shard) -> Future[Tally | str]:
        self.started.append(shard.part.name)
        future: Future[Tally | str] = Future()
        self.waiting.append((shard, future))
        if len(self.waiting) == self.most() or shard.last == ROWS:
            while self.waiting:
                sent, asked = self.waiting.pop()
                asked.set_result(perform_shard(*pickle.loads(pickle.dumps((sent, self.job)))))  # noqa: S301 our own
        return future

    def most(self) -> int:
        return 2


@pytest.fixture
def opened(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Open a pool of nine pictures, the last of them broken, in shards of two."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(ROWS - 1):
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(f"{number}.png")
    Path("8.png").write_bytes(Path("0.png").read_bytes()[:600])
    pq.write_table(pa.table({"file": [f"{number}.png" for number in range(ROWS)]}), "pool.parquet")
    shutil.copytree(tiny_model, "model")

    def pool(out: str) -> Pool:
        return open_pool(parse("predict", ["model", *OF_POOL, "--out", out]))

    return pool


OF_POOL = ["--manifest", "pool.parquet", "--shard-rows", "2"]


def parts(out: str) -> dict[str, bytes]:
    """The files of answers."""
    return {path.name: path.read_bytes() for path in sorted(Path(out).glob("part-*"))}


def test_the_answers_are_those_of_one_process(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "model", *OF_POOL, "--out", "local"]) == 1
    told = capsys.readouterr().out
    pool = opened("spread")
    place = Here(Job.here(pool, 1))
    assert run_spread(pool, place) == 1
    assert parts("spread") == {name: data for name, data in parts("local").items() if data}
    assert place.started == [*parts("local")]
    assert len(place.started) == 5
    until_rate = slice(0, -1)
    spread = capsys.readouterr().out.replace("spread", "local")
    assert spread.splitlines()[until_rate] == [
        line for line in told.splitlines()[until_rate] if "computing" not in line
    ]
    assert "9 pictures in" in spread
    leftover = [path.name for path in Path("spread").iterdir() if path.name.startswith(".")]
    assert leftover == []


def test_only_what_is_missing_or_damaged_is_started(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    pool = opened("spread")
    run_spread(pool, Here(Job.here(pool, 1)))
    whole = parts("spread")
    Path("spread/part-00001.parquet").unlink()
    Path("spread/part-00004.parquet").write_bytes(b"damaged")
    capsys.readouterr()
    place = Here(Job.here(pool, 1))
    run_spread(pool, place)
    assert place.started == ["part-00001.parquet", "part-00004.parquet"]
    assert parts("spread") == whole
    told = capsys.readouterr().out
    assert "part-00004.parquet: damaged, or of another kind; made again" in told
    assert "6 of them by earlier calls" in told


def test_a_shard_that_is_there_already_is_not_predicted_again(opened: Opened) -> None:
    pool = opened("spread")
    shard, job = next(pool.shards()), Job.here(pool, 1)
    tally = perform_shard(shard, job)
    before = shard.part.stat().st_mtime_ns
    assert perform_shard(shard, job) == tally
    assert shard.part.stat().st_mtime_ns == before


def test_after_an_error_no_further_shard_starts(opened: Opened) -> None:
    pq.write_table(pa.table({"file": ["0.png", *["memory://gone/a.png"] * (ROWS - 1)]}), "pool.parquet")
    pool = opened("spread")
    place = Here(Job.here(pool, 1))
    with pytest.raises(UserError, match=r"node .*: memory://gone: no such file, folder or bucket"):
        run_spread(pool, place)
    assert len(place.started) <= 3
    assert not parts("spread")


def test_another_model_on_a_node_is_refused(opened: Opened) -> None:
    pool = opened("spread")
    shard, job = next(pool.shards()), Job.here(pool, 1)
    card = Path("model/model.json")
    card.write_text(card.read_text() + " ")
    assert re.fullmatch(
        r"node .*: model: another model there. Put it where .* same path to it.", str(perform_shard(shard, job))
    )
    assert not shard.part.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--num-cpus", "2"], "--num-cpus 2: is an option of --executor ray"),
        (["--address", "auto"], "--address auto: is an option of --executor ray"),
        (["--executor", "processes"], "processes.*local.*ray"),
        (["--executor", "ray", "--num-cpus", "0"], "--num-cpus 0: expected at least 1"),
        (["--executor", "ray", "--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no cluster there"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(
    opened: Opened, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    del opened
    if "127.0.0.1:1" in options:
        pytest.importorskip("ray")
    assert main(["predict", "model", *OF_POOL, "--out", "spread", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(said, line)
    assert not Path("spread").exists()


def test_ray_needs_a_manifest(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    del opened
    assert main(["predict", "model", "0.png", "--executor", "ray"]) == 2
    assert "--executor ray: is an option of --manifest" in capsys.readouterr().err
