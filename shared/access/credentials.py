"""Finds a caller's key in a request, and takes it out of the query. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from shared.access.key_format import PREFIX, PREFIXES

# SDKs differ, and so do versions of one: Anthropic's moved from x-api-key to Bearer with 2.0.
_HEADERS = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
_QUERY = b"key="
_TICKET = b"arouter_upload="
_USUAL = b"Bearer " + PREFIX.encode()


def caller_key(headers: Mapping[bytes, bytes], query: bytes) -> str | None:
    """The key of a request: the first one that looks like ours, else the first of any kind, else None."""
    bearer = headers.get(b"authorization", b"")
    if bearer.startswith(_USUAL):
        return bearer[len(b"Bearer ") :].decode("latin-1").strip()
    candidates = [_bare(headers[name]) for name in _HEADERS if name in headers]
    candidates += [unquote_to_bytes(part[len(_QUERY) :]) for part in query.split(b"&") if part.startswith(_QUERY)]
    texts = [candidate.decode("latin-1") for candidate in candidates if candidate]
    return next((text for text in texts if text.startswith(PREFIXES)), texts[0] if texts else None)


def without_key(query: bytes) -> bytes:
    """A raw query string without its `key` parameters and tickets."""
    if _QUERY not in query and _TICKET not in query:
        return query
    return b"&".join(part for part in query.split(b"&") if not part.startswith((_QUERY, _TICKET)))


def with_ticket(query: bytes, ticket: str) -> bytes:
    """A raw query string with the ticket of an upload."""
    return b"&".join(filter(None, [query, _TICKET + ticket.encode()]))


def ticket_of(query: bytes) -> str | None:
    """The ticket of an upload; None where there is none."""
    found = next((part for part in query.split(b"&") if part.startswith(_TICKET)), None) if _TICKET in query else None
    return None if found is None else found[len(_TICKET) :].decode("latin-1")


def _bare(value: bytes) -> bytes:
    scheme, _, rest = value.strip().partition(b" ")
    return rest.strip() if scheme.lower() == b"bearer" else value.strip()
