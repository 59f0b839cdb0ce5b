"""JSON documents out of payloads that need not be one clean document each. Pure, and total: no bytes raise.

Providers and their relays send what strict JSON forbids (half characters, control characters, lone surrogates,
Infinity), several documents in a row, and documents that break off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
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
_DEEPEST: Final = 1000  # brackets: Python's own limit of recursion
_MOST_BEGUN: Final = 4 * 1024 * 1024  # bytes that are looked at of a document that breaks off

# Where a document ends with its report, as JSON answers do: not behind a backslash, which stands inside strings.
_REPORT: Final = re.compile(rb'(?<!\\)"(?:usage|usageMetadata|meta)"\s*:\s*\{')
_COLON: Final = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_COMMA: Final = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_LAST_BRACKETS: Final = re.compile(r"[ \t\r\n]*\}[ \t\r\n]*\]?[ \t\r\n]*")
_MOST_ENDING: Final = 256 * 1024
_MOST_REPORTS: Final = 16

DONE: Final = b"[DONE]"
_LARGE: Final = 2 * 1024 * 1024  # bytes; smaller documents are decoded without a look
_MOST_VALUES: Final = 1_000_000
_MOST_LENIENT: Final = 8 * 1024 * 1024  # bytes that are read in Python: a character takes up to four, and then again
_MOST_JOINED: Final = 10_000  # documents in a row; relays join two or three
_BEGINNINGS: Final = (b"{", b"[", b"data:")


def decode(payload: bytes) -> Any:
    """A JSON document; None where it is none, or only the beginning of one.

    Of one with millions of values, as embeddings have, the members that hold them are None.
    """
    if len(payload) > _LARGE and _values(payload) > _MOST_VALUES:
        return _without_large_members(payload)
    try:
        return _STRICT.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    if len(payload) > _MOST_LENIENT:
        return None
    try:
        return _clean(_LENIENT.decode(payload.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None


def _values(payload: bytes) -> int:
    """At most how many values a document has. Two bytes of text may become sixty of memory."""
    return payload.count(b",") + payload.count(b"[") + payload.count(b"{")


def _without_large_members(payload: bytes) -> Any:
    try:
        members = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    values = {name: bytes(raw) for name, raw in members.items()}
    return {name: decode(value) if _values(value) <= _MOST_VALUES else None for name, value in values.items()}


def several(payload: bytes) -> Iterator[Any]:
    """The documents of a payload that is not one itself: joined, or a line each. DONE for the sign of a stream's end.

    A line has to begin with one: an object inside something else is no document.
    """
    found, payload = False, payload[:_MOST_LENIENT]
    for line in _LINE_END.split(payload):
        if line.startswith(_BEGINNINGS):
            for document in islice(_joined(_FIELD.sub(b"", line, count=1)), _MOST_JOINED):
                found = True
                yield document
    if not found:
        yield from islice(_joined(payload), _MOST_JOINED)


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
            document = _clean(document)
        except (ValueError, RecursionError):
            return
        if isinstance(document, (dict, list)):
            yield document


def beginning(payload: bytes) -> Any:
    """What a document says that breaks off; None where it says nothing yet. No number in it can be trusted."""
    payload = payload[:_MOST_BEGUN]
    stack, quoted, safe = _open_at(payload, len(payload))
    if not stack or len(stack) > _DEEPEST:
        return None
    closers = b"".join(reversed(stack))
    for end in (b'"', b"") if quoted else (b"",):
        document = decode(_without_half_escape(payload, quoted=quoted) + end + closers)
        if document is not None:
            return document
    stack, _, _ = _open_at(payload, safe)
    return decode(payload[:safe] + b"".join(reversed(stack)))


def _open_at(payload: bytes, end: int) -> tuple[list[bytes], bool, int]:
    """What closes the brackets that are open there, whether a string is, and where the last value before it ended."""
    stack: list[bytes] = []
    quoted, safe = False, 0
    for match in _STRUCTURE.finditer(payload, 0, end):
        sign = match[0]
        if sign == b'"':
            quoted = not quoted
        elif quoted or len(sign) > 1:
            continue
        elif sign in _CLOSER:
            stack.append(_CLOSER[sign])
            safe = match.end()
            if len(stack) > _DEEPEST:
                break  # no decoder reads that
        elif sign == b",":
            safe = match.start()
        elif stack:
            stack.pop()
    return stack, quoted, safe


def ending(payload: bytes) -> Mapping[str, Any] | None:
    """The last members of a document whose beginning is missing, from its report on; None where that cannot be seen.

    Only the members of the document itself: a report that stands deeper may be one of many.
    """
    for match in islice(_REPORT.finditer(payload[-_MOST_ENDING:]), _MOST_REPORTS):
        members = _members(payload[-_MOST_ENDING:][match.start() :].decode("utf-8", "replace"))
        if members is not None:
            return members
    return None


def _members(content: str) -> Mapping[str, Any] | None:
    """The members in `"name": value, …}` that ends a document, or the last element of an array."""
    found: dict[str, Any] = {}
    at = 0
    try:
        while True:
            name, at = _LENIENT.raw_decode(content, at)
            colon = _COLON.match(content, at)
            if colon is None or not isinstance(name, str):
                return None
            value, at = _LENIENT.raw_decode(content, colon.end())
            found[name] = _clean(value)
            comma = _COMMA.match(content, at)
            if comma is None:
                return found if _LAST_BRACKETS.fullmatch(content, at) else None
            at = comma.end()
    except (ValueError, RecursionError):
        return None


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
