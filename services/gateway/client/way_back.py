"""URLs in a provider's answer at which the client goes on: they lead back to the gateway. Pure.

Gemini's uploads begin with a request that is answered with the URL for the bytes. SDKs send no key there, because
Google's URL is a capability; so ours carries a ticket, good for this one URL and the caller's key (decision 63).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from services.gateway.client.headers import Header
from shared.access.credentials import with_ticket, without_key

NAMES = frozenset({b"x-goog-upload-url", b"x-goog-upload-control-url"})
_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]+")  # what can stand in a Host header
_URL = re.compile(rb"(https?)://([^/?#]*)(/[^?#]*|)(?:\?([^#]*))?")


class Asked(Protocol):
    """The client's request: its headers, and the address it has connected to."""

    @property
    def headers(self) -> Sequence[Header]: ...

    @property
    def server(self) -> tuple[str, int] | None: ...


Sign = Callable[[bytes], str]  # a ticket for a target, path and query


class WayBack(NamedTuple):
    """What a URL at the gateway is made of, beside what the client says of it."""

    sign: Sign
    base_path: bytes = b""  # that a proxy in front of us keeps, and the data plane does not see


def led_back(given: Iterable[Header], asked: Asked, provider: str, asked_url: str, way: WayBack) -> list[Header]:
    """The headers of an answer, with URLs of this provider at the gateway.

    `asked`: how the client has reached us. `asked_url`: where its request went.
    """
    own = _own(asked)
    place = asked_url.encode().partition(b"://")[2].partition(b"/")[0]
    return [(name, _moved(value, place, own, provider, way) if name in NAMES else value) for name, value in given]


def _moved(value: bytes, place: bytes, own: bytes, provider: str, way: WayBack) -> bytes:
    url = _URL.fullmatch(value.strip())
    if url is None or not own or _bare(url[2]) != _bare(place):
        return value  # it is no URL, or leads to somebody else
    path = b"/" + provider.encode() + url[3]
    query = without_key(url[4] or b"")
    return own + way.base_path + path + b"?" + with_ticket(query, way.sign(path + b"?" + query))


def _bare(place: bytes) -> bytes:
    return place.lower().removesuffix(b":443").removesuffix(b":80")


def _own(asked: Asked) -> bytes:
    """Scheme and host by which the client reaches us, as a proxy in front of us says; b"" where nobody does."""
    fields = {name: value.partition(b",")[0].strip() for name, value in reversed(asked.headers)}
    host = fields.get(b"x-forwarded-host") or fields.get(b"host", b"")
    if asked.server is not None and asked.server[0] == "127.0.0.1" and not re.search(rb"[.:]", host):
        host = b"%b:%d" % (asked.server[0].encode(), asked.server[1])  # a name made up on this machine
    scheme = b"https" if fields.get(b"x-forwarded-proto", b"").lower() == b"https" else b"http"
    return scheme + b"://" + host if _HOST.fullmatch(host) else b""
