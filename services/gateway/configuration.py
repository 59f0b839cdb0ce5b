"""The configuration of a gateway: made of its settings at the start, and made anew by a reload. What has not changed is
kept: connections, tokens, and their renewal."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from services.gateway.configured import Configured
from services.gateway.credential_health import Healths
from services.gateway.credentials.renewal import Renewal
from services.gateway.credentials.sources import Source, sources
from services.gateway.retries import Retries
from services.gateway.routing.authenticators import Held
from services.gateway.routing.configured import upstreams
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import TransportFactory, UpstreamClient
from shared.runtime.files import contents
from shared.runtime.reloading import Change
from shared.runtime.settings import named_files

# A reload waits so long for the first token of a new credential; after it, the provider answers 502 until it is there.
_FETCH_SECONDS = 10.0

Load = Callable[[], GatewaySettings]  # SettingsError


class Parts(NamedTuple):
    """What every configuration of a gateway is made with."""

    healths: Healths
    stopped: Callable[[], bool] = lambda: False  # as for `Retries`
    transport: TransportFactory | None = None


class Loaded(NamedTuple):
    """One configuration, ready to be used."""

    settings: GatewaySettings
    files: Mapping[str, tuple[str, ...]]  # what is in the files of each provider, as digests
    configured: Configured
    client: UpstreamClient
    credentials: list[tuple[Held[Any], Source]]  # those that are renewed


class Configuration:
    """The configuration that is used now. `configured`: as requests use it."""

    def __init__(
        self,
        settings: GatewaySettings,
        load: Load | None = None,
        transport: TransportFactory | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`load`: reads the settings again; None where that is not possible. `stopped`: as for `Retries`.

        SettingsError as in `loaded`.
        """
        self._load = load or (lambda: settings)
        self._parts = Parts(Healths(time.monotonic), stopped, transport)
        self._now = loaded(settings, self._parts)
        self._renewal = Renewal(self._now.credentials)

    @property
    def configured(self) -> Configured:
        return self._now.configured

    @property
    def settings(self) -> GatewaySettings:
        return self._now.settings

    @property
    def digest(self) -> str:
        """Of what a reload changes, without credentials."""
        said = self.settings.model_dump_json(include=set(self.settings.RELOADED))
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    async def start(self) -> None:
        """Fetch the credentials that expire, and renew them from then on."""
        await self._renewal.start()

    async def reload(self, use: Callable[[Configured], None]) -> Change:
        """Read the settings again, and `use` what is made of them. SettingsError where something is wrong with them;
        then everything stays as it was."""
        before = self._now
        # In a thread: certificates and the clouds' libraries take their time, and streams run meanwhile.
        settings = await asyncio.to_thread(self._load)
        restart = before.settings.restart_for(settings)
        made = await asyncio.to_thread(loaded, before.settings.reloaded(settings), self._parts, before)
        if made.settings == before.settings and made.files == before.files:
            return Change(changed=False, digest=self.digest, restart=restart)
        await self._renewal.add(made.credentials, _FETCH_SECONDS)
        self._now = made
        use(made.configured)
        made.client.ways.succeed(before.client.ways)
        self._renewal.keep(made.credentials)
        return Change(changed=True, digest=self.digest, restart=restart)

    async def close(self) -> None:
        """Renew nothing any more, and close every connection."""
        self._renewal.stop()
        await self._now.client.close()


def loaded(settings: GatewaySettings, parts: Parts, before: Loaded | None = None) -> Loaded:
    """A configuration made of settings. `before`: the one whose place it is to take; an upstream that has not changed
    is taken from there, with the tokens that are held for it.

    SettingsError where a file is no use, or an extra is missing.
    """
    files = {name: contents(named_files(provider)) for name, provider in settings.providers.items()}
    kept = {}
    if before is not None:
        for upstream in before.configured.upstreams:
            name = upstream.provider
            same = settings.providers.get(name) == before.settings.providers[name]
            if same and files[name] == before.files[name]:
                kept[name] = upstream
    found = upstreams(settings, parts.healths, kept=kept)
    client = UpstreamClient(settings, parts.transport, before.client if before is not None else None)
    configured = Configured(found, client, _retries(settings, parts, before), lists=settings.request_fallback)
    return Loaded(settings, files, configured, client, sources(found, settings))


def _retries(settings: GatewaySettings, parts: Parts, before: Loaded | None) -> Retries:
    """The same where their policy is; else with what was counted, and a minute of its own for the budget."""
    if before is None:
        return Retries(settings.attempts, parts.stopped)
    known = before.configured.retries
    if settings.attempts == before.settings.attempts:
        return known
    made = Retries(settings.attempts, parts.stopped)
    made.unmade = known.unmade
    return made
