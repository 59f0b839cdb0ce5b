"""What is configured: the providers that are on, each with its endpoints and credential. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from shared.contract.dialects import Dialect, Family
from shared.contract.providers import DEFAULTS

# Dialects a model answers, by family; the others go wherever their family goes.
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
    """A provider that is on: where each family is served, and the credential, which no `repr` shows."""

    provider: str
    base_url: str
    endpoints: Mapping[Family, str]  # absolute URLs, the provider's own family first
    api_key: SecretStr | None
    credential_header: str  # of the OpenAI family
    dialects: frozenset[Dialect]
    ask_usage: bool
    read_on: bool  # to its end, when the client leaves

    def serves(self, dialect: Dialect, family: Family) -> bool:
        return family in self.endpoints and (dialect in self.dialects or dialect not in FAMILIES)

    def credential(self, family: Family) -> tuple[bytes, bytes] | None:
        """The header that authenticates us, as the family's endpoint takes it; None where there is none."""
        if self.api_key is None:
            return None
        secret = self.api_key.get_secret_value().encode()
        if family is Family.ANTHROPIC:
            return b"x-api-key", secret
        if family is Family.GEMINI:
            return b"x-goog-api-key", secret
        if self.credential_header == "authorization":
            return b"authorization", b"Bearer " + secret
        return self.credential_header.encode(), secret


class Upstreams:
    """All upstreams by provider name, and who is the default of each family."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._by_provider = {upstream.provider: upstream for upstream in upstreams}

    def __iter__(self) -> Iterator[Upstream]:
        return iter(self._by_provider.values())

    def get(self, provider: str) -> Upstream | None:
        return self._by_provider.get(provider)

    def default(self, dialect: Dialect, family: Family) -> Upstream | None:
        """The family's own provider where it is on, else the only one that serves the dialect, else None."""
        own = self._by_provider.get(DEFAULTS[family])
        if own is not None:
            return own
        serving = [upstream for upstream in self._by_provider.values() if upstream.serves(dialect, family)]
        return serving[0] if len(serving) == 1 else None
