"""Authenticators: each gives a request the headers by which a provider knows the operator. Pure.

`prepare` never waits: what has to be fetched is held here, and `credentials/renewal.py` renews it ahead of its expiry
(decision 74).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from services.gateway.routing.sigv4 import Header, Keys, Signer
from shared.contract.dialects import Family
from shared.contract.providers import Auth
from shared.runtime.errors import UpstreamUnreachable

T = TypeVar("T")

Clock = Callable[[], float]  # seconds since 1970: expiries are given so


class Outgoing(Protocol):
    """A request that is about to go to a provider."""

    @property
    def method(self) -> str: ...

    @property
    def url(self) -> str:
        """Without the query."""

    @property
    def query(self) -> bytes: ...

    @property
    def headers(self) -> Sequence[Header]: ...

    @property
    def body(self) -> Any:
        """Bytes, or an upload on its way."""


class Authenticator(Protocol):
    """A credential of one provider, as its requests carry it."""

    @property
    def whole_body(self) -> bool:
        """Whether it must see the body, so that none may go upstream as it arrives."""

    @property
    def asks(self) -> bool:
        """Whether it sends a credential at all."""

    def prepare(self, outgoing: Outgoing) -> Sequence[Header]:
        """The headers that authenticate a request. UpstreamUnreachable, cause `credential`, where there are none."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A key that is the same in every request: bearer, header or basic."""

    headers: tuple[Header, ...] = field(default=(), repr=False)
    whole_body = False

    @property
    def asks(self) -> bool:
        return bool(self.headers)

    def prepare(self, outgoing: Outgoing) -> Sequence[Header]:
        return self.headers


class Held(Generic[T]):
    """A credential that expires, as it was last fetched. It is replaced from another thread, in one step."""

    __slots__ = ("_clock", "_kept", "auth", "file", "provider")

    def __init__(self, provider: str, auth: Auth, clock: Clock = time.time, *, file: Path | None = None) -> None:
        """`file`: what it is fetched with; None for what the machine has."""
        self.provider = provider
        self.auth = auth
        self.file = file
        self._clock = clock
        self._kept: tuple[T, float | None] | None = None

    def keep(self, value: T, expires: float | None) -> None:
        """Use this from now on. `expires`: seconds since 1970; None for never."""
        self._kept = value, expires

    @property
    def remaining(self) -> float | None:
        """Seconds to its expiry, 0 where there is none to use; None where it never expires."""
        if self._kept is None:
            return 0
        expires = self._kept[1]
        return None if expires is None else max(0, expires - self._clock())

    def get(self) -> T:
        """UpstreamUnreachable where there is none, or where it has expired."""
        if self._kept is None or self.remaining == 0:
            raise UpstreamUnreachable(f"there is no valid credential ({self.auth}) for it", cause="credential")
        return self._kept[0]


class Token:
    """An OAuth token as bearer."""

    __slots__ = ("held",)
    whole_body = False
    asks = True

    def __init__(self, held: Held[str]) -> None:
        self.held = held

    def prepare(self, outgoing: Outgoing) -> Sequence[Header]:
        return ((b"authorization", b"Bearer " + self.held.get().encode()),)


class Signature:
    """AWS Signature Version 4, with the keys that are held. It is over the body that goes out."""

    __slots__ = ("_clock", "_signer", "held")
    whole_body = True
    asks = True

    def __init__(self, held: Held[Keys], signer: Signer, clock: Clock = time.time) -> None:
        self.held = held
        self._clock = clock
        self._signer = signer

    def prepare(self, outgoing: Outgoing) -> Sequence[Header]:
        assert isinstance(outgoing.body, bytes), "a body that is signed is taken in whole"
        now = datetime.fromtimestamp(self._clock(), UTC)
        request = outgoing.method, outgoing.url, outgoing.query, outgoing.headers, outgoing.body
        return self._signer.headers(self.held.get(), now, *request)


def keyed(secret: str, family: Family, header: str) -> Fixed:
    """An API key, as a family's endpoint expects it. `header`: that of the OpenAI family."""
    if family is Family.ANTHROPIC:
        header = "x-api-key"
    elif family is Family.GEMINI:
        header = "x-goog-api-key"
    value = f"Bearer {secret}" if header == "authorization" else secret
    return Fixed(((header.encode(), value.encode()),))
