"""The state of providers and their credentials, as a gateway tells it. Fields are appended, with defaults."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Health(StrEnum):
    """Whether requests are sent with a credential of a provider."""

    HEALTHY = "healthy"
    COOLING = "cooling"  # it failed, or asked for time: another one is used for a while
    OUT = "out"  # the provider refuses it


class CredentialState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One credential of a provider, as one gateway sees it."""

    name: str  # "" where the provider has only one
    health: str  # a `Health`
    since_ms: int  # UTC, milliseconds since the epoch: when its health became what it is
    cause: str = ""  # of its last failure, an HTTP status or a machine word as in `Attempt.cause`; "" for none
    requests: int = 0  # attempts of the last five minutes
    failures: int = 0  # how many of them failed
    weight: float = 1


class ProviderState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One provider, as one gateway is configured to reach it."""

    name: str
    dialects: tuple[str, ...]  # of calls of models, sorted
    credentials: tuple[CredentialState, ...] = ()
