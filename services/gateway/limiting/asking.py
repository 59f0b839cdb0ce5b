"""Questions to the scopes, in pipelines: those of one turn of the loop go together, and what comes while one is under
way goes with the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from shared.books import scripted, streams
from shared.books.scripted import Call
from shared.runtime.errors import StoreError, StoreUnavailable
from shared.runtime.store import Store
from shared.runtime.tasks import Tasks

_PATIENCE = 1.0  # seconds for an answer
_PROBE = 1.0  # seconds between two questions while Redis is away
_MOST = 500  # calls in a pipeline

Question = Callable[[int], Sequence[Call]]  # its calls, which may run until a time of Redis's clock (ms)


class _Pending:
    __slots__ = ("answer", "question")

    def __init__(self, question: Question, answer: asyncio.Future[list[Any]]) -> None:
        self.question = question
        self.answer = answer


class Asking:
    """Asks Redis, in batches. A question that is not answered in time is not answered at all."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._offset: float | None = None  # from our clock to Redis's, ms
        self._pending: list[_Pending] = []
        self._tasks = Tasks()
        self._flying = False  # whether a pipeline is under way
        self._away: float | None = None  # since when it has not answered
        self._tried = 0.0

    @property
    def away(self) -> float | None:
        """For how many seconds Redis has not answered; None where it does."""
        return None if self._away is None else self._clock() - self._away

    @property
    def silent(self) -> bool:
        """Whether nothing is asked now: Redis is away, and was tried a moment ago."""
        return self._away is not None and (self._flying or self._clock() - self._tried < _PROBE)

    async def ask(self, question: Question) -> list[Any]:
        """The replies to the calls of a question, StoreErrors among them. StoreUnavailable where none came in time."""
        if self.silent:
            raise StoreUnavailable("Redis is away")
        if self._away is not None:
            self._tried = self._clock()
        loop = asyncio.get_running_loop()
        pending = _Pending(question, loop.create_future())
        if not self._pending and not self._flying:
            loop.call_soon(self._send)
        self._pending.append(pending)
        return await pending.answer

    def _send(self) -> None:
        batch, self._pending = self._pending[:_MOST], self._pending[_MOST:]
        self._flying = True
        task = self._tasks.start(self._run(batch), "limits")
        late = asyncio.get_running_loop().call_later(_PATIENCE, self._late, batch)
        task.add_done_callback(lambda _: self._landed(late))

    def _landed(self, late: asyncio.TimerHandle) -> None:
        late.cancel()
        self._flying = False
        if self._pending:
            self._send()

    def _late(self, batch: Sequence[_Pending]) -> None:
        """Not cancelled: a cancelled call of redis-py may leave its connection out of step. What waits for its turn has
        waited long enough, too."""
        waiting, self._pending = self._pending, []
        self._fail([*batch, *waiting], StoreUnavailable("Redis does not answer"))

    async def _run(self, batch: Sequence[_Pending]) -> None:
        try:
            if self._offset is None:
                self.heard(await streams.now_ms(self._store))
            until = int(self._clock() * 1000 + (self._offset or 0) + _PATIENCE * 1000)
            batch = [pending for pending in batch if not pending.answer.done()]  # nobody releases what comes later
            if not batch:
                return
            calls = [pending.question(until) for pending in batch]
            replies = await scripted.try_each(self._store, [call for some in calls for call in some])
        except StoreError as exc:
            self._fail(batch, exc)
            return
        except BaseException:  # nobody may wait for an answer that never comes
            self._fail(batch, StoreUnavailable("limits could not be asked"))
            raise
        self._away = None
        at = 0
        for pending, some in zip(batch, calls, strict=True):
            if not pending.answer.done():
                pending.answer.set_result(replies[at : at + len(some)])
            at += len(some)

    def heard(self, now_ms: int | None) -> None:
        """Note the time of Redis's clock; None where it is to be asked for again."""
        self._offset = None if now_ms is None else now_ms - self._clock() * 1000

    def _fail(self, batch: Sequence[_Pending], error: StoreError) -> None:
        if self._away is None:
            self._away = self._tried = self._clock()
        for pending in batch:
            if not pending.answer.done():
                pending.answer.set_exception(error)
