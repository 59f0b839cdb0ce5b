"""Makes the upstreams of the settings and the provider table."""

from __future__ import annotations

import base64

from pydantic import SecretStr

from services.gateway.routing.upstreams import FAMILIES, Upstream, Upstreams
from services.gateway.settings import GatewaySettings, ProviderSettings
from shared.contract.dialects import Dialect, Family
from shared.contract.providers import PROVIDERS, Provider

_OWN_ENDPOINTS = {Family.OPENAI: "{base}", Family.ANTHROPIC: "{root}", Family.GEMINI: "{root}"}


def upstreams(settings: GatewaySettings) -> Upstreams:
    """The upstreams: every provider that has a credential or a base URL in the settings."""
    return Upstreams(
        _upstream(name, configured)
        for name, configured in settings.providers.items()
        if configured.api_key is not None or configured.base_url is not None
    )


def _upstream(name: str, configured: ProviderSettings) -> Upstream:
    dialects = frozenset(Dialect(part.strip()) for part in configured.dialects.split(",") if part.strip())
    known = PROVIDERS.get(name) or _own_provider(name, dialects)
    base = configured.base_url or known.base_url
    assert base is not None  # GatewaySettings has checked it
    root = base.removesuffix("/v1")
    return Upstream(
        provider=name,
        base_url=base,
        endpoints={family: where.format(base=base, root=root) for family, where in known.endpoints.items()},
        api_key=configured.api_key,
        credential_header=known.credential_header,
        dialects=dialects or frozenset(FAMILIES),
        ask_usage=configured.ask_usage,
        read_on=configured.reads_on,
        passes=configured.passed,
        basic=_basic(configured.basic_auth),
        decode_requests=configured.request_encoding == "decoded",
    )


def _basic(user: SecretStr | None) -> SecretStr | None:
    """`user:password` as the value of an Authorization header (RFC 7617)."""
    if user is None:
        return None
    text = user.get_secret_value()
    pair = text if ":" in text else text + ":"
    return SecretStr("Basic " + base64.b64encode(pair.encode()).decode())


def _own_provider(name: str, dialects: frozenset[Dialect]) -> Provider:
    """A provider of the operator's own: OpenAI's dialects where none are named."""
    families = [family for family in Family if any(FAMILIES.get(dialect) is family for dialect in dialects)]
    return Provider(name, None, (), {family: _OWN_ENDPOINTS[family] for family in families or [Family.OPENAI]})
