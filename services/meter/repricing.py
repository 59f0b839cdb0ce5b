"""The price book of a running meter is read again by a reload; what is settled keeps its price."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from services.meter import prices
from services.meter.meter import Meter
from services.meter.settings import MeterSettings
from shared.books import running
from shared.contract.running import Reloaded, Result, Service
from shared.runtime.errors import StoreError
from shared.runtime.files import digest
from shared.runtime.reloading import Change, Reloading
from shared.runtime.store import Store

_LISTEN_SECONDS = 1.0

log = logging.getLogger(__name__)


class Repricing:
    """Reads the price book of one meter again."""

    def __init__(self, settings: MeterSettings, load: Callable[[], MeterSettings], meter: Meter) -> None:
        """`load`: reads the settings again; SettingsError."""
        self._settings = settings
        self._load = load
        self._meter = meter
        self.digest = _digest(settings)

    def files(self) -> list[Path]:
        """The files that a reload reads."""
        return self._settings.reloaded_files()

    async def reload(self) -> Change:
        """As `reloading.Act`."""
        before = self._settings
        now = await asyncio.to_thread(self._load)
        restart = before.restart_for(now)
        digest = await asyncio.to_thread(_digest, now)
        if digest == self.digest and now.prices == before.prices:
            return Change(changed=False, digest=digest, restart=restart)
        self._meter.reprice(await asyncio.to_thread(prices.load, now.prices, difference=before.cost_difference))
        self._settings, self.digest = before.reloaded(now), digest
        return Change(changed=True, digest=digest, restart=restart)


async def listen(store: Store, reloading: Reloading, meter: str) -> None:
    """Hear of reloads that are asked for, and answer, for as long as the process lives. `meter`: its name."""

    async def answer(number: int, result: Result, said: str) -> None:
        await running.note_reload(store, number, meter, Reloaded(Service.METER, result, socket.gethostname(), said))

    reloading.answer = answer
    while True:
        try:
            reloading.heard(await running.last_reload(store))
        except StoreError as exc:
            log.debug("Redis does not say whether a reload was asked for: %s", exc)
        await asyncio.sleep(_LISTEN_SECONDS)


def _digest(settings: MeterSettings) -> str:
    """Of the files of the price book."""
    return " ".join(digest(path)[:12] for path in prices.paths(settings.prices))
