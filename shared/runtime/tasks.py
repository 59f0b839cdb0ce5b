"""Background tasks that are kept: the event loop itself holds them only weakly, and a lost task loses its error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from shared.contract.errors import ARouterError

T = TypeVar("T")

log = logging.getLogger(__name__)


class Tasks:
    """The tasks of one owner, until they end. An unexpected error is logged, even where a caller awaits the task."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, coroutine: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self) -> None:
        """Wait for all of them, however they end."""
        while self._running:
            await asyncio.wait(self._running)

    async def cancel(self) -> None:
        """Cancel all of them, and wait."""
        for task in self._running:
            task.cancel()
        await self.wait()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        # An error of ours is for whoever awaits the task; anything else is a bug and must not pass in silence.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ARouterError):
            log.error("task %s failed", task.get_name(), exc_info=error)
