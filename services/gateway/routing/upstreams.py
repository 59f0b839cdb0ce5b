"""The upstreams: configured providers, each with its endpoints and credential. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from shared.contract.dialects import Dialect, Family
from shared.contract.providers import DEFAULTS

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
    """A configured provider: its endpoint for each family, and its credential, which `repr` does not show."""

    provider: str
    base_url: str
    endpoints: Mapping[Family, str]  # absolute URLs, the provider's own family first
    api_key: SecretStr | None
    credential_header: str  # of the OpenAI family
    dialects: frozenset[Dialect]
    ask_usage: bool
    read_on: bool  # when the client leaves, read to the answer's end
    decode_requests: bool  # compressed request bodies go there decoded
    passes: frozenset[bytes] = frozenset()  # headers of callers that it gets though they are removed otherwise
    basic: SecretStr | None = None  # HTTP Basic, in place of the API key

    def serves(self, dialect: Dialect, family: Family) -> bool:
        return family in self.endpoints and (dialect in self.dialects or dialect not in FAMILIES)

    def credential(self, family: Family) -> tuple[bytes, bytes] | None:
        """The header with the credential, as the family's endpoint expects it; None without a credential."""
        if self.basic is not None:
            return b"authorization", self.basic.get_secret_value().encode()
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
    """All upstreams by provider name, and the default of each family."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._by_provider = {upstream.provider: upstream for upstream in upstreams}

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
