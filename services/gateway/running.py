"""What a gateway runs, told to whoever asks, and cancels of it. Both come with heartbeats.

It is read off the data plane's own register, and only when somebody has asked: requests and chunks pay nothing for it
(decision 122).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, cast

import msgspec

from services.gateway.ending import Answering
from shared.books import running
from shared.books.boots import Heard
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.running import (
    LONGEST_NAME,
    MOST_RUNNING,
    MOST_RUNNING_BYTES,
    Cancelled,
    RunningExchange,
    RunningExchanges,
    encode,
)
from shared.contract.tail import Open
from shared.runtime.store import Store

_AT_ONCE = 100  # then the streams get a turn


class Exchange(Protocol):
    """An exchange that runs."""

    @property
    def id(self) -> ExchangeId: ...

    @property
    def answering(self) -> Answering: ...

    @property
    def relayed(self) -> int:
        """Bytes of the answer's body so far."""

    @property
    def first_byte_ms(self) -> int | None: ...

    @property
    def client_left(self) -> bool: ...

    def cancel(self) -> bool:
        """End it now. Returns False where it is ending already."""


class Running:
    """What one gateway runs."""

    def __init__(
        self,
        store: Store,
        register: Mapping[Any, Open],
        opened: Callable[[], Mapping[str, Mapping[int, int]]],
        bound: tuple[int, int] = (MOST_RUNNING, MOST_RUNNING_BYTES),
    ) -> None:
        """`register`: an `Exchange` each, oldest first; `opened`: by boot and shard, how many ids are minted; `bound`:
        the most exchanges and bytes that are told."""
        self._store = store
        self._register: Mapping[Exchange, Open] = register
        self._opened = opened
        self._bound = bound
        self._host = socket.gethostname()
        self._answered = 0

    async def heard(self, heard: Heard) -> None:
        """Do what a heartbeat has brought back. StoreError where Redis does not take the answer; it is asked again."""
        if heard.cancels:
            await self._cancel(heard.cancels)
        if heard.asked_ms not in (0, self._answered):
            *_, boot = self._opened()  # the last one is that of now
            said = encode(await self.said())
            await running.tell_running(self._store, boot, heard.asked_ms, said)
            self._answered = heard.asked_ms

    async def said(self) -> RunningExchanges:
        """What runs now. The event loop gets a turn again and again."""
        most, room = self._bound
        told: list[msgspec.Raw] = []
        left_out = max(0, len(self._register) - most)
        oldest = list(islice(self._register.items(), most))
        for at, (exchange, opened) in enumerate(oldest, 1):
            if at % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if exchange not in self._register:
                continue  # it has ended meanwhile
            one = msgspec.json.encode(_seen(exchange, opened))
            room -= len(one) + 1
            if room < 0:
                left_out += len(oldest) - at + 1
                break
            told.append(msgspec.Raw(one))
        # As bytes already, which had to be counted.
        return RunningExchanges(self._host, left_out, cast("tuple[RunningExchange, ...]", tuple(told)))

    async def _cancel(self, ids: Sequence[str]) -> None:
        here = {exchange.id: exchange for exchange in self._register}
        answers: dict[str, dict[str, Cancelled]] = {}
        for text in ids:
            boot = text.partition(".")[0]
            answers.setdefault(boot, {})[text] = self._cancelled(text, here)
        for boot, answered in answers.items():
            await running.note_cancelled(self._store, boot, answered)

    def _cancelled(self, text: str, here: Mapping[ExchangeId, Exchange]) -> Cancelled:
        try:
            id = ExchangeId.parse(text)
        except BadRecord:
            return Cancelled.UNKNOWN
        exchange = here.get(id)
        if exchange is not None:
            return Cancelled.CANCELLED if exchange.cancel() else Cancelled.ENDED
        minted = self._opened().get(id.boot, {}).get(id.shard, 0)
        return Cancelled.ENDED if id.n < minted else Cancelled.UNKNOWN


def _seen(exchange: Exchange, opened: Open) -> RunningExchange:
    who = exchange.answering
    return RunningExchange(
        id=str(exchange.id),
        opened_ms=opened.opened_ms,
        key=opened.key,
        dialect=opened.dialect,
        provider=who.provider or opened.provider,
        model=(who.model or opened.model)[:LONGEST_NAME],
        bytes=exchange.relayed,
        first_byte_ms=exchange.first_byte_ms,
        streamed=opened.streamed,
        credential=who.credential,
        team=opened.team[:LONGEST_NAME],
        user=opened.user[:LONGEST_NAME],
        client_address=opened.client_address[:LONGEST_NAME],
        read_on=exchange.client_left,
    )
