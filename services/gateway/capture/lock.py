"""The lock of a journal's folder: a live process holds it, and the system frees it when the process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_LOCK = "lock"


def try_lock(folder: Path) -> int | None:
    """Lock a folder: the lock's open file; None where a live process holds it, or the folder is gone."""
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
