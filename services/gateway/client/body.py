"""The only two changes ever made to a request's JSON body. Pure.

A change replaces the bytes of one value, found by scanning the top level, and leaves every other byte as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from services.gateway.client.flags import read_flags

# Whole strings, and the brackets between them: a scanner of the top level needs no more.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]*")')
_COLON = re.compile(rb"\s*:\s*")
_SCALAR = re.compile(rb"[^\s,}]+")


def names_one_model(body: bytes) -> bool:
    """Whether a body names one model, once: parsers disagree on repeated names and on their case."""
    names = [_name(text).lower() for text in _names(body)]
    return names.count("model") == 1 and "models" not in names


def with_model(body: bytes, model: str) -> bytes:
    """The same body with another model name."""
    encoded = msgspec.json.encode(model)
    only = _MODEL.search(body) if body.count(b'"model"') == 1 else None
    if only is not None:
        changed = body[: only.start(1)] + encoded + body[only.end(1) :]
        if read_flags(changed).model == model:  # it was the name at the top level; the decoder is faster than the scan
            return changed
    for start, end in reversed(_values(body, b'"model"')):
        body = body[:start] + encoded + body[end:]
    return body


def with_usage_asked(body: bytes) -> bytes:
    """The same body with `stream_options.include_usage` set; the client must not have set it."""
    spans = _values(body, b'"stream_options"')
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
    start: int | None = None  # of a value that is a bracket, until it closes
    skip_to = 0
    for token in _TOKEN.finditer(body):
        if token.start() < skip_to:
            continue
        text = token[0]
        if text in (b"{", b"["):
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
            if depth == 1 and start is not None:
                spans.append((start, token.end()))
                start = None
        elif depth == 1 and _is_name(text, name):
            colon = _COLON.match(body, token.end())
            if colon is None:
                continue  # a string value that happens to be the name
            first = body[colon.end() : colon.end() + 1]
            if first in (b"{", b"["):
                start = colon.end()
                continue
            value = (_TOKEN if first == b'"' else _SCALAR).match(body, colon.end())
            if value is not None:
                spans.append(value.span())
                skip_to = value.end()
    return spans


def _names(body: bytes) -> Iterator[bytes]:
    """The names at the top level of a JSON object, undecoded."""
    depth = 0
    for token in _TOKEN.finditer(body):
        if token[0] in (b"{", b"["):
            depth += 1
        elif token[0] in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and _COLON.match(body, token.end()):
            yield token[0]


def _name(text: bytes) -> str:
    try:
        return str(msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""  # not a valid string; the decoder of the flags has skipped it


def _is_name(text: bytes, name: bytes) -> bool:
    if text == name or b"\\" not in text:
        return text == name
    return msgspec.json.encode(_name(text)) == name
