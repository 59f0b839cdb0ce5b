"""The queue of one webhook in Redis: messages that wait, and dead letters; both are bounded. Any number of processes
may take from it: one that dies with a message leaves it to the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from shared.contract import names, scripts, webhooks
from shared.contract.errors import ARouterError, BadRecord
from shared.contract.webhooks import Message
from shared.runtime.store import Store, translated

MOST_WAITING = 10_000
MOST_DEAD = 1_000
_TAKEN_MS = 30_000  # longer than anybody waits for an answer

log = logging.getLogger(__name__)


class NoSuchMessage(ARouterError):
    """No dead letter has this id, or there is no webhook of this name."""


class State(NamedTuple):
    """How a webhook does. Times are UTC milliseconds."""

    name: str
    waiting: int
    sent: int
    lost: int  # dead letters that there was no room for
    failing: str  # error of a message that waits for its next attempt, "" where none has failed
    dead: list[tuple[int, Message]]  # since when, the oldest first


class Queue:
    """The queue of one webhook."""

    def __init__(self, store: Store, name: str, most_waiting: int = MOST_WAITING, most_dead: int = MOST_DEAD) -> None:
        self.name = name
        self._store = store
        self._most_waiting = most_waiting
        self._most_dead = most_dead
        self._keys = names.webhook_due(name), names.webhook_dead(name), names.webhook_messages(name)
        self._counts = names.webhook_counts(name)

    async def register(self) -> None:
        """From now on `known` has it."""
        with translated():
            await self._store.sadd(names.WEBHOOKS, self.name)  # type: ignore[misc]

    async def put(self, messages: Sequence[Message]) -> int:
        """Put messages in, each once for as long as it is there. Returns how many were new."""
        if not messages:
            return 0
        flat = [part for message in messages for part in (message.id, webhooks.encode(message))]
        return int(await self._eval(scripts.WEBHOOK_PUT, self._most_waiting, self._most_dead, *flat))

    async def take(self, count: int) -> list[Message]:
        """Messages that are due, for half a minute: `sent`, `again` or `dead` must be told by then."""
        due, _, messages = self._keys
        with translated():
            taken = await self._store.eval(scripts.WEBHOOK_TAKE, 2, due, messages, count, _TAKEN_MS)  # type: ignore[misc,arg-type]
        return [message for stored in taken if (message := _decoded(stored)) is not None]

    async def sent(self, message: Message) -> None:
        """It is delivered."""
        await self._eval(scripts.WEBHOOK_MOVE, message.id, "sent", b"", 0, 0)

    async def again(self, message: Message, seconds: float) -> None:
        """Try it again after so long."""
        await self._eval(scripts.WEBHOOK_MOVE, message.id, "due", webhooks.encode(message), int(seconds * 1000), 0)

    async def dead(self, message: Message) -> None:
        """It is not tried again by itself."""
        await self._eval(scripts.WEBHOOK_MOVE, message.id, "dead", webhooks.encode(message), 0, self._most_dead)

    async def resend(self, ids: Sequence[str] = ()) -> int:
        """Try dead letters again, all or these. Returns how many; NoSuchMessage where one of them is none."""
        letters = {letter.id: letter for _, letter in await self._dead()}
        for id in ids or letters:
            if id not in letters:
                raise NoSuchMessage(f"the webhook {self.name!r} has no dead letter {id!r}")
        for id in ids or letters:
            letter = letters[id]
            await self.again(Message(letter.id, letter.type, letter.queued_ms, letter.body), 0)
        return len(ids or letters)

    async def forget(self) -> None:
        """Throw away everything of a webhook that is no longer configured."""
        with translated():
            await self._store.delete(*self._keys, self._counts)
            await self._store.srem(names.WEBHOOKS, self.name)  # type: ignore[misc]

    async def state(self) -> State:
        """How it does now."""
        due, _, messages = self._keys
        with translated():
            waiting = int(await self._store.zcard(due))
            first = await self._store.zrange(due, 0, 0)
            stored = await self._store.hget(messages, first[0]) if first else None  # type: ignore[misc]
            counts = await self._store.hgetall(self._counts)  # type: ignore[misc]
        failed = _decoded(stored) if stored else None
        sent, lost = (int(counts.get(name, 0)) for name in (b"sent", b"lost"))
        return State(self.name, waiting, sent, lost, failed.error if failed else "", await self._dead())

    async def _dead(self) -> list[tuple[int, Message]]:
        _, dead, messages = self._keys
        with translated():
            found = await self._store.zrange(dead, 0, -1, withscores=True)
            stored = await self._store.hmget(messages, [id for id, _ in found]) if found else []  # type: ignore[misc]
        letters = [(int(since), _decoded(one)) for (_, since), one in zip(found, stored, strict=True) if one]
        return [(since, letter) for since, letter in letters if letter is not None]

    async def _eval(self, script: str, *arguments: str | int | bytes) -> int:
        with translated():
            return int(await self._store.eval(script, 4, *self._keys, self._counts, *arguments))  # type: ignore[misc,arg-type]


async def known(store: Store) -> list[str]:
    """The names of all webhooks that have been configured."""
    with translated():
        return sorted(name.decode() for name in await store.smembers(names.WEBHOOKS))  # type: ignore[misc]


def _decoded(stored: bytes) -> Message | None:
    try:
        return webhooks.decode(stored)
    except BadRecord:
        log.exception("a message of a webhook cannot be read")
        return None
