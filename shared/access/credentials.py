"""Finds a caller's key in a request, and takes it out of the query. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from shared.access.key_format import PREFIX, PREFIXES

# SDKs differ, and so do versions of one: Anthropic's moved from x-api-key to Bearer with 2.0.
HEADERS = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"x-amz-security-token")
_SIGNED = b"AWS4-HMAC-SHA256"
_QUERY = b"key="
_TICKET = b"arouter_upload="
_USUAL = b"Bearer " + PREFIX.encode()
_OUR_KEYS = tuple(prefix.encode() for prefix in PREFIXES)

# Parameters that some API takes for a credential, for the account to book on, or for another request than the one that
# was admitted (Google's `$httpMethod`, `$httpHeaders` and `$req`).
_SUSPECT = re.compile(rb"key|token|auth|project|method|lr_|arouter_|[%$;+\[]")  # most queries have none of these
_NOT_UPSTREAM = frozenset(
    {
        b"key",
        b"$key",
        b"api_key",
        b"api-key",
        b"apikey",
        b"x-api-key",
        b"x-goog-api-key",
        b"access_token",
        b"oauth_token",
        b"subscription-key",
        b"ocp-apim-subscription-key",
        b"authorization",
        b"userproject",
        b"$userproject",
        b"_method",
        b"x-http-method-override",
        b"$httpmethod",
        b"$httpheaders",
        b"$req",
        b"arouter_upload",
    }
)


def caller_key(headers: Mapping[bytes, bytes], query: bytes) -> str | None:
    """The key of a request: the first one that looks like ours, else the first of any kind, else None."""
    bearer = headers.get(b"authorization", b"")
    if bearer.startswith(_USUAL):
        return bearer[len(b"Bearer ") :].decode("latin-1").strip()
    candidates = [_bare(headers[name]) for name in HEADERS if name in headers]
    candidates += [unquote_to_bytes(part[len(_QUERY) :]) for part in query.split(b"&") if part.startswith(_QUERY)]
    texts = [candidate.decode("latin-1") for candidate in candidates if candidate]
    return next((text for text in texts if text.startswith(PREFIXES)), texts[0] if texts else None)


def without_key(query: bytes) -> bytes:
    """A raw query string without its credentials and overrides, however they are spelt, and without keys of ours. The
    other parameters stay as they are."""
    if not query or not _SUSPECT.search(query.lower()):
        return query
    return b"&".join(part for part in query.split(b"&") if not _stays_here(part))


def _stays_here(part: bytes) -> bool:
    """Whether a parameter is not sent upstream. Some servers split at semicolons too, or undo escapes twice."""
    plain = unquote_to_bytes(unquote_to_bytes(part))
    if any(key in plain for key in _OUR_KEYS):
        return True
    names = (piece.partition(b"=")[0] for piece in part.split(b";"))
    return any(_plain_name(name) in _NOT_UPSTREAM for name in names)


def _plain_name(name: bytes) -> bytes:
    return unquote_to_bytes(unquote_to_bytes(name.replace(b"+", b" "))).partition(b"[")[0].strip().lower()


def with_ticket(query: bytes, ticket: str) -> bytes:
    """A raw query string with the ticket of an upload."""
    return b"&".join(filter(None, [query, _TICKET + ticket.encode()]))


def ticket_of(query: bytes) -> str | None:
    """The ticket of an upload; None where there is none."""
    found = next((part for part in query.split(b"&") if part.startswith(_TICKET)), None) if _TICKET in query else None
    return None if found is None else found[len(_TICKET) :].decode("latin-1")


def _bare(value: bytes) -> bytes:
    scheme, _, rest = value.strip().partition(b" ")
    if scheme == _SIGNED:
        # A client that signs for AWS has our key as its access key, and any secret (decision 78).
        return rest.partition(b"Credential=")[2].partition(b"/")[0].strip()
    return rest.strip() if scheme.lower() == b"bearer" else value.strip()
