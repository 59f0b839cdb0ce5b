"""The fields of a JSON body that routing needs, read leniently: the provider decides about everything else. Pure.

The decoder skims a body and builds nothing of it. What it does not take, some provider may: a byte order mark, NaN,
half of a surrogate pair. Such bodies are scanned, in a bounded number of steps for each byte.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import msgspec

from services.gateway.client.json_tokens import CLOSING, COLON, OPENING, tokens
from shared.runtime.errors import Refused

_LONGEST = 64 * 1024  # bytes of a field that is decoded
_MOST_WORDS = 1024 * 1024  # bytes between two tokens, where there are words among numbers
_MOST_STATED = 10**9  # tokens; what is beyond says nothing
_MOST_ANSWERS = 1000
_TRUE = frozenset({"true", "1", "yes", "on", "y", "t"})  # what pydantic, and so vLLM, takes for true


class Flags(msgspec.Struct, frozen=True):
    """The fields of a request that decide where it goes and how it will be answered."""

    model: str | None = None
    stream: bool = False
    usage_asked: bool | None = None  # `stream_options.include_usage`; None where the client left it open
    models: tuple[str, ...] = ()  # to try where `model` fails: `models`, with `route: "fallback"`
    user: str = ""  # whom it names as its user: `user`, `safety_identifier` or `metadata.user_id`


class _Fields(msgspec.Struct, frozen=True):
    """The same fields, undecoded; b"" where there is none."""

    model: msgspec.Raw = msgspec.Raw(b"")
    stream: msgspec.Raw = msgspec.Raw(b"")
    stream_options: msgspec.Raw = msgspec.Raw(b"")
    models: msgspec.Raw = msgspec.Raw(b"")
    route: msgspec.Raw = msgspec.Raw(b"")
    user: msgspec.Raw = msgspec.Raw(b"")
    safety_identifier: msgspec.Raw = msgspec.Raw(b"")
    metadata: msgspec.Raw = msgspec.Raw(b"")


class _Options(msgspec.Struct, frozen=True):
    include_usage: msgspec.Raw = msgspec.Raw(b"")


class _UsualOptions(msgspec.Struct, frozen=True):
    include_usage: bool | msgspec.UnsetType = msgspec.UNSET


class _UsualMetadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class _Usual(msgspec.Struct, frozen=True):
    """The same fields as nearly every client writes them."""

    model: str | None = None
    stream: bool | None = None
    stream_options: _UsualOptions | None = None
    route: str | None = None  # with it, the models of a request are looked for
    user: str | None = None
    safety_identifier: str | None = None
    metadata: _UsualMetadata | None = None


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    max_output_tokens: Any = None
    candidate_count: Any = None


class _Most(msgspec.Struct, frozen=True):
    """How much a request may write, by the names of all dialects."""

    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    generation_config: Any = msgspec.field(default=None, name="generationConfig")
    n: Any = None
    best_of: Any = None
    # What a model reads beside the body's bytes.
    previous_response_id: Any = None
    conversation: Any = None
    previous_interaction_id: Any = None
    cached_content: Any = msgspec.field(default=None, name="cachedContent")


_USUAL = msgspec.json.Decoder(_Usual)
_MOST = msgspec.json.Decoder(_Most)
_SKIM = msgspec.json.Decoder(_Fields)
_SKIM_OPTIONS = msgspec.json.Decoder(_Options | None)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_FALLBACK = "fallback"  # what `route` says where `models` are to be tried
_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{")
_SCALAR = re.compile(rb'[^\s,\]}"]{1,64}')
_WORDS = re.compile(rb"\b(?:true|false|null|NaN|Infinity)\b")
_NO_NUMBER = re.compile(rb"[^\s,:\d.eE+-]")
_QUOTE = ord('"')
_MARK = b"\xef\xbb\xbf"  # byte order


def read_flags(body: bytes) -> Flags:
    """The flags of a body, or of the first part of one; none where it is no JSON object."""
    try:
        usual = _USUAL.decode(body)
    except _UNREADABLE:
        return _read_leniently(body)
    if usual.route == _FALLBACK:
        return _read_leniently(body)
    options = usual.stream_options
    asked = None if options is None or options.include_usage is msgspec.UNSET else options.include_usage
    user = usual.user or usual.safety_identifier or (usual.metadata and usual.metadata.user_id) or ""
    return Flags(usual.model, usual.stream is True, asked, (), user)


def most_output(body: bytes) -> int | None:
    """The most tokens that a request lets its model write, in all of its answers. None where it does not say so in a
    form that all providers read alike, or where its model reads more than the body."""
    try:
        given = _MOST.decode(body)
        config = msgspec.convert(given.generation_config or {}, _Config)
    except _UNREADABLE:
        return None
    if given.previous_response_id or given.conversation or given.previous_interaction_id or given.cached_content:
        return None
    limits = (given.max_tokens, given.max_completion_tokens, given.max_output_tokens, config.max_output_tokens)
    answers: list[int] = [n for n in (given.n, given.best_of, config.candidate_count) if n is not None]
    stated: list[int] = [limit for limit in limits if limit is not None]
    if not stated or not all(_within(limit, 0, _MOST_STATED) for limit in stated):
        return None
    if not all(_within(n, 1, _MOST_ANSWERS) for n in answers):
        return None
    return max(stated) * max(answers, default=1)


def _within(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most  # true is an int, too


def _read_leniently(body: bytes) -> Flags:
    try:
        fields = _SKIM.decode(body)
    except msgspec.ValidationError:
        return Flags()  # JSON, and no object
    except _UNREADABLE:
        fields = _scanned(body)
    model = _decoded(fields.model)
    return Flags(
        model if isinstance(model, str) else None,
        _is_true(_decoded(fields.stream)),
        _asked(fields.stream_options),
        _listed(fields) if bytes(fields.route) else (),
        _user(fields),
    )


def is_sound(body: bytes) -> bool:
    """Whether all parsers see the same names and strings in a body: it is JSON, or differs from it in no quote."""
    try:
        _SKIM.decode(body)
    except msgspec.ValidationError:
        return True
    except _UNREADABLE:
        return _all_words_known(body.removeprefix(_MARK))
    return True


def _all_words_known(body: bytes) -> bool:
    at = 0
    try:
        for start, end in tokens(body):
            if end > len(body) or not _known(body[at:start]):
                return False
            at = end
    except Refused:
        return False
    return _known(body[at:])


def _known(between: bytes) -> bool:
    """Whether only numbers and JSON's words stand between two tokens."""
    if _NO_NUMBER.search(between) is None:
        return True
    return len(between) <= _MOST_WORDS and _NO_NUMBER.search(_WORDS.sub(b"", between)) is None


