"""Who asks, as far as a request says so: end user, session, tags, app, address and program. Pure.

What callers write is bounded and has no control characters. It is for people to group by, and never for deciding what a
caller may do: anybody with a key can write anything here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

import msgspec

from shared.access import credentials

Network = IPv4Network | IPv6Network

_LONGEST = 200  # characters
_LONGEST_TAG = 64
_MOST_TAGS = 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_FORWARDED = b"x-forwarded-for"
_MOST_HOPS = 20

# Claude Code writes session and account into `metadata.user_id`: as JSON, before 2.1 as one word.
_CLAUDE_CODE = re.compile(r"user_([0-9a-f]+)_account_([0-9a-f-]*)_session_([0-9a-f-]+)")

# Headers that providers know as well: what Codex and Claude Code send by themselves, and OpenRouter's own.
_PROVIDERS_OWN = frozenset(
    {
        b"http-referer",
        b"referer",
        b"x-title",
        b"x-openrouter-title",
        b"originator",
        b"x-claude-code-session-id",
        b"session_id",
        b"session-id",
        b"conversation_id",
    }
)


_SECRET = frozenset({"cookie", "proxy-authorization", *(name.decode() for name in credentials.HEADERS)})


class ClientAddress(StrEnum):
    """How much of a client's address is booked."""

    WHOLE = "whole"
    TRUNCATED = "truncated"  # its network: /24 of IPv4, /48 of IPv6
    OFF = "off"


class HeaderNames(NamedTuple):
    """The headers that each field is taken from, in lower case; the first one that says something counts. A field
    without any is not booked, whatever a body says."""

    user: tuple[bytes, ...] = ()
    session: tuple[bytes, ...] = ()
    tags: tuple[bytes, ...] = ()
    app: tuple[bytes, ...] = ()


class Attribution(NamedTuple):
    """Who asks; "" where nobody says so."""

    user: str = ""
    session: str = ""
    tags: tuple[str, ...] = ()
    app: str = ""
    client_address: str = ""
    user_agent: str = ""
    traceparent: str = ""


class Attributing:
    """How a gateway finds out who asks."""

    def __init__(
        self, names: HeaderNames, addresses: ClientAddress = ClientAddress.OFF, trusted: Iterable[Network] = ()
    ) -> None:
        """`trusted`: networks of proxies in front, whose X-Forwarded-For is believed."""
        self._names = names
        self._any = frozenset(name for of_field in names for name in of_field)
        self._addresses = addresses
        self._trusted = tuple(trusted)
        self.taken_out = self._any - _PROVIDERS_OWN  # headers that are for us, and go to no provider

    def of(self, given: Mapping[bytes, bytes], peer: str, said: str = "") -> Attribution:
        """Who sends a request. `given`: its header fields; `peer`: the address it came from; `said`: the user that its
        body names."""
        user = session = app = ""
        tags: tuple[str, ...] = ()
        if not self._any.isdisjoint(given):
            user = _first(given, self._names.user)
            session = _first(given, self._names.session)
            app = _without_query(_first(given, self._names.app))
            tags = _listed(_first(given, self._names.tags, _MOST_TAGS * (_LONGEST_TAG + 1)))
        if said:
            named, begun = _from_body(said)
            user = user or (named if self._names.user else "")
            session = session or (begun if self._names.session else "")
        return Attribution(
            user,
            session,
            tags,
            app,
            self._address(given, peer),
            _user_agent(given[b"user-agent"][: 4 * _LONGEST]) if b"user-agent" in given else "",
            _traceparent(given[b"traceparent"]) if b"traceparent" in given else "",
        )

    def _address(self, given: Mapping[bytes, bytes], peer: str) -> str:
        if self._addresses is ClientAddress.OFF:
            return ""
        if self._trusted and _FORWARDED in given:
            peer = _forwarded(given[_FORWARDED], peer, self._trusted)
        return peer if self._addresses is ClientAddress.WHOLE else _truncated(peer)


