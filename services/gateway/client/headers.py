"""Headers, each way. These are deny-lists: a header that is not named here passes as it came. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache

from shared.access.key_format import PREFIXES

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
# The last three belong to a signature of AWS's, which the caller has made for us.
_CREDENTIALS = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"cookie",
        b"x-amz-security-token",
        b"x-amz-date",
        b"x-amz-content-sha256",
    }
)
GENERATION_ID = b"x-generation-id"  # each way (decision 2)
ATTEMPTS = b"x-arouter-attempts"  # to the client: how many the exchange has made
PROVIDER = b"x-arouter-provider"  # to the client: which one has answered
_NONE: frozenset[bytes] = frozenset()
_USUAL_CONNECTION = frozenset({b"keep-alive", b"close"})  # no names of other headers

# Never sent to a provider: what is for the connection to us, and what we set ourselves.
_OURS = (
    _HOP_BY_HOP
    | _CREDENTIALS
    | {b"host", b"content-length", b"expect", b"accept-encoding", b"max-forwards", GENERATION_ID}
)
# Sent only where the operator allows them (decision 55). Beside the operator's credential they would say on whose
# account a request is booked,
ACCOUNTS = frozenset(
    {
        b"openai-organization",
        b"openai-project",
        b"anthropic-organization-id",
        b"anthropic-workspace-id",
        b"x-goog-user-project",
        b"x-goog-iam-authorization-token",
        b"x-goog-iam-authority-selector",
        b"ocp-apim-subscription-key",
    }
)
# that it is another request than the one which was admitted and is metered,
_OVERRIDES = frozenset(
    {
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"x-original-method",
        b"x-original-url",
        b"x-original-uri",
        b"x-original-path",
        b"x-original-host",
        b"x-rewrite-url",
        b"x-rewrite-uri",
        b"x-override-url",
        b"x-http-destinationurl",
        b"x-request-uri",
        b"x-host",
        b"x-http-host-override",
        b"azureml-model-deployment",
    }
)
# and from whom it comes, as proxies and networks in front of us have written it.
_ADDRESSES = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-forwarded",
        b"x-original-forwarded-for",
        b"forwarded-for",
        b"true-client-ip",
        b"client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-remote-ip",
        b"x-remote-addr",
        b"x-originating-ip",
        b"proxy-client-ip",
        b"wl-proxy-client-ip",
        b"cdn-loop",
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"cf-pseudo-ipv4",
        b"cf-ipcountry",
        b"cf-ray",
        b"cf-visitor",
        b"cf-worker",
        b"cf-ew-via",
        b"x-nf-client-connection-ip",
    }
)
_NETWORKS = (
    b"x-forwarded-",
    b"x-envoy-",
    b"x-azure-",
    b"x-appengine-",
    b"x-vercel-ip-",
    b"x-vercel-forwarded-",
    b"cloudfront-",
    b"fastly-",
    b"fly-",
)
# Who asks, for us and for gateways like us.
_ATTRIBUTION = (b"x-arouter-", b"x-litellm-", b"x-openwebui-")
_UNLESS_ALLOWED = ACCOUNTS | _OVERRIDES | _ADDRESSES
_REMEMBERED = 1024  # names
_OUR_KEYS = tuple(prefix.encode() for prefix in PREFIXES)
# Cookies and alternative services belong to the provider's site, as does where a browser goes next; organisation ids
# belong to the operator (decision 3).
_NOT_DOWNSTREAM: frozenset[bytes] = _HOP_BY_HOP | {
    b"set-cookie",
    b"set-cookie2",
    b"alt-svc",
    b"refresh",
    b"openai-organization",
    b"openai-project",
    b"anthropic-organization-id",
    GENERATION_ID,
    ATTEMPTS,
    PROVIDER,
}
# They ask proxies not to buffer or compress a stream.
_STREAM_HEADERS: tuple[Header, ...] = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
_NOT_DOWNSTREAM_OF_STREAMS = _NOT_DOWNSTREAM | {name for name, _ in _STREAM_HEADERS}
_LENGTH = frozenset({b"content-length"})
_STREAM_TYPES = ("text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream")

# The provider's own id of the request, in order of preference.
_REQUEST_IDS = (b"x-request-id", b"request-id", b"apim-request-id", b"x-ds-trace-id", b"x-amzn-requestid")


def upstream_request(
    headers: Iterable[Header], allowed: frozenset[bytes] = _NONE, *, encoded: bool = True
) -> list[Header]:
    """The headers of a request to a provider, without our credential: the client's, without those for its connection
    to us. `headers` have lower-case names; `allowed`: those that the operator lets through. `encoded`: the body still
    has the encodings that it came with."""
    given = list(headers)
    passes = _passing(allowed)
    passed = [header for header in given if passes[header[0]] and (b"lr_" not in header[1] or not _has_key(header[1]))]
    named = _named_by_connection(given)
    if not named <= _USUAL_CONNECTION:
        passed = [header for header in passed if header[0] not in named]
    if not encoded:
        passed = [header for header in passed if header[0] != b"content-encoding"]
    # The meter reads the body as it is relayed, and a compressed stream holds events back.
    passed.append((b"accept-encoding", b"identity"))
    return passed


def may_be_allowed(name: bytes) -> bool:
    """Whether an operator may let this header through, which is otherwise removed."""
    return name in _UNLESS_ALLOWED or name.startswith(_NETWORKS + _ATTRIBUTION)


class _Passing(dict[bytes, bool]):
    """Whether headers go upstream, by name. Clients use few names, again and again."""

    def __init__(self, allowed: frozenset[bytes]) -> None:
        super().__init__()
        self._allowed = allowed

    def __missing__(self, name: bytes) -> bool:
        plain = name.replace(b"_", b"-")  # some servers take one for the other
        removed = plain not in self._allowed if may_be_allowed(plain) else plain in _OURS
        if len(self) < _REMEMBERED:
            self[name] = not removed
        return not removed


@lru_cache
def _passing(allowed: frozenset[bytes]) -> _Passing:
    return _Passing(allowed)


def _has_key(value: bytes) -> bool:
    return any(key in value for key in _OUR_KEYS)


def downstream_response(
    headers: Iterable[Header], answered: Container[bytes], generation_id: str, *, status: int, stream: bool
) -> list[Header]:
    """The headers of an answer to the client: the provider's, and the exchange's id, all with lower-case names.
    `answered` holds the provider's names in lower case."""
    banned = _NOT_DOWNSTREAM_OF_STREAMS if stream else _NOT_DOWNSTREAM
    if b"connection" in answered:
        banned |= _named_by_connection([(name.lower(), value) for name, value in headers])
    if status in (101, 204, 304) or b"transfer-encoding" in answered:
        # There is no body it could describe, or the transfer encoding overrides it (RFC 9112, 6.3).
        banned |= _LENGTH
    passed = [(low, value) for name, value in headers if (low := name.lower()) not in banned]
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


def replaced(given: Sequence[Header], ours: Sequence[Header]) -> list[Header]:
    """Headers with `ours` in place of those of the same names."""
    names = {name for name, _ in ours}
    return [header for header in given if header[0] not in names] + list(ours)
