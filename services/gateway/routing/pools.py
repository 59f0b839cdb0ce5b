"""The pool of an upstream: its credentials, and which one a caller's requests are sent with. Pure.

A caller stays with one credential, because providers keep prompt caches by account. The choice is a weighted rendezvous
hash: a credential that comes or goes moves only the callers that are its own (decision 83).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from services.gateway.credential_health import Health
from services.gateway.routing.authenticators import Authenticator
from shared.contract.dialects import Family

_REMEMBERED = 4096  # callers


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential of an upstream. `name`: "" where the upstream has only one, without a name."""

    name: str
    authenticators: Mapping[Family, Authenticator]
    health: Health
    weight: float = 1  # share of the callers; 0: only in place of others


class Pool:
    """The credentials of one upstream, at least one."""

    __slots__ = ("_credentials", "_orders", "_upstream", "only")

    def __init__(self, upstream: str, credentials: Sequence[Credential]) -> None:
        self.only = credentials[0] if len(credentials) == 1 else None
        self._credentials = tuple(credentials)
        self._orders: dict[str, tuple[Credential, ...]] = {}
        self._upstream = upstream

    def __iter__(self) -> Iterator[Credential]:
        return iter(self._credentials)

    @property
    def first(self) -> Credential:
        """The first one of the settings."""
        return self._credentials[0]

    def of(self, caller: str) -> tuple[Credential, ...]:
        """All credentials in the order in which this caller's requests try them. A pool of one needs no order."""
        found = self._orders.get(caller)
        if found is None:
            if len(self._orders) >= _REMEMBERED:
                self._orders.clear()
            ordered = sorted(self._credentials, key=lambda one: self._score(caller, one), reverse=True)
            found = self._orders[caller] = tuple(ordered)
        return found

    def _score(self, caller: str, credential: Credential) -> tuple[float, float]:
        """The highest one is tried first: so a credential is first for its weight's share of the callers."""
        text = "\0".join((caller, self._upstream, credential.name)).encode()
        point = (int.from_bytes(blake2b(text, digest_size=8).digest()) + 1) / (2**64 + 2)  # between 0 and 1
        return -credential.weight / math.log(point), point  # the latter among those without a weight
