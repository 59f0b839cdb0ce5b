"""What a gateway says of itself with its heartbeats, and what it hears with them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence

from shared.contract import running
from shared.contract.provider_state import ProviderState
from shared.contract.running import MOST_CREDENTIALS, GatewayState
from shared.runtime.reloading import Reloading

_AGAIN_SECONDS = 5.0  # what changes with every request is said no more often; a change of health at once


class Bulletin:
    """The state of one gateway, as its heartbeats tell it."""

    def __init__(
        self,
        providers: Callable[[], Sequence[ProviderState]],
        reloading: Reloading,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._providers = providers
        self._reloading = reloading
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
        return running.encode(state)

    def heard(self, reload: int) -> None:
        """The number of the last reload that was asked for."""
        self._reloading.heard(reload)

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
