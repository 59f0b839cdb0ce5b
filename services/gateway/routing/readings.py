"""Paths that a provider may read in another way than we do, and methods that we do not pass on. Pure (decision 53).

What is metered, and compared with a key's list, is our reading of a path. Servers differ: some undo escapes before they
look for a route, or twice; some take a backslash for a slash, ignore case, or cut off parameters behind a semicolon. So
the path is read once more as the most lenient of them would, and is refused where the two readings differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from services.gateway.routing.routes import Match
from shared.contract.dialects import Dialect
from shared.runtime.errors import Refused

Read = Callable[[str, str], Match]  # of a method and a path

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_LONGEST_PATH = 4096  # characters; no provider's path comes near it
_MOST_SEGMENTS = 64
_PLAIN = re.compile(r"[a-z0-9/._~:@-]*")  # every server reads it alike, but for dots at the end of a segment
_MOST_ROUNDS = 3  # of undoing escapes
_OVERLONG = ((b"\xc0\xae", b"."), (b"\xc0\xaf", b"/"), (b"\\", b"/"))  # two are bad UTF-8 that old servers take
_BLANK = "".join(map(chr, range(33))) + "\x7f."  # cut off at the end of a name by some


def understood(method: str, path: str, read: Read) -> Match:
    """Our reading of a request, where no server has reason for another one.

    Refused: 405 where the method is not passed on, or not on this path; 400 where the path is too long, or may be read
    in two ways; and what `read` refuses.
    """
    if method not in METHODS:
        raise _not_allowed(method, METHODS)
    if len(path) > _LONGEST_PATH or path.count("/") > _MOST_SEGMENTS:
        raise Refused(400, f"the path is longer than {_LONGEST_PATH} characters or {_MOST_SEGMENTS} segments")
    matched = read(method, path)
    plain = _PLAIN.fullmatch(path) and "./" not in f"{path}/"
    lenient = path if plain else "/" + "/".join(_segments(path))
    if method != "POST":
        return _beside_calls(method, matched, _call(lenient, read))
    if not plain and _key(matched) != _key_of(lenient, read):
        raise Refused(400, "the path may be read in two ways: write it in lower case and without escapes")
    return matched


def _beside_calls(method: str, matched: Match, call: Match | None) -> Match:
    """The reading of a request that is not a POST, on what may be the path of a call."""
    if call is None:
        return matched
    if method not in ("GET", "HEAD") or call.path_model is not None:
        raise _not_allowed(method, ("POST",))
    return replace(matched, lists=True)


def _call(path: str, read: Read) -> Match | None:
    """The call whose path this is."""
    try:
        call = read("POST", path)
    except Refused:
        return None
    return None if call.dialect in (Dialect.METADATA, Dialect.PASSTHROUGH) else call


def _key_of(path: str, read: Read) -> tuple[object, ...] | None:
    try:
        return _key(read("POST", path))
    except Refused:
        return None


def _key(matched: Match) -> tuple[object, ...]:
    """What must be the same in two readings."""
    model = matched.path_model and "/".join(_segments(matched.path_model))
    provider = matched.upstream and matched.upstream.provider
    return matched.dialect, matched.family, provider, model, matched.streamed


def _segments(path: str) -> list[str]:
    """The segments of a path as the most lenient server reads them. Refused with 400 where one may lead upwards."""
    segments = [part.partition(";")[0].strip(_BLANK) for part in _decoded(path).split("/") if part]
    if not all(segments):
        raise Refused(400, "a path must not contain . or .. segments, nor any of dots and blanks alone")
    return segments


def _decoded(path: str) -> str:
    if "%" not in path and "\\" not in path:
        return path.lower()
    raw = path.encode("utf-8", "surrogateescape")
    for _ in range(_MOST_ROUNDS):
        raw = unquote_to_bytes(raw)
        for odd, usual in _OVERLONG:
            raw = raw.replace(odd, usual)
    if b"%" in raw and unquote_to_bytes(raw) != raw:
        raise Refused(400, "a path must not be escaped many times")
    return raw.lower().decode("utf-8", "surrogateescape").partition("?")[0].partition("#")[0]


def _not_allowed(method: str, allowed: tuple[str, ...]) -> Refused:
    refused = Refused(405, f"{method} is not served" + ("" if method not in METHODS else " on the path of a call"))
    refused.headers.append((b"allow", ", ".join(allowed).encode()))
    return refused
