"""Where clouds' credentials come from: their own libraries, each an extra (`arouter[aws]`, `[gcp]`, `[azure]`).

Fetching blocks, and may take long: it is for a thread.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any, NamedTuple

from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.authenticators import Held, Signature, Token
from services.gateway.routing.sigv4 import Keys
from services.gateway.routing.upstreams import Upstream
from services.gateway.settings import GatewaySettings
from shared.contract.providers import Auth
from shared.runtime import files
from shared.runtime.errors import SettingsError

_GOOGLE_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_ENTRA_SCOPE = "https://cognitiveservices.azure.com/.default"


class Fetched(NamedTuple):
    """A credential and its expiry, in seconds since 1970; None for never."""

    value: Any  # Keys of AWS's, else a token
    expires: float | None


Source = Callable[[], Fetched]  # raises what its library raises
Importing = Callable[[str], Any]  # a module by its name


class _Extra(NamedTuple):
    """Modules, and the extra that installs them."""

    name: str
    modules: tuple[str, ...]


_EXTRAS: Mapping[Auth, _Extra] = {
    Auth.AWS: _Extra("aws", ("botocore.session",)),
    Auth.GOOGLE: _Extra("gcp", ("google.auth", "google.auth.transport.requests")),
    Auth.ENTRA: _Extra("azure", ("azure.identity",)),
}


def sources(
    upstreams: Iterable[Upstream], settings: GatewaySettings, importing: Importing = importlib.import_module
) -> list[tuple[Held[Any], Source]]:
    """Every credential that is renewed, with its source. SettingsError where an extra or a file is missing."""
    found = []
    for upstream in upstreams:
        for credential in upstream.pool:
            authenticator = next(iter(credential.authenticators.values()))
            if isinstance(authenticator, Signature | Token):
                held = authenticator.held
                found.append((held, _source(held, credential.name, settings.providers[held.provider], importing)))
    return found


def _source(held: Held[Any], credential: str, settings: ProviderSettings, importing: Importing) -> Source:
    modules = _modules(held.provider, held.auth, importing)
    if held.auth is Auth.AWS:
        return _aws(modules[0], settings.region)
    if held.auth is Auth.ENTRA:
        return _entra(modules[0])
    setting = f"CREDENTIALS: {credential}" if credential else "CREDENTIALS_FILE"
    return _google(modules[0], modules[1], f"AROUTER_PROVIDERS__{held.provider.upper()}__{setting}", held.file)


def _modules(provider: str, auth: Auth, importing: Importing) -> list[Any]:
    extra = _EXTRAS[auth]
    try:
        return [importing(name) for name in extra.modules]
    except ImportError:
        needed = f"provider {provider!r} needs the extra {extra.name!r}: pip install 'arouter[{extra.name}]'"
        raise SettingsError(needed) from None


def _aws(botocore: Any, region: str | None) -> Source:
    """AWS's chain: variables, profiles, web identity, containers, instance metadata."""
    session = botocore.get_session()
    session.set_config_variable("region", region)  # of the token service that roles are asked of

    def fetch() -> Fetched:
        credentials = session.get_credentials()  # kept by the session, and refreshed by it
        if credentials is None:
            raise LookupError("AWS's credential chain finds no keys")
        keys = credentials.get_frozen_credentials()
        expiry = getattr(credentials, "_expiry_time", None)  # botocore shows it nowhere else
        return Fetched(Keys(keys.access_key, keys.secret_key, keys.token), expiry and expiry.timestamp())

    return fetch


def _google(auth: Any, requests: Any, setting: str, file: Path | None) -> Source:
    """A credentials file, or Google's default credentials: a variable's file, gcloud's, or the metadata server."""
    found: list[Any] = []

    def load() -> None:
        given = {"scopes": _GOOGLE_SCOPES}
        found.append(
            (auth.default(**given) if file is None else auth.load_credentials_from_file(str(file), **given))[0]
        )

    if file is not None:
        file = file.expanduser()
        try:
            if json.loads(files.read(file)).get("type") == "service_account":
                load()  # offline; for other types the library asks Google which project it is
        except (auth.exceptions.GoogleAuthError, OSError, ValueError, AttributeError) as exc:
            why = (exc.strerror if isinstance(exc, OSError) else None) or "it holds no credentials of Google's"
            raise SettingsError(f"{setting}: cannot be used: {why}") from None

    def fetch() -> Fetched:
        if not found:
            load()
        credentials = found[0]
        credentials.refresh(requests.Request())
        expiry = credentials.expiry  # in UTC, and says so in newer versions alone
        return Fetched(credentials.token, expiry and expiry.replace(tzinfo=UTC).timestamp())

    return fetch


def _entra(identity: Any) -> Source:
    """Azure's default credential: variables, workload identity, managed identity, the command line's login."""
    try:
        credential = identity.DefaultAzureCredential()
    except ValueError as exc:  # one of its variables is set to what cannot be meant, such as nothing
        raise SettingsError(f"Azure's default credential cannot be used: {exc}") from None

    def fetch() -> Fetched:
        token = credential.get_token(_ENTRA_SCOPE)
        return Fetched(token.token, token.expires_on)

    return fetch
