"""Files that settings name: what is in them, and whether they have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[str, int, int, int] | tuple[str]

# The last two: a name that no file can have, and the home folder of nobody.
_UNREADABLE = (OSError, ValueError, RuntimeError)


def contents(files: Iterable[Path]) -> tuple[str, ...]:
    """The digest of each file."""
    return tuple(map(digest, files))


def stamps(files: Iterable[Path]) -> tuple[Stamp, ...]:
    """What changes when one of the files does. A link is followed: Kubernetes changes a config map by changing one."""
    return tuple(_stamp(file) for file in files)


def digest(file: Path) -> str:
    """Of what is in a file, in hex; "" where it cannot be read."""
    try:
        return hashlib.sha256(file.expanduser().read_bytes()).hexdigest()
    except _UNREADABLE:
        return ""


def _stamp(file: Path) -> Stamp:
    try:
        found = file.expanduser().stat()
    except _UNREADABLE:
        return (str(file),)
    return str(file), found.st_ino, found.st_mtime_ns, found.st_size
