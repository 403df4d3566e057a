"""Ray: connect to a cluster, and find out what its nodes can do for this machine. Needs no torch."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from leanet import __version__
from leanet.errors import OptionError, UserError
from leanet.files import OWN

RETRIES = 3
"""Times that Ray starts a task again whose process or node died."""

QUEUED = 2
"""Tasks in flight for each that can run."""

PATIENCE = 5.0
"""Seconds in which a cluster must take a connection."""

SLOWEST_NODE = 300.0
"""Seconds in which a node must start a process and look at the shared folder."""

Node = Mapping[str, Any]
"""A node as `ray.nodes` describes it."""


@dataclass(frozen=True)
class Share:
    """What each task has of a node.

    Attributes:
        threads: cores, which are also the threads that it computes with.
        gpus: GPUs, or a share of one.
        memory: in gigabytes; None: not counted.
    """

    threads: int
    gpus: float | None = None
    memory: float | None = None

    def nodes(self) -> list[Node]:
        """The nodes that have room for a task.

        Raises:
            UserError: there is none.
        """
        if found := [node for node in ray_package().nodes() if node["Alive"] and self._room(node)]:
            return found
        raise UserError(f"--executor ray: no node has {self._asked()} for a task. Ask for less, or add a node.")

    def slots(self) -> int:
        """Tasks that can run at once, at least 1; the number of nodes changes."""
        return sum(self._room(node) for node in ray_package().nodes() if node["Alive"]) or 1

    def on_nodes(self) -> str:
        """How many tasks run at once, in words: '4 tasks at a time, 1 thread each on 2 nodes'."""
        nodes = self.nodes()
        on = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
        return f"{at_a_time(sum(map(self._room, nodes)), self.threads)} on {on}"

    def options(self) -> dict[str, Any]:
        """Ray's options of such a task, which starts again if its process or node dies."""
        wanted = self._wanted()
        asked = {"num_cpus": wanted["CPU"], "num_gpus": wanted.get("GPU", 0), "max_retries": RETRIES}
        return asked | ({"memory": wanted["memory"]} if "memory" in wanted else {})

    def _room(self, node: Node) -> int:
        """Tasks that a node can run at once."""
        there = node["Resources"]
        return min(int(there.get(name, 0) / amount) for name, amount in self._wanted().items())

    def _wanted(self) -> dict[str, float]:
        """The resources of a task, by Ray's names of a node's."""
        named = {"CPU": self.threads, "GPU": self.gpus, "memory": int((self.memory or 0) * 1e9)}
        return {name: amount for name, amount in named.items() if amount}

    def _asked(self) -> str:
        words = [f"--num-cpus {self.threads}"]
        words += [f"--num-gpus {self.gpus:g}"] if self.gpus else []
        words += [f"--memory {self.memory:g}"] if self.memory else []
        return ", ".join(words)


def at_a_time(tasks: int, threads: int) -> str:
    """How many tasks run at once, in words: '2 tasks at a time, 1 thread each'."""
    counted = ((tasks, "task"), (threads, "thread"))
    at_once, each = (f"{n} {word}{'' if n == 1 else 's'}" for n, word in counted)
    return f"{at_once} at a time, {each} each"


