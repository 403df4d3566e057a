"""`leanet predict --manifest --executor ray`: the shards of a pool on a cluster whose nodes share its folder."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from leanet.cluster import QUEUED, Share, check_nodes, connect, none_left, ray_package
from leanet.config import PredictConfig
from leanet.data.remote import is_url
from leanet.errors import UserError, about_file
from leanet.files import OWN
from leanet.lock import alone_in
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.answers import Tally
from leanet.model.exported import OF_SUFFIX, is_exported, load_exported
from leanet.model.load import load, refuse_for_exported
from leanet.model.pool import Pool, Shard, identity_of, log_damaged, open_pool, so_far, told, with_asked_threshold
from leanet.progress import SetDone, progress_bar

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What all shards of a call need besides themselves.

    Attributes:
        directory: the caller's, to which relative paths refer.
        threads: number of threads to compute with.
        model: identity of the model; another one at the same path is refused.
        rows: rows of the whole pool, by which the model decides on compilation as it does in one process.
    """

    directory: str
    threads: int
    model: str
    rows: int

    @classmethod
    def here(cls, pool: Pool, threads: int) -> Job:
        """The job of a caller in this process."""
        return cls(str(Path.cwd()), threads, identity_of(pool.config.model), pool.manifest.rows)


class Place(Protocol):
    """Where shards are predicted."""

    def start(self, shard: Shard) -> Future[Tally | str]:
        """Start a shard, or queue it; see `perform_shard` for the result."""
        ...

    def most(self) -> int:
        """The largest number of shards to have started at once."""
        ...


def predict_pool_on_ray(config: PredictConfig) -> int:
    """Predict all pictures of a manifest on the nodes of a Ray cluster; see `predict_pool`.

    Each process loads the model once. A shard is started again if its process or node dies.

    Raises:
        UserError: also no cluster, or a node that lacks leanet, this version of it, or a path.
    """
    share = Share(config.num_cpus or 1, config.num_gpus, config.memory)
    connect(config.address)
    with alone_in(config.out):
        pool = open_pool(config)
        paths = (str(config.model), pool.manifest.table, pool.manifest.root)
        runtime = OF_SUFFIX[config.model.suffix.lower()].runtime if is_exported(config.model) else "torch"
        check_nodes(share.nodes(), config.out, ["pyarrow", runtime], [path for path in paths if not is_url(path)])
        _log.info(f"shards: {share.on_nodes()}")
        cluster = _Cluster(Job.here(pool, share.threads), share)
        try:
            with none_left():
                return run_spread(pool, cluster)
        finally:
            cluster.stop()


def run_spread(pool: Pool, place: Place) -> int:
    """Run the unfinished shards at a place, several at once, and log the counts of all; returns the exit code.

    After an error no further shard starts; those that run are waited for, and their answers stay.

    Raises:
        UserError: the first error of a shard.
    """
    running = dict[Future[Tally | str], Shard]()
    began: float | None = None
    with progress_bar("rows", pool.manifest.rows) as set_done:
        done = _Done(set_done)
        for shard in pool.shards():
            if (tally := shard.tally()) is not None:
                done.add(shard, tally)
                continue
            if shard.part.exists():
                log_damaged(shard)
            while len(running) >= place.most():
                done.take(running)
            if done.error:
                break
            began = began or time.perf_counter()
            running[place.start(shard)] = shard
        while running:
            done.take(running)
    if done.error:
        raise UserError(done.error)
    seconds = 0.0 if began is None else time.perf_counter() - began
    return told(done.tally, done.new, seconds, pool.config.out)


class _Done:
    """What is done so far.

    Attributes:
        tally: the counts of all answers.
        new: pictures that this call has predicted.
        error: the first error of a shard.
    """

    def __init__(self, set_done: SetDone) -> None:
        self.tally, self.new, self.error = Tally(0), 0, ""
        self._rows, self._set_done = 0, set_done

    def add(self, shard: Shard, tally: Tally) -> None:
        """Count a finished shard."""
        self.tally += tally
        self._rows += shard.last - shard.first
        self._set_done(self._rows, so_far(self.new))

    def take(self, running: dict[Future[Tally | str], Shard]) -> None:
        """Wait for a running shard, and count those that have ended."""
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            shard, found = running.pop(future), future.result()
            if isinstance(found, str):
                self.error = self.error or found
            else:
                self.new += found.files
                self.add(shard, found)


class _Cluster:
    """A `Place`: the cluster that Ray is connected to."""

    def __init__(self, job: Job, share: Share) -> None:
        ray = ray_package()
        self._share, self._job, self._task = share, ray.put(job), ray.remote(perform_shard)
        self._started: dict[Future[Tally | str], Any] = {}

    def start(self, shard: Shard) -> Future[Tally | str]:
        started = self._task.options(name=shard.part.stem, **self._share.options()).remote(shard, self._job)
        future: Future[Tally | str] = started.future()
        self._started[future] = started
        future.add_done_callback(lambda ended: self._started.pop(ended, None))
        return future

    def most(self) -> int:
        return QUEUED * self._share.slots()

    def stop(self) -> None:
        """End what the cluster still does for this call."""
        for started in list(self._started.values()):
            ray_package().cancel(started, force=True)


def perform_shard(shard: Shard, job: Job) -> Tally | str:
    """Predict a shard in this process, unless its answers are there.

    A lock keeps a second copy of the task waiting, which then finds the answers: a caller that lost a machine
    starts the task again, but that machine may still be at work.

    Returns:
        The counts; or a mistake that the user can correct, in one line with this machine's name.
    """
    with contextlib.suppress(OSError):  # relative paths would be missing, and a check has named them
        os.chdir(job.directory)
    try:
        with alone_in(shard.part.parent, wait=True, name=f"{OWN}{shard.part.stem}"):
            tally = shard.tally()
            return shard.run(_model(shard.config, job)) if tally is None else tally
    except UserError as error:
        said = error.on_command_line
    except OSError as error:
        if (about := about_file(error)) is None:
            raise
        said = about
    return f"node {socket.gethostname()}: {said}"


@functools.lru_cache(maxsize=1)
def _model(config: PredictConfig, job: Job) -> AnomalyModel:
    """The model of this process, for one shard after another."""
    if identity_of(config.model) != job.model:
        raise UserError(f"{config.model}: another model there. Put it where all nodes have the same path to it.")
    if is_exported(config.model):
        refuse_for_exported(config.model, config.device, config.precision)
        return with_asked_threshold(load_exported(config.model, threads=job.threads), config)
    import torch

    from leanet.training.compute import keep_freed_memory

    torch.set_num_threads(job.threads)
    keep_freed_memory()
    model = load(config.model, device=config.device, precision=config.precision, images=job.rows)
    return with_asked_threshold(model, config)
