"""Mends the end of an append-only file before a server loads it (decision 64).

A script's writes stand between MULTI and EXEC. Where a file ends inside a command between them, servers before Valkey
9.1.2 and every Redis cut off that command alone. The MULTI stays open in the file, and the next load runs what was left
of the script.
"""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

_FOLDER = "appendonlydir"
_MANIFEST = "appendonly.aof.manifest"
_LONGEST_LINE = 32
_MULTI, _EXEC = b"MULTI", b"EXEC"

log = logging.getLogger(__name__)


class _Unknown(Exception):
    """Not what a server appends; the server itself has to judge it."""


def mend(folder: Path) -> int:
    """Cut off what is torn or unfinished at the end of the newest file of a server's data folder.

    Returns how many bytes were cut off; 0 as well where there is no such file, or where it cannot be read.
    """
    path = _newest(folder / _FOLDER)
    if path is None or path.stat().st_size == 0:
        return 0
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            size, whole = len(data), whole_until(data)
    except _Unknown:
        return 0
    if whole < size:
        os.truncate(path, whole)
        log.warning(
            "%s: cut off its last %d bytes, which are torn or belong to an unfinished script", path, size - whole
        )
    return size - whole


def whole_until(data: mmap.mmap | bytes) -> int:
    """Up to where the file is whole: behind the last command that is complete, with its transaction."""
    whole, inside = 0, False
    for name, end in _commands(data):
        if name == _EXEC:
            inside = False
        elif name == _MULTI:
            inside = True
        if not inside:
            whole = end
    return whole


def _commands(data: mmap.mmap | bytes) -> Iterator[tuple[bytes, int]]:
    """The name of each complete command, and where it ends."""
    at, size = 0, len(data)
    while at < size:
        if data[at : at + 1] == b"#":  # an annotation, as of the time
            at = data.find(b"\n", at) + 1
            if not at:
                return
            continue
        count, at = _number(data, at, b"*")
        name = b""
        for place in range(count):
            length, at = _number(data, at, b"$")
            if at < 0:
                return
            if not place:
                name = data[at : at + length].upper()
            at += length + 2
        if at < 0 or at > size:
            return
        yield name, at


def _number(data: mmap.mmap | bytes, at: int, mark: bytes) -> tuple[int, int]:
    """The number of a line, and where the next one begins; (0, -1) where the file ends before."""
    end = data.find(b"\r\n", at, at + _LONGEST_LINE)
    line = data[at : at + _LONGEST_LINE if end < 0 else end]
    torn = end < 0 and len(line) < _LONGEST_LINE
    if line[:1] not in (mark, b"") or not (torn or line[1:].isdigit()):
        raise _Unknown
    return (0, -1) if torn else (int(line[1:]), end + 2)


def _newest(folder: Path) -> Path | None:
    """The file that a server appends to, by its manifest."""
    try:
        lines = (folder / _MANIFEST).read_text().split("\n")
    except OSError:
        return None
    words = [line.split(" ") for line in lines]
    fields = [dict(zip(line[::2], line[1::2], strict=False)) for line in words]  # servers add fields of their own
    names = [field["file"] for field in fields if field.get("type") == "i" and "file" in field]
    path = folder / names[-1] if names else None
    return path if path is not None and path.is_file() else None
