"""How each provider is reached: TLS context and connections, which a reload keeps where nothing of them changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from services.gateway.client.headers import Header
from services.gateway.provider_settings import ProviderSettings
from services.gateway.upstream.connection import Body, Origin, Sink, Timeouts
from services.gateway.upstream.switching import Switchboard, Switched
from services.gateway.upstream.tls import Files, ResumingContext, client_context
from shared.runtime.errors import SettingsError
from shared.runtime.files import contents


class Answer(Protocol):
    """A provider's answer, once its headers are here."""

    status: int
    headers: list[Header]

    @property
    def ended(self) -> bool:
        """Whether the whole body is here."""

    def whole(self) -> bytes | None:
        """The body, if all of it came with the headers; then there is nothing to relay."""

    async def beginning(self, most: int, seconds: float) -> bytes:
        """Bytes of the body, which stay in it: those that are here once it is whole, `most` of them have come, or
        `seconds` have passed. Empty where none can be looked at."""

    async def relay(self, sink: Sink, idle_timeout: float) -> None:
        """Call `sink` with the body's bytes as they come, undecoded, until the body ends.

        UpstreamTimeout after `idle_timeout` seconds without bytes, UpstreamBroken where the body breaks off.
        """

    def pause(self) -> None:
        """Stop reading until `resume`."""

    def resume(self) -> None:
        """Read again."""

    def close(self) -> None:
        """Give the connection back; close it where the body was not read to its end."""


class Path(Protocol):
    """A way to reach one provider."""

    async def send(
        self,
        origin: Origin,
        method: str,
        target: bytes,
        headers: list[Header],
        body: Body,
        timeouts: Timeouts,
        *,
        fresh: bool = False,
        switch: bool = False,
    ) -> Answer:
        """Send a request and wait for the answer's headers. Raises httpx's errors; may be cancelled. `fresh`: on a new
        connection; `switch`: the answer may be that protocols are switched."""

    @property
    def idle(self) -> bool:
        """Whether it has no connection."""

    def retire(self) -> None:
        """Keep no connection from now on: idle ones are closed at once, the others after their request."""

    async def close(self) -> None:
        """Close every connection."""


class Tunnel(Answer, Protocol):
    """The answer to a handshake. Where its status is 101, it becomes a tunnel."""

    def switch(self, board: Switchboard) -> Switched:
        """Give `board` every byte from now on, and tell it when the provider is gone."""


class Way:
    """How one provider is reached. Its path is made for the first request, in the running loop. `same`: what its
    connections depend on."""

    __slots__ = ("_retired", "path", "same", "tls")

    def __init__(self, tls: ResumingContext, same: object) -> None:
        self.tls = tls
        self.same = same
        self.path: Path | None = None
        self._retired = False

    @property
    def idle(self) -> bool:
        return self.path is None or self.path.idle

    def begin(self, path: Path) -> Path:
        """Use a path from now on."""
        self.path = path
        if self._retired:  # an exchange that began before a reload tries again
            path.retire()
        return path

    def retire(self) -> None:
        """Keep no connection from now on."""
        self._retired = True
        if self.path is not None:
            self.path.retire()


class Ways:
    """The ways to all providers of one configuration. `tls`: for those without files of their own."""

    def __init__(self, providers: Mapping[str, ProviderSettings], before: Ways | None = None) -> None:
        """`before`: the ways of the configuration before; those to which nothing has changed are shared.

        SettingsError names a file that is no use.
        """
        self.tls: ResumingContext = before.tls if before is not None else client_context()
        known: Mapping[str, Way] = before.by_provider if before is not None else {}
        self.by_provider: dict[str, Way] = {
            name: _way(name, one, self.tls, known.get(name)) for name, one in providers.items()
        }
        self._retired: set[Way] = set()

    def get(self, provider: str) -> Way:
        """The way to a provider."""
        way = self.by_provider.get(provider)
        if way is None:
            way = self.by_provider[provider] = Way(self.tls, None)
        return way

    def succeed(self, before: Ways) -> None:
        """Take the place of `before`: its connections that are not shared are closed as soon as they are idle."""
        gone = set(before.by_provider.values()) - set(self.by_provider.values())
        for way in gone:
            way.retire()
        self._retired = {way for way in gone | before._retired if not way.idle}

    async def close(self) -> None:
        """Close every connection."""
        for way in (*self.by_provider.values(), *self._retired):
            if way.path is not None:
                await way.path.close()


def _way(name: str, provider: ProviderSettings, usual: ResumingContext, before: Way | None) -> Way:
    """How a provider is reached: as before, where nothing has changed that its connections depend on. SettingsError
    names a file that is no use."""
    files = Files(provider.ca_file, provider.client_cert, provider.client_key)
    place = provider.base_url, provider.region, provider.location
    same = place, provider.proxy, files, contents(filter(None, files))
    if before is not None and before.same == same:
        return before
    tls = usual
    for setting, wanted in (("CA_FILE", files._replace(cert=None, key=None)), ("CLIENT_CERT", files)):
        if wanted == Files():
            continue
        try:
            tls = client_context(wanted)
        except OSError as exc:  # ssl.SSLError is one
            variable = f"AROUTER_PROVIDERS__{name.upper()}__{setting}"
            raise SettingsError(f"{variable}: cannot be used: {exc.strerror or exc}") from None
    return Way(tls, same)