def ray_package() -> Any:
    """Ray, which takes a second to import."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return importlib.import_module("ray")


def connect(address: str | None) -> None:
    """Connect to a cluster, or start Ray on this machine; nothing if Ray is initialized.

    Raises:
        OptionError: Ray is not installed, or no cluster is at the address, or one of another version of Ray or
            Python.
        UserError: Ray does not start here.
    """
    if importlib.util.find_spec("ray") is None:
        raise OptionError("executor", "ray", 'Ray is not installed. pip install "leanet[ray]"')
    ray = ray_package()
    if ray.is_initialized():
        return
    if address and address != "auto":
        _refuse_silent(address)
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many types, Exception itself among them
        said = str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")
        if address is None:
            raise UserError(f"--executor ray: Ray does not start on this machine ({said}). Try again.") from None
        raise OptionError("address", address, f"no cluster ({said}). Start one with `ray start --head`.") from None


def _refuse_silent(address: str) -> None:
    """Raise OptionError if nothing listens at the address: Ray would try for half a minute."""
    try:
        place = urlsplit(address if "//" in address else f"//{address}")
        if place.scheme not in ("", "ray") or not place.hostname or not place.port:
            raise ValueError
        socket.create_connection((place.hostname, place.port), PATIENCE).close()
    except ValueError:
        raise OptionError(
            "address", address, "expected auto, or ray://HOST:PORT such as ray://head:10001."
        ) from None
    except OSError as error:
        said = error.strerror or "no answer"
        raise OptionError(
            "address", address, f"no cluster there ({said}). Start it, or correct the address."
        ) from None


def check_nodes(nodes: Sequence[Node], folder: Path, packages: Sequence[str], others: Sequence[str] = ()) -> None:
    """Look from every node at the folder that the tasks write to.

    Args:
        packages: those that every node needs in this machine's version, besides leanet; one that this machine has
            under another name, as builds for a GPU are, is not compared.
        others: further paths that the tasks read.
    Raises:
        UserError: a node does not see a path, or lacks this version of a package; the node is named.
    """
    ray = ray_package()
    strategy = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    here = {"leanet": __version__}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            here[name] = version(name)
    with _marked(folder) as (path, secret):
        looks = [
            ray.remote(_looker())
            .options(num_cpus=0, name=f"look at {folder}", scheduling_strategy=strategy(node["NodeID"], soft=False))
            .remote(str(Path.cwd()), str(path), list(here), list(others))
            for node in nodes
        ]
        for node, look in zip(nodes, looks, strict=True):
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                read, versions, missing = ray.get(look, timeout=SLOWEST_NODE)
            except ray.exceptions.RayError as error:
                if not any(other["Alive"] and other["NodeID"] == node["NodeID"] for other in ray.nodes()):
                    continue  # it has died since, and gets no task
                said = str(error).strip().split("\n")[-1]
                raise UserError(f"node {name}: no process starts there ({said}). Remove the node.") from None
            unseen = [str(folder)] if read != secret else missing
            if wrong := complaint(unseen, versions, here):
                raise UserError(f"node {name}: {wrong}")


def complaint(unseen: Sequence[str], there: Mapping[str, str | None], here: Mapping[str, str]) -> str | None:
    """What is wrong with a node, and the remedy; None if nothing is.

    Args:
        unseen: paths that it does not see, or sees as others.
        there, here: versions of packages on the node, None for one it lacks, and on this machine.
    """
    for name, needed in here.items():
        if there[name] is None:
            return f'{name} is not installed there. Install leanet {__version__}: pip install "leanet[ray]"'
        if there[name] != needed:
            return f"has {name} {there[name]}, and this machine {needed}. Install the same version."
    if unseen:
        return (
            f"does not see {unseen[0]}. Put --out and what the command reads where all nodes have the same path to "
            "them."
        )
    return None


@contextlib.contextmanager
def none_left() -> Iterator[None]:
    """Make it a UserError if Ray gives up on a task whose processes or nodes died; a defect stays as it is."""
    ray = ray_package()
    try:
        yield
    except ray.exceptions.RayTaskError:
        raise  # with the node's traceback
    except ray.exceptions.RayError as error:
        said = " ".join(str(error).split())
        raise UserError(f"--executor ray: a task's process died {RETRIES + 1} times: {said}") from None


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[tuple[Path, str]]:
    """A file in a folder, while the context lasts, and its content, which no other folder has."""
    secret = secrets.token_hex(16)
    path = folder / f"{OWN}shared-{secret[:8]}"
    path.write_text(secret, encoding="ascii")
    try:
        yield path, secret
    finally:
        path.unlink(missing_ok=True)


Look = tuple[str, dict[str, str | None], list[str]]
"""What a node reads in the folder, its versions of packages, and paths that it does not see."""


def _looker() -> Callable[[str, str, list[str], list[str]], Look]:
    """A function that Ray sends as code, because a node may lack leanet: it uses the standard library alone."""

    def look(directory: str, path: str, packages: list[str], others: list[str]) -> Look:
        import contextlib
        import importlib
        import os
        from importlib.metadata import version

        versions: dict[str, str | None] = dict.fromkeys(packages)
        for name in packages:
            with contextlib.suppress(ImportError):
                versions[name] = version(name) if name != "leanet" else importlib.import_module(name).__version__
        with contextlib.suppress(OSError):
            os.chdir(directory)
        content = ""
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:  # noqa: PTH123
            content = file.read()
        return content, versions, [other for other in others if not os.path.exists(other)]  # noqa: PTH110

    return look
