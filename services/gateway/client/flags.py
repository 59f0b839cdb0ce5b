"""The fields of a JSON body that routing needs, read leniently: the provider decides about everything else. Pure.

The decoder skims a body and builds nothing of it. What it does not take, some provider may: a byte order mark, NaN,
half of a surrogate pair. Such bodies are scanned, in a bounded number of steps for each byte.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_LONGEST = 64 * 1024  # bytes of a field that is decoded
_MOST_TOKENS = 1_000_000  # that are scanned; strings and brackets, which numbers are not
_TRUE = frozenset({"true", "1", "yes", "on", "y", "t"})  # what pydantic, and so vLLM, takes for true


class Flags(msgspec.Struct, frozen=True):
    """The fields of a request that decide where it goes and how it will be answered."""

    model: str | None = None
    stream: bool = False
    usage_asked: bool | None = None  # `stream_options.include_usage`; None where the client left it open


class _Fields(msgspec.Struct, frozen=True):
    """The same fields, undecoded; b"" where there is none."""

    model: msgspec.Raw = msgspec.Raw(b"")
    stream: msgspec.Raw = msgspec.Raw(b"")
    stream_options: msgspec.Raw = msgspec.Raw(b"")


class _Options(msgspec.Struct, frozen=True):
    include_usage: msgspec.Raw = msgspec.Raw(b"")


_SKIM = msgspec.json.Decoder(_Fields)
_SKIM_OPTIONS = msgspec.json.Decoder(_Options | None)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Whole strings, and the brackets between them. One that does not end takes the rest, so that no byte is read twice.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\]]', re.DOTALL)
_COLON = re.compile(rb"\s*+:\s*+")
_SCALAR = re.compile(rb'[^\s,\]}"]{1,64}+')
# JSON but for its grammar: where strings begin and end, every parser agrees about it.
_SOUND = re.compile(
    rb'(?:\xef\xbb\xbf)?+(?:[\s,:{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?+(?:\d[\d.eE+-]*+|NaN|Infinity)|true|false|null)*+',
    re.DOTALL,
)
_QUOTE, _OPEN, _CLOSE = ord('"'), b"{[", b"}]"


def read_flags(body: bytes) -> Flags:
    """The flags of a body, or of the first part of one; none where it is no JSON object."""
    try:
        fields = _SKIM.decode(body)
    except msgspec.ValidationError:
        return Flags()  # JSON, and no object
    except _UNREADABLE:
        fields = _scanned(body)
    model = _decoded(fields.model)
    return Flags(
        model if isinstance(model, str) else None, _is_true(_decoded(fields.stream)), _asked(fields.stream_options)
    )


def is_sound(body: bytes) -> bool:
    """Whether all parsers see the same names and strings in a body: it is JSON, or differs from it in no quote."""
    try:
        _SKIM.decode(body)
    except msgspec.MsgspecError:
        return _SOUND.fullmatch(body) is not None
    except RecursionError:
        return False
    return True


def _scanned(body: bytes) -> _Fields:
    """The fields at the top level. Of a repeated one the last counts, as most parsers have it."""
    found: dict[str, msgspec.Raw] = {}
    depth = tokens = 0
    name, start = "", -1  # of a value that is a string or bracket, until it ends
    for token in _TOKEN.finditer(body):
        tokens += 1
        first = body[token.start()]
        if (tokens == 1 and first != _OPEN[0]) or tokens > _MOST_TOKENS:
            break
        if first in _OPEN:
            depth += 1
        elif first in _CLOSE:
            depth -= 1
        if depth == 0:
            break
        if depth > 1 or first in _OPEN:
            continue
        if start >= 0:
            if token.start() >= start:
                found[name] = msgspec.Raw(body[start : token.end()])
                start = -1
        elif first == _QUOTE and (colon := _COLON.match(body, token.end())) is not None:
            name = _field(body, token)
            scalar = _SCALAR.match(body, colon.end()) if name else None
            if scalar is not None and scalar[0][0] not in _OPEN:
                found[name] = msgspec.Raw(scalar[0])
            elif name:
                start = colon.end()
    return _Fields(**found)


def _field(body: bytes, token: re.Match[bytes]) -> str:
    """The field that a token names; "" where it is none of ours."""
    if token.end() - token.start() > 100:  # each letter may be an escape of six
        return ""
    name = _decoded(msgspec.Raw(token[0]))
    return name if isinstance(name, str) and name in _Fields.__struct_fields__ else ""


def _decoded(value: msgspec.Raw) -> Any:
    """A value; None where it cannot be read."""
    raw = bytes(value)
    if not raw or len(raw) > _LONGEST:
        return None
    try:
        return msgspec.json.decode(raw)
    except _UNREADABLE:
        return None


def _is_true(value: Any) -> bool:
    return value.lower() in _TRUE if isinstance(value, str) else value in (True, 1)


def _asked(options: msgspec.Raw) -> bool | None:
    """What `stream_options` says about usage. What is no object was set by the client, and is left alone."""
    if not bytes(options):
        return None
    try:
        given = _SKIM_OPTIONS.decode(options)
    except _UNREADABLE:
        return False
    raw = given.include_usage if given is not None else b""
    return bool(_decoded(msgspec.Raw(raw))) if bytes(raw) else None
