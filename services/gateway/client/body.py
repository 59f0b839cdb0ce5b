"""The only two changes ever made to a request's JSON body. Pure.

A change replaces the bytes of one value, found by scanning the top level, and leaves every other byte as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from services.gateway.client.flags import read_flags
from services.gateway.client.json_tokens import CLOSING, COLON, OPENING, tokens

_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]*")')
_SCALAR = re.compile(rb"[^\s,}]+")


def names_one_model(body: bytes) -> bool:
    """Whether a body names one model, once: parsers disagree on repeated names and on their case."""
    plain = body.lower()
    if plain.count(b'"model"') == 1 and b'"models"' not in plain and not _ESCAPED_LETTER.search(body):
        return read_flags(body).model is not None  # the usual case; the decoder is faster than the scan
    names = [_name(text).lower() for text in _names(body)]
    return names.count("model") == 1 and "models" not in names


def with_model(body: bytes, model: str) -> bytes:
    """The same body with another model name."""
    encoded = msgspec.json.encode(model)
    only = _MODEL.match(body, body.find(b'"model"')) if body.count(b'"model"') == 1 else None
    if only is not None:
        changed = body[: only.start(1)] + encoded + body[only.end(1) :]
        if read_flags(changed).model == model:  # it was the name at the top level; the decoder is faster than the scan
            return changed
    parts = []
    at = 0
    for start, end in _values(body, b'"model"'):
        parts += [body[at:start], encoded]
        at = end
    return b"".join([*parts, body[at:]])


def with_usage_asked(body: bytes) -> bytes:
    """The same body with `stream_options.include_usage` set; the client must not have set it."""
    named = b'"stream_options"' in body or b"\\u" in body
    spans = _values(body, b'"stream_options"') if named else []
    if spans and body[spans[-1][0] : spans[-1][0] + 1] == b"{":
        at = spans[-1][0] + 1
        comma = b"" if body[at:].lstrip().startswith(b"}") else b","
        return body[:at] + b'"include_usage":true' + comma + body[at:]
    if spans:  # null
        start, end = spans[-1]
        return body[:start] + b'{"include_usage":true}' + body[end:]
    at = body.index(b"{") + 1
    comma = b"" if body[at:].lstrip().startswith(b"}") else b","
    return body[:at] + b'"stream_options":{"include_usage":true}' + comma + body[at:]


def _values(body: bytes, name: bytes) -> list[tuple[int, int]]:
    """The spans of the values of a top-level name in a JSON object, `(start, end)` each.

    There are several where the name is repeated: parsers disagree on which of them counts, so all are changed.
    """
    spans: list[tuple[int, int]] = []
    depth = 0
    value: int | None = None  # where a value that is a bracket starts, until it closes
    skip_to = 0
    for start, end in tokens(body):
        if start < skip_to:
            continue
        first = body[start]
        if first in OPENING:
            depth += 1
        elif first in CLOSING:
            depth -= 1
            if depth == 1 and value is not None:
                spans.append((value, end))
                value = None
        elif depth == 1 and _is_name(body[start:end], name):
            colon = COLON.match(body, end)
            if colon is None:
                continue  # a string value that happens to be the name
            at = colon.end()
            if body[at : at + 1] in (b"{", b"["):
                value = at
                continue
            skip_to = _scalar_end(body, at)
            spans.append((at, skip_to))
    return spans


def _names(body: bytes) -> Iterator[bytes]:
    """The names at the top level of a JSON object, undecoded."""
    depth = 0
    for start, end in tokens(body):
        first = body[start]
        if first in OPENING:
            depth += 1
        elif first in CLOSING:
            depth -= 1
        elif depth == 1 and COLON.match(body, end):
            yield body[start:end]


def _scalar_end(body: bytes, at: int) -> int:
    """Where the value at `at` ends, which is a string, a number or a word."""
    if body[at : at + 1] == b'"':
        return min(next(tokens(body, at))[1], len(body))
    found = _SCALAR.match(body, at)
    return at if found is None else found.end()


def _name(text: bytes) -> str:
    try:
        return str(msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""  # not a valid string; the decoder of the flags has skipped it


def _is_name(text: bytes, name: bytes) -> bool:
    if text == name or b"\\" not in text:
        return text == name
    return msgspec.json.encode(_name(text)) == name
