"""Makes the upstreams of the settings and the provider table."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

from services.gateway.bad_keys import BadKey
from services.gateway.client.headers import ACCOUNTS, ATTEMPTS, PROVIDER
from services.gateway.credential_health import Healths
from services.gateway.credential_settings import CredentialSettings, api_key
from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.authenticators import Authenticator, Fixed, Held, Signature, Token, keyed
from services.gateway.routing.named import named_routes
from services.gateway.routing.pools import Credential, Pool
from services.gateway.routing.sigv4 import Signer
from services.gateway.routing.upstreams import FAMILIES, Paths, Upstream, Upstreams
from services.gateway.settings import GatewaySettings
from shared.contract.dialects import Dialect, Family
from shared.contract.providers import Auth, Provider, known
from shared.runtime import files
from shared.runtime.errors import SettingsError

Clock = Callable[[], float]  # monotonic seconds

_OWN_ENDPOINTS = {Family.OPENAI: "{base}", Family.ANTHROPIC: "{root}", Family.GEMINI: "{root}"}


def upstreams(
    settings: GatewaySettings,
    healths: Healths | None = None,
    clock: Clock = time.monotonic,
    *,
    kept: Mapping[str, Upstream] | None = None,
) -> Upstreams:
    """The upstreams, every provider that is on, and the routes to them. `healths`: what is known of their credentials
    already; `kept`: upstreams that have not changed since they were made.

    SettingsError, one line, where a credential's file cannot be used, or the candidates of a route do not serve the
    same dialects.
    """
    known_healths = healths if healths is not None else Healths(clock)
    same = kept or {}
    on = ((name, configured) for name, configured in settings.providers.items() if configured.on)
    found = {name: same.get(name) or _upstream(name, configured, known_healths) for name, configured in on}
    return Upstreams(found.values(), named_routes(settings.routes, found))


def _upstream(name: str, configured: ProviderSettings, healths: Healths) -> Upstream:
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
    pool = Pool(name, list(_credentials(name, row, configured, base, healths)))
    authenticators = [one for credential in pool for one in credential.authenticators.values()]
    return Upstream(
        provider=name,
        base_url=base,
        endpoints=endpoints,
        pool=pool,
        dialects=dialects or frozenset(FAMILIES),
        ask_usage=configured.ask_usage,
        read_on=configured.reads_on,
        passes=configured.passed,
        decode_requests=configured.request_encoding == "decoded",
        takes_models=row.takes_models,
        paths=Paths(other, scope, row.deployments, row.check.format(**names)),
        whole_bodies=any(one.whole_body for one in authenticators),
        trusted=not configured.passed & ACCOUNTS,
        bad_key=BadKey(row.bad_key, row.forbids) if row.bad_key or row.forbids else None,
        shown=((ATTEMPTS, b"1"), (PROVIDER, name.encode())),
    )


def _credentials(
    name: str, row: Provider, configured: ProviderSettings, base: str, healths: Healths
) -> Iterator[Credential]:
    """The named ones, else the one of the provider's own settings."""
    for one in configured.credentials or (None,):
        found = _authenticators(name, row, configured) if one is None else _named(name, row, configured, one)
        digest = blake2b(f"{base} {configured.region} {_secret(found)}".encode(), digest_size=16).digest()
        health = healths.of(name, "" if one is None else one.name, digest)
        yield Credential("", found, health) if one is None else Credential(one.name, found, health, one.weight)


def _secret(authenticators: Mapping[Family, Authenticator]) -> object:
    """What tells a credential from another one of its name."""
    one = authenticators[Family.OPENAI]
    if isinstance(one, Signature | Token):
        return one.held.auth, one.held.file
    return one.headers if isinstance(one, Fixed) else None


def _named(
    name: str, row: Provider, configured: ProviderSettings, credential: CredentialSettings
) -> dict[Family, Authenticator]:
    """How a request of each family is authenticated with a named credential."""
    if credential.credentials_file is not None:
        if (configured.auth or row.auth) is not Auth.GOOGLE:
            raise SettingsError(f"{_setting(name, credential)}: only {Auth.GOOGLE} has a credentials_file")
        return dict.fromkeys(Family, Token(Held(name, Auth.GOOGLE, file=credential.credentials_file)))
    if credential.basic_auth is not None:
        return dict.fromkeys(Family, Fixed(((b"authorization", _basic(credential.basic_auth.get_secret_value())),)))
    secret = credential.api_key.get_secret_value() if credential.api_key is not None else _read(name, credential)
    return {family: keyed(secret, family, row.credential_header) for family in Family}


def _read(name: str, credential: CredentialSettings) -> str:
    """The key in a file. What is wrong is said with an absolute path alone: any other name may be the key itself, put
    there by mistake."""
    path = credential.api_key_file or Path()
    setting = f"{_setting(name, credential)}: {path if path.is_absolute() else 'api_key_file'}"
    try:
        found = api_key(files.read(path).decode())
    except OSError as exc:
        raise SettingsError(f"{setting} cannot be read: {exc.strerror}") from None
    except ValueError:  # of the key, or of its encoding; its text is not repeated
        raise SettingsError(f"{setting} holds no key of printable ASCII") from None
    except RuntimeError:
        raise SettingsError(f"{setting} is in the home folder of nobody") from None
    if not found:
        raise SettingsError(f"{setting} is empty")
    return str(found)


def _setting(name: str, credential: CredentialSettings) -> str:
    return f"AROUTER_PROVIDERS__{name.upper()}__CREDENTIALS: {credential.name}"


def _authenticators(name: str, row: Provider, configured: ProviderSettings) -> dict[Family, Authenticator]:
    """How a request of each family is authenticated where no credential has a name."""
    auth = configured.authenticates(row.auth)
    if auth is Auth.AWS:
        assert configured.region is not None  # GatewaySettings has checked it
        return dict.fromkeys(Family, Signature(Held(name, auth), Signer(configured.region, row.service)))
    if auth is not None:
        return dict.fromkeys(Family, Token(Held(name, auth, file=configured.credentials_file)))
    if configured.basic_auth is not None:
        return dict.fromkeys(Family, Fixed(((b"authorization", _basic(configured.basic_auth.get_secret_value())),)))
    if configured.api_key is None:
        return dict.fromkeys(Family, Fixed())
    secret = configured.api_key.get_secret_value()
    return {family: keyed(secret, family, row.credential_header) for family in Family}


def _basic(user: str) -> bytes:
    """`user:password` as the value of an Authorization header (RFC 7617)."""
    pair = user if ":" in user else user + ":"
    return b"Basic " + base64.b64encode(pair.encode())


def _own_provider(name: str, dialects: frozenset[Dialect]) -> Provider:
    """A provider of the operator's own: OpenAI's dialects where none are named."""
    families = [family for family in Family if any(FAMILIES.get(dialect) is family for dialect in dialects)]
    return Provider(name, None, (), {family: _OWN_ENDPOINTS[family] for family in families or [Family.OPENAI]})
