"""Files that settings name: what is in them, and whether they have changed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_MOST_BYTES = 16 * 1024 * 1024

Stamp = tuple[str, int, int, int] | tuple[str]

# The last two: a name that no file can have, and the home folder of nobody.
_UNREADABLE = (OSError, ValueError, RuntimeError)


def read(file: Path) -> bytes:
    """What is in a file. OSError where it cannot be read, is larger than 16 MiB, or is something that may have no end,
    such as a pipe or a device."""
    # Without O_NONBLOCK, the opening of a pipe waits for a writer.
    with os.fdopen(os.open(file.expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        kind = os.fstat(opened.fileno()).st_mode
        if not stat.S_ISREG(kind):
            code = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
            raise OSError(code, os.strerror(code) if code == errno.EISDIR else "Not a regular file", str(file))
        data = opened.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    return data


def contents(files: Iterable[Path]) -> tuple[str, ...]:
    """The digest of each file."""
    return tuple(map(digest, files))


def stamps(files: Iterable[Path]) -> tuple[Stamp, ...]:
    """What changes when one of the files does. A link is followed: Kubernetes changes a config map by changing one."""
    return tuple(_stamp(file) for file in files)


def digest(file: Path) -> str:
    """Of what is in a file, in hex; "" where it cannot be read."""
    try:
        return hashlib.sha256(read(file)).hexdigest()
    except _UNREADABLE:
        return ""


def _stamp(file: Path) -> Stamp:
    try:
        found = file.expanduser().stat()
    except _UNREADABLE:
        return (str(file),)
    return str(file), found.st_ino, found.st_mtime_ns, found.st_size