def header_names(text: str) -> tuple[bytes, ...]:
    """The names of a setting, comma-separated. ValueError for what is no header's name."""
    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for name in names:
        if not re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}", name):
            raise ValueError(f"{name!r} is not the name of a header")
        if name in _SECRET:
            raise ValueError(f"{name!r} holds a credential, which would be booked")
    return tuple(name.encode() for name in names)


def networks(text: str) -> tuple[Network, ...]:
    """The networks and addresses of a setting, comma-separated. ValueError for anything else."""
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def _clean(text: str, longest: int = _LONGEST) -> str:
    """A text of a caller's: short, in one line, and without what a terminal or a file would act on."""
    return _CONTROL.sub("\ufffd", text[:longest].strip())


def _decoded(value: bytes, longest: int) -> str:
    return _clean(value[: 4 * longest].decode("utf-8", "replace"), longest)


def _first(given: Mapping[bytes, bytes], names: Iterable[bytes], longest: int = _LONGEST) -> str:
    return next((text for name in names if name in given and (text := _decoded(given[name], longest))), "")


def _listed(text: str) -> tuple[str, ...]:
    """Tags, comma-separated, each once."""
    tags = (part.strip()[:_LONGEST_TAG] for part in text.split(","))
    return tuple(dict.fromkeys(filter(None, tags)))[:_MOST_TAGS]


def _without_query(app: str) -> str:
    """A site's address has no more than is needed to tell it from others."""
    return re.split(r"[?#]", app, maxsplit=1)[0] if app.startswith(("http://", "https://")) else app


def _from_body(said: str) -> tuple[str, str]:
    """User and session of what a body calls its user."""
    if said.startswith("{") and len(said) <= 4 * _LONGEST:
        with suppress(msgspec.DecodeError):
            found = _CLAUDE_CODE_JSON.decode(said)
            return _clean(found.account_uuid or found.device_id), _clean(found.session_id)
    if said.startswith("user_") and (old := _CLAUDE_CODE.fullmatch(said[: 4 * _LONGEST])) is not None:
        return _clean(old[2] or old[1]), _clean(old[3])
    return _clean(said), ""


class _ClaudeCode(msgspec.Struct):
    session_id: str
    account_uuid: str = ""
    device_id: str = ""


_CLAUDE_CODE_JSON = msgspec.json.Decoder(_ClaudeCode)


@lru_cache(256)  # few programs send most requests
def _user_agent(value: bytes) -> str:
    return _decoded(value, _LONGEST)


def _traceparent(value: bytes) -> str:
    """W3C trace context; "" where it is none. What a later version has behind it is left out."""
    found = _TRACEPARENT.match(value)
    if found is None or found[1] == b"ff" or not found[2].strip(b"0") or not found[3].strip(b"0"):
        return ""
    return found[0].decode() if value[found.end() : found.end() + 1] in (b"", b"-") else ""


@lru_cache(4096)
def _truncated(address: str) -> str:
    """The network of an address, written as its first address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:  # of a socket that has none
        return ""
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    return str(ip_network((found, 24 if found.version == 4 else 48), strict=False).network_address)


def _forwarded(value: bytes, peer: str, trusted: tuple[Network, ...]) -> str:
    """The address that trusted proxies say a request came from: each has written behind the others whom it talked to,
    so the last one that is not trusted counts. What stands before it anybody can write."""
    for hop in reversed(value.decode("latin-1").split(",")[-_MOST_HOPS:]):
        if not _is_trusted(peer, trusted):
            break
        address = _bare(hop.strip())
        if not address:
            break
        peer = address
    return peer


@lru_cache(4096)
def _is_trusted(address: str, trusted: tuple[Network, ...]) -> bool:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in trusted if network.version == found.version)


def _bare(hop: str) -> str:
    """An address without the port that some proxies write; "" for what is none."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ip_address(hop))
    except ValueError:
        return ""
