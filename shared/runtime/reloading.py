"""Reloading settings in a running process: when it is asked to, and when a file has changed. One reload at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shared.contract.running import Result, line
from shared.runtime.errors import SettingsError, StoreError
from shared.runtime.files import Stamp, stamps
from shared.runtime.reload_metrics import ReloadMetrics

# A changed file is read at the second look that finds it the same, so that none is read while it is written.
LOOK_SECONDS = 2.0

log = logging.getLogger(__name__)


class Change(NamedTuple):
    """What a reload has done. `digest`: of the configuration that is used now, without credentials; `restart`: the
    variables that differ, too, and that only a restart changes."""

    changed: bool
    digest: str
    restart: tuple[str, ...] = ()


Act = Callable[[], Awaitable[Change]]  # SettingsError where something is wrong; then nothing has changed
Answer = Callable[[int, Result, str], Awaitable[None]]  # of the reload with that number; StoreError


class Reloading:
    """The reloads of one process. `loaded_ms`: when its configuration was loaded; `digest`: of that; `refused`: why
    the last reload was refused, "" where it was not."""

    def __init__(
        self,
        act: Act,
        files: Callable[[], Iterable[Path]],
        metrics: ReloadMetrics,
        digest: str,
        *,
        look: float = LOOK_SECONDS,
    ) -> None:
        """`files`: those that the configuration is in, as it is now; `look`: seconds between two looks at them."""
        self.digest = digest
        self.loaded_ms = 0
        self.refused = ""
        self.answer: Answer | None = None
        self._act = act
        self._files = files
        self._look = look
        self._metrics = metrics
        self._asked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last: int | None = None  # number of the last reload that anybody asked for
        self._unanswered: list[int] = []
        self._use(digest)

    def ask(self) -> None:
        """Reload soon. May be called from a signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._asked.set)

    def heard(self, number: int) -> None:
        """Reload where `number`, that of the last reload that was asked for, is new. The first one is from before the
        start."""
        if self._last is not None and number not in (self._last, 0):
            self._unanswered.append(number)
            self._asked.set()
        self._last = number

    async def run(self) -> None:
        """Reload whenever that is asked for, or a file has changed, for as long as the process lives."""
        self._loop = asyncio.get_running_loop()
        before: tuple[Stamp, ...] = ()
        read: tuple[Stamp, ...] | None = None  # unknown: the files may have changed since the process read them
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look):
                    await self._asked.wait()
            now = await asyncio.to_thread(stamps, list(self._files()))
            if self._asked.is_set() or (now == before and now != read):
                read = now
                await self._reload()
            before = now

    async def _reload(self) -> None:
        said, asked = "", self._asked.is_set()
        self._asked.clear()
        numbers, self._unanswered = self._unanswered, []
        try:
            change = await self._act()
        except SettingsError as exc:
            result, said = Result.REFUSED, line(str(exc))
            log.error("the reload is refused, and the old settings stay: %s", exc)  # noqa: TRY400  # it is one line
        except Exception as exc:  # a bug: the old settings work
            result, said = Result.REFUSED, line(f"unexpected: {type(exc).__name__}")
            log.exception("the reload failed unexpectedly, and the old settings stay")
        else:
            result = Result.CHANGED if change.changed else Result.UNCHANGED
            if change.restart:
                said = f"only a restart changes {', '.join(change.restart)}"
                log.warning(said)
            if change.changed:
                self._use(change.digest)
            if asked or change.changed:
                log.info("settings were reloaded: %s", result.value)
        self.refused = said if result is Result.REFUSED else ""
        self._metrics.reloaded(result)
        for number in numbers:
            await self._tell(number, result, said)

    async def _tell(self, number: int, result: Result, said: str) -> None:
        if self.answer is None:
            return
        try:
            await self.answer(number, result, said)
        except StoreError as exc:
            log.warning("nobody hears how the reload went: %s", exc)

    def _use(self, digest: str) -> None:
        now = time.time()
        self.digest, self.loaded_ms = digest, int(now * 1000)
        self._metrics.loaded(digest, now)
