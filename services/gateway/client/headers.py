"""Headers, each way. These are deny-lists: a header that is not named here passes as it came. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Header = tuple[bytes, bytes]

# For one connection only (RFC 9110, 7.6.1), like every header that Connection names.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
_CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie"})
GENERATION_ID = b"x-generation-id"  # each way (decision 2)
_NONE: frozenset[bytes] = frozenset()

_NOT_UPSTREAM = (
    _HOP_BY_HOP
    | _CREDENTIALS
    | {b"host", b"content-length", b"expect", b"accept-encoding", b"forwarded", b"via", b"x-real-ip", GENERATION_ID}
)
# Cookies and alternative services belong to the provider's site, organisation ids to the operator (decision 3).
_NOT_DOWNSTREAM = _HOP_BY_HOP | {
    b"set-cookie",
    b"set-cookie2",
    b"alt-svc",
    b"openai-organization",
    b"openai-project",
    b"anthropic-organization-id",
    GENERATION_ID,
}
# They ask proxies not to buffer or compress a stream.
_STREAM_HEADERS: tuple[Header, ...] = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
_STREAM_TYPES = ("text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream")

# The provider's own id of the request, in order of preference.
_REQUEST_IDS = (b"x-request-id", b"request-id", b"apim-request-id", b"x-ds-trace-id", b"x-amzn-requestid")


def upstream_request(headers: Iterable[Header], credential: Header | None, *, encoded: bool = True) -> list[Header]:
    """The headers of a request to a provider: the client's, without those for its connection to us, and our
    credential. `headers` have lower-case names. `encoded`: the body still has the encodings that it came with."""
    given = list(headers)
    banned = _NOT_UPSTREAM | _named_by_connection(given)
    passed = [(name, value) for name, value in given if name not in banned and not name.startswith(b"x-forwarded-")]
    if not encoded:
        passed = [(name, value) for name, value in passed if name != b"content-encoding"]
    # The meter reads the body as it is relayed, and a compressed stream holds events back.
    passed.append((b"accept-encoding", b"identity"))
    if credential is not None:
        passed.append(credential)
    return passed


def downstream_response(headers: Iterable[Header], generation_id: str, *, status: int, stream: bool) -> list[Header]:
    """The headers of an answer to the client: the provider's, with lower-case names, and the exchange's id."""
    given = [(name.lower(), value) for name, value in headers]
    banned = _NOT_DOWNSTREAM | _named_by_connection(given)
    if status in (204, 304) or any(name == b"transfer-encoding" for name, _ in given):
        # There is no body it could describe, or the transfer encoding overrides it (RFC 9112, 6.3).
        banned |= {b"content-length"}
    if stream:
        banned |= {name for name, _ in _STREAM_HEADERS}
    passed = [(name, value) for name, value in given if name not in banned]
    passed.append((GENERATION_ID, generation_id.encode()))
    if stream:
        passed.extend(_STREAM_HEADERS)
    return passed


def is_stream(content_type: str) -> bool:
    """Whether a body of this type is a stream, whether or not one was asked for."""
    return content_type.split(";", maxsplit=1)[0].strip().lower() in _STREAM_TYPES


def fields(headers: Sequence[Header]) -> dict[bytes, str]:
    """Header values by lower-case name; of a repeated header the first one."""
    return {name.lower(): value.decode("latin-1") for name, value in reversed(headers)}


def request_id(given: Mapping[bytes, str]) -> str:
    """The provider's id of the request, out of its answer's `fields`; "" where it gave none."""
    return next((given[name] for name in _REQUEST_IDS if name in given), "")


def _named_by_connection(headers: Iterable[Header]) -> frozenset[bytes]:
    values = [value for name, value in headers if name == b"connection"]
    if not values:
        return _NONE
    return frozenset(token.strip().lower() for token in b",".join(values).split(b",") if token.strip())
