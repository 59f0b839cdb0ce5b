"""The only three changes ever made to a request's JSON body. Pure.

A change replaces the bytes of one value, or takes out a field that is for the gateway, found by scanning the top level.
It leaves every other byte as it came.
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
_COMMA = re.compile(rb"\s*,\s*")


def names_one_model(body: bytes, *, listed: bool = False) -> bool:
    """Whether a body names one model, once: parsers disagree on repeated names and on their case. `listed`: beside it
    there may be one list of models."""
    plain = body.lower()
    if plain.count(b'"model"') == 1 and b'"models"' not in plain and not _ESCAPED_LETTER.search(body):
        return read_flags(body).model is not None  # the usual case; the decoder is faster than the scan
    names = [_name(text).lower() for text in _names(body)]
    return names.count("model") == 1 and names.count("models") == listed


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
    for _, start, end in _members(body, b'"model"'):
        parts += [body[at:start], encoded]
        at = end
    return b"".join([*parts, body[at:]])


def without_list(body: bytes) -> bytes:
    """The same body without its list of models, `models` and `route`, and without their commas."""
    parts = []
    at = 0
    comma = True
    for start, _, end in _members(body, b'"models"', b'"route"'):
        parts.append(body[at:start])
        comma = (found := _COMMA.match(body, end)) is not None
        at = found.end() if found is not None else end
    kept = b"".join(parts)
    return (kept if comma else kept.rstrip().removesuffix(b",")) + body[at:]


def with_usage_asked(body: bytes) -> bytes:
    """The same body with `stream_options.include_usage` set; the client must not have set it."""
    named = b'"stream_options"' in body or b"\\u" in body
    spans = [span[1:] for span in _members(body, b'"stream_options"')] if named else []
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


def _members(body: bytes, *names: bytes) -> list[tuple[int, int, int]]:
    """The fields of these names at the top level of a JSON object: `(start, start of the value, end)` each.

    There are several where a name is repeated: parsers disagree on which of them counts, so all are changed.
    """
    spans: list[tuple[int, int, int]] = []
    depth = 0
    open_at: tuple[int, int] | None = None  # where a field starts, and its value that is a bracket, until it closes
    skip_to = 0
    for start, end in tokens(body):
        if start < skip_to:
            continue
        first = body[start]
        if first in OPENING:
            depth += 1
        elif first in CLOSING:
            depth -= 1
            if depth == 1 and open_at is not None:
                spans.append((*open_at, end))
                open_at = None
        elif depth == 1 and any(_is_name(body[start:end], name) for name in names):
            colon = COLON.match(body, end)
            if colon is None:
                continue  # a string value that happens to be the name
            at = colon.end()
            if body[at : at + 1] in (b"{", b"["):
                open_at = start, at
                continue
            skip_to = _scalar_end(body, at)
            spans.append((start, at, skip_to))
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
