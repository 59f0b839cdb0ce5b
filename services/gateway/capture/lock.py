"""The lock of a journal's folder: a live process has it, a dead one's is free."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_LOCK = "lock"


def try_lock(folder: Path) -> int | None:
    """The folder's lock, an open file; None where a live process has it, or the folder is gone."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