def _scanned(body: bytes) -> _Fields:
    """The fields at the top level. Of a repeated one the last counts, as most parsers have it."""
    found: dict[str, msgspec.Raw] = {}
    if _OBJECT.match(body) is None:
        return _Fields()
    depth = 0
    name, value = "", -1  # where a value that is a string or bracket starts, until it ends
    with suppress(Refused):  # too many of them: what was found before counts
        for start, end in tokens(body):
            first = body[start]
            if first in OPENING:
                depth += 1
            elif first in CLOSING:
                depth -= 1
            if depth == 0:
                break
            if depth > 1 or first in OPENING:
                continue
            if value >= 0:
                found[name] = msgspec.Raw(body[value:end])
                value = -1
            elif first == _QUOTE and (colon := COLON.match(body, end)) is not None:
                name = _field(body[start:end])
                scalar = _SCALAR.match(body, colon.end()) if name else None
                if scalar is not None and scalar[0][0] not in OPENING:
                    found[name] = msgspec.Raw(scalar[0])
                elif name:
                    value = colon.end()
    return _Fields(**found)


def _field(token: bytes) -> str:
    """The field that a token names; "" where it is none of ours."""
    name = _decoded(msgspec.Raw(token)) if len(token) <= 100 else None  # each letter may be an escape of six
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


def _listed(fields: _Fields) -> tuple[str, ...]:
    """The models of a list that is for the gateway. Any other is left to the provider, as it came."""
    models = _decoded(fields.models) if _decoded(fields.route) == _FALLBACK else None
    if not isinstance(models, list) or not all(isinstance(model, str) and model for model in models):
        return ()
    return tuple(models)


def _user(fields: _Fields) -> str:
    """Whom a body names as its user. A number is one, too."""
    metadata = _decoded(fields.metadata)
    named = metadata.get("user_id") if isinstance(metadata, dict) else None
    for value in (_decoded(fields.user), _decoded(fields.safety_identifier), named):
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            return str(value)
    return ""


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
