"""`leanet serve`: the service on a port."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from leanet.config import ServeConfig
from leanet.data.threads import processors
from leanet.errors import UserError, install
from leanet.model.anomaly_model import AnomalyModel
from leanet.reading import read_text

_log = logging.getLogger(__name__)

MAX_TOKEN = 4096
"""Most bytes of a token file; a request's header can hold about four times that."""

NEEDED = ("fastapi", "uvicorn", "python_multipart", "fastapi_offline", "prometheus_client")


class Load(Protocol):
    """Loads a model for so many threads; it is pickled if there are several processes."""

    def __call__(self, path: Path, *, at_once: int) -> AnomalyModel:
        """The model at a path."""


@dataclass(frozen=True)
class _Job:
    """What a process of the service does, in a form that can be sent to it."""

    config: ServeConfig
    load: Load
    token: str | None
    listening: socket.socket

    def at_once(self) -> int:
        """Predictions at once in a process on the CPU: a processor each, and two at least.

        While the answer to one is written, the other computes.
        """
        return max(2, processors() // self.config.workers)

    def answer(self, on_ready: Callable[[], None] | None = None) -> int:
        """Load the models, and answer requests until a signal."""
        from leanet.serve.connections import server_settings
        from leanet.serve.ending import EndingServer
        from leanet.serve.models import named_models
        from leanet.serve.service import make_app

        config = self.config
        at_once = self.at_once()
        models = {name: self.load(path, at_once=at_once) for name, path in named_models(config).items()}
        loopback = _is_loopback(config.host)
        app = make_app(
            models, config, self.token, ("localhost", "127.0.0.1", "[::1]", config.host) if loopback else ("*",)
        )
        if config.workers == 1:
            self.tell(next(iter(models.values())).at_once)
        server = EndingServer(server_settings(app, config.timeout), app.state.door, config.timeout, on_ready)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when it has ended
        server.run(sockets=[self.listening])
        return 0 if server.started else 1

    def answer_and_tell(self, told: Connection) -> None:
        """Answer as one process of several."""
        from leanet.console import stdout
        from leanet.serve.workers import READY

        stdout.quiet = True  # what the first process tells, the others need not
        try:
            self.answer(lambda: told.send(READY))
        except UserError as error:
            told.send(error.on_command_line)

    def tell(self, at_once: int) -> None:
        """Log where the service listens, and how it computes."""
        config = self.config
        models = ", ".join(map(str, (config.model, *config.more)))
        _log.info(f"{models}: http://{_shown(self.listening)}   (API: /docs; stop with Ctrl-C)")
        processes = "1 process" if config.workers == 1 else f"{config.workers} processes"
        each = "" if config.workers == 1 else " in each"
        _log.info(f"{processes}, {at_once} prediction{'s' * (at_once > 1)} at once{each}")
        if self.token is None and not _is_loopback(config.host):
            _log.info("anyone who reaches this address can use the service; --token-file restricts it")


def serve(config: ServeConfig, load: Load) -> int:
    """Answer requests until stopped.

    Args:
        config: address, limits and number of processes.
        load: loads a model, once the port is open.
    Raises:
        UserError: the extra `serve` is missing, the port is in use, no such model, two models with one name, an
            empty token, or a file of labels that another service writes or that holds something else.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{name} is missing. {install('serve')}")
    from leanet.serve.labels import LabelFile
    from leanet.serve.models import named_models
    from leanet.serve.workers import supervise

    named_models(config)
    token = None if config.token_file is None else read_token(config.token_file)
    kept = contextlib.nullcontext() if config.labels is None else LabelFile(config.labels).kept()
    with kept, _bound(config.host, config.port) as listening:
        job = _Job(config, load, token, listening)
        if config.workers == 1:
            return job.answer()
        return supervise(config.workers, job.answer_and_tell, config.timeout, lambda: job.tell(job.at_once()))


def read_token(path: Path) -> str:
    """The secret in a file, without surrounding spaces.

    Raises:
        UserError: not a regular file, an empty one, or one larger than MAX_TOKEN.
    """
    try:
        token = read_text(path, MAX_TOKEN).strip()
    except OSError as error:
        raise UserError(f"--token-file {path}: cannot be read ({error.strerror}). Name a text file.") from None
    if not token or not token.isascii() or not token.isprintable():
        raise UserError(f"--token-file {path}: expected one line of ASCII characters. Write a secret into it.")
    return token


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        if sys.platform != "win32":  # on Windows, it would let two processes listen on one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({reason}). Try another --port."
        ) from None
    return listening


def _shown(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
