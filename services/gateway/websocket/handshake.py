"""WebSocket handshakes: which they are, where the key stands in them, and what of them goes upstream. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes

from services.gateway.client.headers import Header
from shared.runtime.errors import Refused

_PROTOCOL = b"sec-websocket-protocol"
_EXTENSIONS = b"sec-websocket-extensions"
# Browsers cannot set headers: OpenAI's SDKs write there what other clients write into headers.
_KEY = b"openai-insecure-api-key."
_ACCOUNTS = (b"openai-organization.", b"openai-project.")
UPGRADE: tuple[Header, ...] = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))
_QUERY_KEYS = (b"api-key=", b"api_key=")


def is_handshake(method: str, version: str, given: Sequence[Header]) -> bool:
    """Whether a client wants to speak WebSocket. Other upgrades may be ignored, and one of HTTP/1.0 must be, or one
    that `Connection` does not name: a proxy before us may have passed one on by mistake (RFC 9110, 7.8)."""
    named = b",".join(value for name, value in given if name == b"connection").lower().split(b",")
    wanted = any(name == b"upgrade" and b"websocket" in value.lower() for name, value in given)
    return method == "GET" and version != "1.0" and wanted and b"upgrade" in map(bytes.strip, named)


def not_served() -> Refused:
    """Codex tries this for sixteen seconds where it gets anything else, and plain HTTP at once after a 426."""
    refused = Refused(426, "this path is not served to WebSockets: use HTTP", code="no_websockets")
    refused.headers += [(b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade")]
    return refused


def with_key(given: dict[bytes, bytes], query: bytes) -> dict[bytes, bytes]:
    """The header fields, with the key that stands in a subprotocol or a parameter where only handshakes have one."""
    if b"authorization" in given:
        return given
    offered = (one.strip() for one in given.get(_PROTOCOL, b"").split(b","))
    shown = next((one[len(_KEY) :] for one in offered if one.startswith(_KEY)), None)
    if shown is None and b"api-key" not in given:
        parts = (
            unquote_to_bytes(part.partition(b"=")[2]) for part in query.split(b"&") if part.startswith(_QUERY_KEYS)
        )
        shown = next(parts, None)
    return given if shown is None else {**given, b"authorization": b"Bearer " + shown}


def cleaned(given: Sequence[Header], allowed: frozenset[bytes]) -> list[Header]:
    """The client's headers without keys and accounts among the subprotocols, and without extensions, so that frames can
    be parsed. `allowed`: headers of callers that the provider gets."""
    kept: list[Header] = [header for header in given if header[0] not in (_PROTOCOL, _EXTENSIONS)]
    offered = [one.strip() for name, value in given if name == _PROTOCOL for one in value.split(b",")]
    offered = [one for one in offered if one and not _stays_here(one, allowed)]
    if offered:
        kept.append((_PROTOCOL, b", ".join(offered)))
    return kept


def _stays_here(protocol: bytes, allowed: frozenset[bytes]) -> bool:
    protocol = protocol.lower()  # a server may read it so
    if protocol.startswith(_KEY):
        return True
    return protocol.startswith(_ACCOUNTS) and protocol.partition(b".")[0] not in allowed


def model_of(query: bytes, names: Sequence[bytes]) -> str | None:
    """The model that a query names under one of `names`; None where it names none. Refused where it names several, or
    where a server may read it otherwise."""
    found = [value for name, value in _parameters(query) if name in names]
    split = [name for name, _ in _parameters(query.replace(b";", b"&")) if name in names]
    if len(split) > 1 or len(split) > len(found):
        raise Refused(400, "a handshake names one model, once")
    return found[0] if found and found[0] else None


def with_model(query: bytes, names: Sequence[bytes], model: str) -> bytes:
    """A query that names another model."""
    return b"&".join(
        part.partition(b"=")[0] + b"=" + quote(model, safe="-._~/:@").encode() if _name(part) in names else part
        for part in query.split(b"&")
    )


def _parameters(query: bytes) -> list[tuple[bytes, str]]:
    return list(map(_parameter, query.split(b"&")))


def _parameter(part: bytes) -> tuple[bytes, str]:
    value = part.partition(b"=")[2].replace(b"+", b" ")
    return _name(part), unquote_to_bytes(value).decode("utf-8", "replace")


def _name(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0]).strip().lower()
