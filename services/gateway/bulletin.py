"""What a gateway says of itself with its heartbeats, and what it hears with them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence

from services.gateway.running import Running
from shared.books.boots import Heard
from shared.contract.provider_state import ProviderState
from shared.contract.running import MOST_CREDENTIALS, GatewayState, encode
from shared.runtime.reloading import Reloading

_AGAIN_SECONDS = 5.0  # what changes with every request is said no more often; a change of health at once


class Bulletin:
    """The state of one gateway, as its heartbeats tell it."""

    def __init__(
        self,
        providers: Callable[[], Sequence[ProviderState]],
        reloading: Reloading,
        running: Running,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._providers = providers
        self._reloading = reloading
        self._running = running
        self._clock = clock
        self._host = socket.gethostname()
        self._told: object = None
        self._told_at = 0.0

    def said(self) -> bytes:
        """The state, where it is time to say it again; else nothing."""
        state, now = self._state(), self._clock()
        healths = [
            (provider.name, one.name, one.health) for provider in state.providers for one in provider.credentials
        ]
        urgent = (state.loaded_ms, state.refused, healths)
        if urgent == self._told and now - self._told_at < _AGAIN_SECONDS:
            return b""
        self._told, self._told_at = urgent, now
        return encode(state)

    async def heard(self, heard: Heard) -> None:
        """What a heartbeat brings back. StoreError where Redis does not take an answer."""
        self._reloading.heard(heard.reload)
        await self._running.heard(heard)

    def _state(self) -> GatewayState:
        reloading = self._reloading
        providers, left_out = bounded(self._providers())
        return GatewayState(
            self._host, reloading.loaded_ms, reloading.digest, reloading.refused, tuple(providers), left_out
        )


def bounded(providers: Sequence[ProviderState], most: int = MOST_CREDENTIALS) -> tuple[list[ProviderState], int]:
    """The first providers, with at most so many credentials, and how many credentials are left out."""
    kept: list[ProviderState] = []
    room = most
    for provider in providers:
        if len(provider.credentials) > room:
            break
        room -= len(provider.credentials)
        kept.append(provider)
    return kept, sum(len(provider.credentials) for provider in providers[len(kept) :])
