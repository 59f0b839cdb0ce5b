"""JSON documents out of payloads that need not be one clean document each. Pure, and total: no bytes raise.

Providers and their relays send what strict JSON forbids (half characters, control characters, lone surrogates,
Infinity), several documents in a row, and documents that break off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

_STRICT: Final = msgspec.json.Decoder()
_LENIENT: Final = json.JSONDecoder(strict=False)
_SPACE: Final = " \t\r\n,"
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
# A field of an event stream before a document: providers forget the empty line between events.
_FIELD: Final = re.compile(rb"data:\s*")
# What decides how an unfinished document is closed; an escape hides whatever follows it.
_STRUCTURE: Final = re.compile(rb'\\.|["{}\[\],]', re.DOTALL)
_CLOSER: Final = {b"{": b"}", b"[": b"]"}

DONE: Final = b"[DONE]"
_BEGINNINGS: Final = (b"{", b"[", b"data:")


def decode(payload: bytes) -> Any:
    """A JSON document; None where it is none, or only the beginning of one."""
    try:
        return _STRICT.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return _clean(_LENIENT.decode(payload.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None


def several(payload: bytes) -> Iterator[Any]:
    """The documents of a payload that is not one itself: joined, or a line each. DONE for the sign of a stream's end.

    A line has to begin with one: an object inside something else is no document.
    """
    found = False
    for line in _LINE_END.split(payload):
        if line.startswith(_BEGINNINGS):
            for document in _joined(_FIELD.sub(b"", line, count=1)):
                found = True
                yield document
    if not found:
        yield from _joined(payload)


def _joined(payload: bytes) -> Iterator[Any]:
    """Documents one behind the other, up to where there is none."""
    if payload.strip() == DONE:
        yield DONE
        return
    content, at = payload.decode("utf-8", "replace"), 0
    while at < len(content):
        if content[at] in _SPACE:
            at += 1
            continue
        try:
            document, at = _LENIENT.raw_decode(content, at)
        except (ValueError, RecursionError):
            return
        if isinstance(document, (dict, list)):
            yield _clean(document)


def beginning(payload: bytes) -> Any:
    """What a document says that breaks off; None where it says nothing yet. No number in it can be trusted."""
    stack: list[bytes] = []
    quoted, safe, safe_stack = False, 0, b""
    for match in _STRUCTURE.finditer(payload):
        sign = match[0]
        if sign == b'"':
            quoted = not quoted
        elif quoted or len(sign) > 1:
            continue
        elif sign in _CLOSER:
            stack.append(_CLOSER[sign])
            safe, safe_stack = match.end(), b"".join(reversed(stack))
        elif sign == b",":
            safe, safe_stack = match.start(), b"".join(reversed(stack))
        elif stack:
            stack.pop()
    if not stack:
        return None
    closers = b"".join(reversed(stack))
    for end in (b'"', b"") if quoted else (b"",):
        document = decode(_without_half_escape(payload, quoted=quoted) + end + closers)
        if document is not None:
            return document
    return decode(payload[:safe] + safe_stack)


def _without_half_escape(payload: bytes, *, quoted: bool) -> bytes:
    return re.sub(rb"\\(?:u[0-9a-fA-F]{0,3})?$", b"", payload) if quoted else payload


def _clean(value: Any) -> Any:
    """The same without what cannot be written as JSON again."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(item) for name, item in value.items()}
    return value
