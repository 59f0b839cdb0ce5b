"""The upstreams: configured providers, each with its endpoints and authenticators. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from services.gateway.bad_keys import BadKey
from services.gateway.client.headers import Header
from services.gateway.routing.authenticators import Authenticator
from services.gateway.routing.pools import Pool
from shared.contract.dialects import Dialect, Family
from shared.contract.providers import DEFAULTS


class Paths(NamedTuple):
    """A provider's rules for paths beside its families' endpoints."""

    other: str  # absolute URL below which all other paths lie
    scope: str = ""  # what stands behind the version segment, whatever the caller writes there
    deployments: str = ""  # folder of its SDK's own paths, which stand at the root, too
    check: str = ""  # URL of a request that needs a credential and costs nothing; "": the family's list of models


# The dialects of calls of models, each with its family. The other dialects go where their family goes.
FAMILIES: Mapping[Dialect, Family] = {
    Dialect.OPENAI_CHAT: Family.OPENAI,
    Dialect.OPENAI_COMPLETIONS: Family.OPENAI,
    Dialect.OPENAI_RESPONSES: Family.OPENAI,
    Dialect.OPENAI_EMBEDDINGS: Family.OPENAI,
    Dialect.ANTHROPIC_MESSAGES: Family.ANTHROPIC,
    Dialect.GEMINI: Family.GEMINI,
    Dialect.GEMINI_INTERACTIONS: Family.GEMINI,
}


@dataclass(frozen=True, slots=True)
class Upstream:
    """A configured provider: its endpoint for each family, and the credentials that its requests are sent with."""

    provider: str
    base_url: str
    endpoints: Mapping[Family, str]  # absolute URLs, the provider's own family first
    pool: Pool
    dialects: frozenset[Dialect]
    ask_usage: bool
    read_on: bool  # when the client leaves, read to the answer's end
    decode_requests: bool  # compressed request bodies go there decoded
    paths: Paths
    takes_models: bool = False  # it does what `models` with `route: "fallback"` of a request asks for
    passes: frozenset[bytes] = frozenset()  # headers of callers that it gets though they are removed otherwise
    whole_bodies: bool = False  # every request body is taken in whole
    trusted: bool = True  # callers cannot name an account, so that a 401 to a call of a model is about the credential
    bad_key: BadKey | None = None  # what its refusals say, where their status does not tell
    shown: tuple[Header, ...] = ()  # what clients are told of an answer of its

    def serves(self, dialect: Dialect, family: Family) -> bool:
        return family in self.endpoints and (dialect in self.dialects or dialect not in FAMILIES)

    @property
    def serves_dialects(self) -> tuple[str, ...]:
        """The dialects of calls of models that it serves, sorted."""
        return tuple(sorted(dialect for dialect, family in FAMILIES.items() if self.serves(dialect, family)))

    @property
    def authenticators(self) -> Mapping[Family, Authenticator]:
        """Those of its first credential."""
        return self.pool.first.authenticators


class Target(NamedTuple):
    """A model at an upstream, as a named route leads to it."""

    upstream: Upstream
    model: str  # as the provider knows it
    weight: float = 0


@dataclass(frozen=True, slots=True)
class NamedRoute:
    """A route with a name, which callers use as a model."""

    name: str
    targets: tuple[Target, ...]  # in the order of the settings
    families: frozenset[Family]  # in which all of them answer
    dialects: frozenset[Dialect]  # of the calls of models that all of them serve
    sticky: bool = False  # a key always draws the same target

    def serves(self, dialect: Dialect, family: Family) -> bool:
        return family in self.families and (dialect in self.dialects or dialect not in FAMILIES)

    def ordered(self, draw: float) -> tuple[Target, ...]:
        """The targets in the order of trying. The first one is drawn by weight, where there are weights: `draw` is
        from 0 up to 1."""
        rest = draw * sum(target.weight for target in self.targets)
        for at, target in enumerate(self.targets):
            if rest < target.weight:
                return (target, *self.targets[:at], *self.targets[at + 1 :])
            rest -= target.weight
        return self.targets


class Upstreams:
    """All upstreams by provider name, the default of each family, and the named routes to them."""

    def __init__(self, upstreams: Iterable[Upstream], named: Iterable[NamedRoute] = ()) -> None:
        self._by_provider = {upstream.provider: upstream for upstream in upstreams}
        self.named: Mapping[str, NamedRoute] = {route.name: route for route in named}
        self.deployments = next(
            (found for found in self if found.paths.deployments), None
        )  # where its SDK's paths lead

    def __iter__(self) -> Iterator[Upstream]:
        return iter(self._by_provider.values())

    def get(self, provider: str) -> Upstream | None:
        return self._by_provider.get(provider)

    def default(self, dialect: Dialect, family: Family) -> Upstream | None:
        """The family's own provider where it is configured, else the only one that serves the dialect, else None
        (decision 4)."""
        own = self._by_provider.get(DEFAULTS[family])
        if own is not None:
            return own
        serving = [upstream for upstream in self._by_provider.values() if upstream.serves(dialect, family)]
        return serving[0] if len(serving) == 1 else None
