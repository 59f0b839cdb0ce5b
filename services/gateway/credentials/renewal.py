"""Renews credentials ahead of their expiry, each in a thread of its own: no request waits for one (decision 74)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from services.gateway.credentials.sources import Source
from services.gateway.routing.authenticators import Held

log = logging.getLogger(__name__)

# Ahead of the expiry, but within the five minutes in which the libraries fetch a new one instead of giving the old one.
_AHEAD_SECONDS = 240.0
_RETRY_SECONDS = 10.0
_LOOK_SECONDS = 60.0  # a machine that slept finds its credential expired
_START_SECONDS = 30.0
_LONGEST_REASON = 200  # characters


class Renewal:
    """The credentials of one process that expire."""

    def __init__(
        self,
        credentials: Iterable[tuple[Held[Any], Source]] = (),
        retry: float = _RETRY_SECONDS,
        ahead: float = _AHEAD_SECONDS,
    ) -> None:
        """`retry`: seconds to the next attempt after one that failed; `ahead`: of the expiry, seconds."""
        self._ahead = ahead
        self._credentials = list(credentials)
        self._retry = retry
        self._running: dict[Held[Any], threading.Event] = {}  # with what ends its renewal

    async def start(self, timeout: float = _START_SECONDS) -> None:
        """`add` the credentials that the process starts with."""
        await self.add(self._credentials, timeout)

    async def add(self, credentials: Iterable[tuple[Held[Any], Source]], timeout: float) -> None:
        """Fetch each credential that is new for the first time, for at most `timeout` seconds, and renew it from then
        on.

        One that cannot be fetched stops nothing: its provider alone answers 502 until it is there.
        """
        new = [(held, source) for held, source in credentials if held not in self._running]
        tries = [threading.Event() for _ in new]
        for (held, source), tried in zip(new, tries, strict=True):
            stopping = self._running[held] = threading.Event()
            # Not the loop's own threads: a metadata server that hangs would delay the process's end.
            threading.Thread(
                target=self._run,
                args=(held, source, tried, stopping),
                name=f"credential of {held.provider}",
                daemon=True,
            ).start()
        if tries:
            await asyncio.to_thread(_wait, tries, time.monotonic() + timeout)

    def keep(self, credentials: Iterable[tuple[Held[Any], Source]]) -> None:
        """Renew no others from now on."""
        kept = {held for held, _ in credentials}
        for held in [held for held in self._running if held not in kept]:
            self._running.pop(held).set()

    def stop(self) -> None:
        """Renew no more."""
        self.keep(())

    def _run(self, held: Held[Any], source: Source, tried: threading.Event, stopping: threading.Event) -> None:
        while not stopping.is_set():
            fresh = self._renew(held, source)
            tried.set()
            if held.remaining is None:
                return
            if stopping.wait(self._retry):  # also behind a success: a short-lived one must not keep us busy
                return
            while fresh and (left := (held.remaining or 0) - self._ahead) > 0:
                if stopping.wait(min(left, _LOOK_SECONDS)):
                    return

    def _renew(self, held: Held[Any], source: Source) -> bool:
        try:
            value, expires = source()
        except Exception as exc:  # noqa: BLE001  # three libraries, each with errors of its own
            remaining = held.remaining or 0
            then = f"the old one serves for {remaining:.0f} s" if remaining else "its requests get 502"
            log.warning("provider %s: no new credential (%s): %s; %s", held.provider, held.auth, _reason(exc), then)
            return False
        held.keep(value, expires)
        return True


def _wait(tries: Iterable[threading.Event], deadline: float) -> None:
    for tried in tries:
        tried.wait(max(0, deadline - time.monotonic()))


def _reason(error: Exception) -> str:
    """The first line of an error's text; what a token server has answered may follow."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:_LONGEST_REASON]}"
