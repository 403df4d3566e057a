"""`leanet serve`: the service on a port."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from leanet.config import ServeConfig
from leanet.errors import UserError, install
from leanet.model.anomaly_model import AnomalyModel
from leanet.reading import read_text

_log = logging.getLogger(__name__)

MAX_TOKEN = 4096
"""Most bytes of a token file; a request's header can hold about four times that."""

NEEDED = ("fastapi", "uvicorn", "python_multipart", "fastapi_offline")


def serve(config: ServeConfig, load: Callable[[], AnomalyModel]) -> int:
    """Answer requests until stopped.

    Args:
        config: address and limits.
        load: loads the model, once the port is open.
    Raises:
        UserError: the extra `serve` is missing, the port is in use, no such model, or an empty token.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{name} is missing. {install('serve')}")
    import uvicorn

    from leanet.serve.connections import server_settings
    from leanet.serve.service import make_app

    token = None if config.token_file is None else read_token(config.token_file)
    with _bound(config.host, config.port) as listening:
        hosts = ("localhost", "127.0.0.1", "[::1]", config.host) if _is_loopback(config.host) else ("*",)
        app = make_app(load(), config, token, hosts)
        _log.info(f"{config.model}: http://{_shown(listening)}   (API: /docs; stop with Ctrl-C)")
        if token is None and not _is_loopback(config.host):
            _log.info("anyone who reaches this address can use the service; --token-file restricts it")
        server = uvicorn.Server(server_settings(app, config.timeout))
        server.run(sockets=[listening])
    return 0 if server.started else 1


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
