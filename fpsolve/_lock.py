"""One writer of a file at a time, on this machine and on others that see it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["locked", "writer_of"]


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}.lock")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only writer of `path`, on this machine and on others that see it; the system ends the lock with the process.

    Raises
    ------
    ValueError
        If another process, or another call in this one, writes to it.
    """
    try:
        import fcntl
    except ImportError:  # not POSIX: a second writer is not noticed
        yield
        return
    lock, tries = _lock_path(path), 5
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            busy = error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
            if busy and tries:  # somebody may just look whether there is a writer
                tries -= 1
                time.sleep(0.02)
                continue
            if not busy:
                raise OSError(
                    error.errno, f"{lock} cannot be locked ({error.strerror}): put the file on a file system that has locks"
                ) from error
            owner = writer_of(path) or "another process"
            raise ValueError(f"{path} is being written by {owner}: wait until it has ended, or give out= another name") from None
        try:
            current = os.stat(lock).st_ino == os.fstat(handle).st_ino  # or else its owner removed it before the lock was ours
        except FileNotFoundError:
            current = False
        if current:
            break
        os.close(handle)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(lock)
        os.close(handle)


def writer_of(path: Path) -> str | None:
    """Who writes to the file at this moment, in words; None if nobody does."""
    try:
        import fcntl

        with open(_lock_path(path), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except OSError:
                text = file.read(300)
    except (ImportError, OSError):
        return None
    try:
        owner = json.loads(text)
        return f"process {int(owner['process'])} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
