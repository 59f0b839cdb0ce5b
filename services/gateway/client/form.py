"""The model of a multipart form (RFC 7578), found in its bytes. Pure.

Forms come with audio and images. `model` is one short part among them, and may stand behind the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

_TYPE = re.compile(r"\s*multipart/form-data\s*;", re.IGNORECASE)
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\\]{1,70})"|([^\s;"]{1,70}))\s*(?=;|$)', re.IGNORECASE)
_HEAD_BYTES = 8 * 1024  # of one part
_MOST_PARTS = 1000
_PARAMETER = re.compile(rb';[ \t]*([\w*-]+)=(?:"([^"\\]*)"|([^\s;"]+))')
_DISPOSITION, _TRANSFER = b"content-disposition", b"content-transfer-encoding"
_LONGEST = 4 * 1024  # bytes of a value that is read


class Field(NamedTuple):
    """A field of a form: its value is `form[start:end]`."""

    name: str  # "" where it is not clear
    start: int
    end: int


class Unclear(Exception):
    """Parsers may see other parts in this form than we do."""


def boundary(content_type: str) -> bytes | None:
    """The boundary of a multipart form; None where it is none, or its boundary is not clear."""
    found = _BOUNDARY.findall(content_type) if _TYPE.match(content_type) else []
    return (found[0][0] or found[0][1]).encode("latin-1") if len(found) == 1 else None


def fields(form: bytes, mark: bytes) -> Iterator[Field]:
    """The fields of a form whose boundary is `mark`, as far as they are whole.

    Unclear, behind the last clear one, where delimiters or heads are not as RFC 7578 has them.
    """
    delimiter = b"--" + mark
    start = -1  # of the part before the next delimiter
    for count, found in enumerate(re.finditer(re.escape(delimiter), form)):
        at = found.start()
        if count > _MOST_PARTS or start == len(form) or (at and form[at - 2 : at] != b"\r\n"):
            raise Unclear
        if start >= 0:
            yield _field(form, start, at - 2)
        behind = form[found.end() : found.end() + 2]
        start = found.end() + 2 if behind == b"\r\n" else len(form)
        if behind not in (b"\r\n", b"--"):
            raise Unclear


def names_one_model(form: bytes, mark: bytes) -> bool:
    """Whether a whole form names one model, once, whoever parses it."""
    try:
        named = [field.name for field in fields(form, mark)]
    except Unclear:
        return False
    return all(named) and [name for name in named if name.partition("[")[0].lower() in ("model", "models")] == ["model"]


def last(form: bytes, mark: bytes, name: str) -> Field | None:
    """The last field with a name, as far as the form is here and clear; None where there is none."""
    found = None
    with suppress(Unclear):
        for field in fields(form, mark):
            if field.name == name and field.end - field.start <= _LONGEST:
                found = field
    return found


def _field(form: bytes, start: int, end: int) -> Field:
    at = form.find(b"\r\n\r\n", start, min(end, start + _HEAD_BYTES))
    if at < 0:
        return Field("", start, end)
    head = form[start:at]
    lines = [line.partition(b":") for line in head.split(b"\r\n")]
    names = [line[0].strip().lower() for line in lines]
    folded = any(line[0][:1] in b" \t" for line in lines)
    bare = head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1
    if folded or bare or b"\\" in head or names.count(_DISPOSITION) != 1 or _TRANSFER in names:
        return Field("", start, end)
    named = [
        found
        for found in _PARAMETER.findall(lines[names.index(_DISPOSITION)][2])
        if found[0].lower() in (b"name", b"name*")
    ]
    name = (named[0][1] or named[0][2]) if len(named) == 1 and named[0][0].lower() == b"name" else b""
    return Field(name.decode("utf-8", "replace"), at + 4, end)
