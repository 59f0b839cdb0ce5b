"""Makes the upstreams of the settings and the provider table."""

from __future__ import annotations

import base64

from pydantic import SecretStr

from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.authenticators import Authenticator, Fixed, Held, Signature, Token, keyed
from services.gateway.routing.named import named_routes
from services.gateway.routing.sigv4 import Signer
from services.gateway.routing.upstreams import FAMILIES, Paths, Upstream, Upstreams
from services.gateway.settings import GatewaySettings
from shared.contract.dialects import Dialect, Family
from shared.contract.providers import Auth, Provider, known

_OWN_ENDPOINTS = {Family.OPENAI: "{base}", Family.ANTHROPIC: "{root}", Family.GEMINI: "{root}"}


def upstreams(settings: GatewaySettings) -> Upstreams:
    """The upstreams: every provider that is on, and the routes to them.

    SettingsError, one line, where the candidates of a route do not serve the same dialects.
    """
    found = {name: _upstream(name, configured) for name, configured in settings.providers.items() if configured.on}
    return Upstreams(found.values(), named_routes(settings.routes, found))


def _upstream(name: str, configured: ProviderSettings) -> Upstream:
    dialects = frozenset(Dialect(part.strip()) for part in configured.dialects.split(",") if part.strip())
    row = known(name, dict(configured)) or _own_provider(name, dialects)
    places = {"region": configured.region, "project": configured.project, "location": configured.location}
    base = configured.base_url
    if base is None:
        usual = row.base_urls.get(configured.location, row.base_url)
        assert usual is not None  # GatewaySettings has checked it
        base = usual.format(**places)
    scope = row.scope.format(**places)
    names = {"base": base, "root": base.removesuffix("/v1"), "scope": scope}
    endpoints = {family: where.format(**names) for family, where in row.endpoints.items()}
    own = next(iter(endpoints))
    other = endpoints[own] if own is Family.OPENAI else base
    return Upstream(
        provider=name,
        base_url=base,
        endpoints=endpoints,
        authenticators=_authenticators(name, row, configured),
        dialects=dialects or frozenset(FAMILIES),
        ask_usage=configured.ask_usage,
        read_on=configured.reads_on,
        passes=configured.passed,
        decode_requests=configured.request_encoding == "decoded",
        takes_models=row.takes_models,
        paths=Paths(other, scope, row.deployments, row.check.format(**names)),
    )


def _authenticators(name: str, row: Provider, configured: ProviderSettings) -> dict[Family, Authenticator]:
    """How a request of each family is authenticated."""
    auth = configured.authenticates(row.auth)
    if auth is Auth.AWS:
        assert configured.region is not None  # GatewaySettings has checked it
        return dict.fromkeys(Family, Signature(Held(name, auth), Signer(configured.region, row.service)))
    if auth is not None:
        return dict.fromkeys(Family, Token(Held(name, auth)))
    if configured.basic_auth is not None:
        return dict.fromkeys(Family, Fixed(((b"authorization", _basic(configured.basic_auth)),)))
    if configured.api_key is None:
        return dict.fromkeys(Family, Fixed())
    secret = configured.api_key.get_secret_value()
    return {family: keyed(secret, family, row.credential_header) for family in Family}


def _basic(user: SecretStr) -> bytes:
    """`user:password` as the value of an Authorization header (RFC 7617)."""
    text = user.get_secret_value()
    pair = text if ":" in text else text + ":"
    return b"Basic " + base64.b64encode(pair.encode())


def _own_provider(name: str, dialects: frozenset[Dialect]) -> Provider:
    """A provider of the operator's own: OpenAI's dialects where none are named."""
    families = [family for family in Family if any(FAMILIES.get(dialect) is family for dialect in dialects)]
    return Provider(name, None, (), {family: _OWN_ENDPOINTS[family] for family in families or [Family.OPENAI]})
