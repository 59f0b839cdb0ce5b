"""The follower `webhook`: entries of the ledger and events go into a queue for each webhook, and out of it.

Putting a message into a queue is a command to Redis, so that a receiver that is slow or gone holds neither the ledger
nor the others.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec

from services.sinks.posting import Answer, Poster
from services.sinks.present import FromNow
from services.sinks.webhooks import messages, signing
from services.sinks.webhooks.queue import Queue
from services.sinks.webhooks.settings import WebhookSettings
from shared.books.follow import Batch
from shared.contract.errors import ARouterError
from shared.contract.webhooks import Message
from shared.runtime import events
from shared.runtime.errors import SinkUnavailable
from shared.runtime.store import Store

NAME = "webhook"
# Seconds until the next attempt after each that has failed, give or take a fifth; then it is a dead letter.
DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0)
_JITTER = 0.2
_AT_ONCE = 8  # messages to one receiver
_PAGE = 100
_IDLE_SECONDS = 0.5
_AGAIN_SECONDS = 5.0  # after an error of Redis
_GONE = 410

log = logging.getLogger(__name__)


def sink(store: Store, webhooks: Sequence[WebhookSettings]) -> FromNow:
    """What puts entries of the ledger into the queues."""
    queues = [(webhook, Queue(store, webhook.name)) for webhook in webhooks]

    async def put(batches: Sequence[Batch]) -> None:
        for webhook, queue in queues:
            for batch in batches:
                await queue.put([one for entry in batch.entries for one in messages.of_entry(webhook, entry)])

    async def close() -> None:
        """Its Redis is the caller's."""

    return FromNow(store, NAME, put, close)


class Deliveries:
    """Puts events into the queues, and sends what is in them, in any number of processes."""

    def __init__(
        self,
        store: Store,
        webhooks: Sequence[WebhookSettings],
        *,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`now`: UTC seconds since the epoch; `jitter`: from 0 to 1. SettingsError where a secret cannot be read."""
        self._store = store
        self._outgoing = [
            (webhook, Outgoing(Queue(store, webhook.name), webhook, now=now, jitter=jitter)) for webhook in webhooks
        ]

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until `stopping`; what is on its way then is waited for."""
        for _, outgoing in self._outgoing:
            with suppress(Exception):  # it is registered with the next start, too
                await outgoing.queue.register()
        loop = asyncio.get_running_loop()
        rounds = [self.read_events, *(outgoing.deliver for _, outgoing in self._outgoing)]
        tasks = [loop.create_task(_repeat(one, stopping)) for one in rounds]
        try:
            await asyncio.wait(tasks)
        finally:
            for _, outgoing in self._outgoing:
                await outgoing.close()
        for task in tasks:
            task.result()

    async def read_events(self) -> int:
        """Put the next events into the queues. Returns how many there were. What it says is as in `deliver`."""
        before = await events.position(self._store, NAME)
        if not before:
            await events.move(self._store, NAME, before, await events.newest(self._store))
            return 0
        page = await events.read(self._store, before, _PAGE)
        if not page.last:
            return 0
        for webhook, outgoing in self._outgoing:
            await outgoing.queue.put([one for event in page.events for one in messages.of_event(webhook, event)])
        await events.move(self._store, NAME, before, page.last)  # unless another process has: ids know what comes twice
        return len(page.events)


class Outgoing:
    """Sends what is in the queue of one webhook."""

    def __init__(
        self, queue: Queue, webhook: WebhookSettings, *, now: Callable[[], float], jitter: Callable[[], float]
    ) -> None:
        self.queue = queue
        self._keys = webhook.keys
        self._poster = Poster(webhook.url.get_secret_value())
        self._now = now
        self._jitter = jitter

    async def deliver(self) -> int:
        """Send what is due, a few at once. Returns how many were tried; StoreError where Redis is away."""
        taken = await self.queue.take(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for message in taken:
                group.create_task(self._send(message))
        return len(taken)

    async def close(self) -> None:
        """Close the connections."""
        await self._poster.close()

    async def _send(self, message: Message) -> None:
        headers = signing.headers(message.id, int(self._now()), message.body, self._keys)
        try:
            answer = await self._poster.post(message.body, headers)
        except SinkUnavailable as exc:
            await self._failed(message, str(exc), None)
            return
        if answer.taken:
            await self.queue.sent(message)
        else:
            await self._failed(message, str(answer.status), answer)

    async def _failed(self, message: Message, error: str, answer: Answer | None) -> None:
        failed = msgspec.structs.replace(
            message, attempts=message.attempts + 1, error=error, tried_ms=int(self._now() * 1000)
        )
        if failed.attempts > len(DELAYS) or (answer is not None and answer.status == _GONE):
            log.error("webhook %s: %s is a dead letter: %s", self.queue.name, message.id, error)
            await self.queue.dead(failed)
            return
        log.warning("webhook %s: %s is tried again: %s", self.queue.name, message.id, error)
        seconds = DELAYS[failed.attempts - 1] * (1 - _JITTER + 2 * _JITTER * self._jitter())
        await self.queue.again(failed, max(seconds, answer.retry_after if answer is not None else 0))


async def _repeat(work: Callable[[], Awaitable[int]], stopping: asyncio.Event) -> None:
    """Do this until `stopping`: at once where there was something to do, else a little later."""
    while not stopping.is_set():
        pause = _IDLE_SECONDS
        try:
            if await work():
                continue
        except Exception as exc:  # a bug here must not stop the meter that it runs beside
            log.warning("webhooks wait: %s", exc, exc_info=not isinstance(exc, ARouterError))
            pause = _AGAIN_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stopping.wait()
