"""One command at a time in a folder: a lock that the operating system releases when the process ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from leanet.errors import UserError
from leanet.files import OWN
from leanet.ranks import is_first

_log = logging.getLogger(__name__)

LOCK = f"{OWN}lock"
"""The lock file; it names the holder and is removed at the end."""

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""Error numbers of a file system without locks."""


@contextlib.contextmanager
def alone_in(folder: Path, *, wait: bool = False, name: str = LOCK) -> Iterator[None]:
    """Lock a folder against other processes; the holder may take the lock again.

    A missing folder is created, and removed at the end if it is still empty. In a training with several processes,
    the first takes the lock for all.

    Args:
        wait: wait for another process instead of failing.
        name: name of the lock file; not LOCK to lock only one thing in the folder.
    Raises:
        UserError: another process uses the folder, or the folder cannot be written.
    """
    if not is_first():
        yield
        return
    place = folder.resolve()
    made = [each for each in (place, *place.parents) if not each.exists()]
    file = place / name
    lock = FileLock(file, is_singleton=True, fallback_to_soft=False, on_acquired=_sign)
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise UserError(
            f"{folder}: in use by {_holder(file)}. Wait until it ends, or choose another folder."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise UserError(f"{folder}: cannot write there ({error.strerror}). Choose another folder.") from None
        _log.info(
            f"note: {folder}: its file system has no locks. Do not start another command there until this one ends."
        )
    try:
        yield
    finally:
        if lock.lock_counter <= 1:
            file.unlink(missing_ok=True)  # before the release, after which it may be another process's
        if lock.is_locked:
            lock.release()
        for each in made:
            with contextlib.suppress(OSError):  # not empty
                each.rmdir()


def _sign(descriptor: int) -> None:
    """Write the holder into the lock file when the lock is first taken."""
    name, *arguments = sys.argv
    command = shlex.join([Path(name).name, *arguments])
    since = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    text = f"`{command[:200]}` (process {os.getpid()} on {socket.gethostname()}, since {since})"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode("utf-8", "replace"), 0)


def _holder(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            text = stream.read(500).decode("utf-8", "replace")
    except OSError:
        text = ""
    return " ".join(text.split()) or "another process"
