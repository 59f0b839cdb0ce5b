"""What a gateway says that it runs: how much of it, and how it is read off; and the table that shows it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest

from services.cli import running as commands
from services.cli.output import print_table
from services.gateway.ending import Answering
from services.gateway.running import Running
from shared.access.keys import KeyRecord
from shared.books.lookup import Cancel, State
from shared.books.running import Answers
from shared.contract.ids import ExchangeId
from shared.contract.running import (
    LONGEST_NAME,
    MOST_RUNNING,
    MOST_RUNNING_BYTES,
    RunningExchange,
    RunningExchanges,
    decode,
    encode,
)
from shared.contract.tail import Open
from shared.runtime.store import Store
from tests.contract.samples import OPEN

BOOT = "A" * 26
NOWHERE = cast("Store", None)


class Exchange:
    """One that runs."""

    def __init__(self, n: int, who: Answering = Answering("", "", "main", "")) -> None:  # noqa: B008  # it is frozen
        self.id = ExchangeId(BOOT, 0, n)
        self.answering = who
        self.relayed = 10 * n
        self.first_byte_ms = None
        self.client_left = False

    def cancel(self) -> bool:
        return True


def said(register: dict[Any, Open], *bound: int) -> RunningExchanges:
    """What a gateway with this register says, once it is stored and read."""
    limits = (bound[0], bound[1]) if bound else (MOST_RUNNING, MOST_RUNNING_BYTES)
    gateway = Running(NOWHERE, register, lambda: {BOOT: {0: 1}}, limits)
    return decode(encode(asyncio.run(gateway.said())), RunningExchanges)


def test_an_exchange_says_who_asks_who_answers_and_how_far_it_is() -> None:
    [one] = said({Exchange(3, Answering("azure", "gpt-4o", "spare", "x")): OPEN}).exchanges
    assert one == RunningExchange(
        id=f"{BOOT}.0.3",
        opened_ms=OPEN.opened_ms,
        key=OPEN.key,
        dialect=OPEN.dialect,
        provider="azure",
        model="gpt-4o",
        bytes=30,
        streamed=True,
        credential="spare",
        team=OPEN.team,
        user=OPEN.user,
        client_address=OPEN.client_address,
    )
    [first] = said({Exchange(0): OPEN}).exchanges
    assert (first.provider, first.model, first.credential) == (OPEN.provider, OPEN.model, "main")


def test_the_oldest_are_told_and_the_others_are_counted() -> None:
    register = dict.fromkeys(map(Exchange, range(10)), OPEN)
    found = said(register, 4, MOST_RUNNING_BYTES)
    assert ([one.bytes for one in found.exchanges], found.left_out) == ([0, 10, 20, 30], 6)
    size = len(msgspec.json.encode(said(register).exchanges[-1])) + 1
    found = said(register, 8, 3 * size)
    assert ([one.bytes for one in found.exchanges], found.left_out) == ([0, 10, 20], 7)
    assert said({}) == RunningExchanges(said({}).host)


def test_what_callers_choose_is_cut() -> None:
    long = "\0" * 100_000
    opened = msgspec.structs.replace(OPEN, user=long, model=long, client_address=long)
    [one] = said({Exchange(0): opened}).exchanges
    assert {len(one.user), len(one.model), len(one.client_address)} == {LONGEST_NAME}
    assert len(msgspec.json.encode(one)) < 3000


def test_streams_get_their_turns_and_what_ends_meanwhile_is_not_told() -> None:
    register: dict[Any, Open] = dict.fromkeys(map(Exchange, range(1000)), OPEN)

    async def asked() -> tuple[RunningExchanges, int]:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                if turns <= 5:
                    register.pop(next(reversed(register)))
                await asyncio.sleep(0)

        task = asyncio.get_running_loop().create_task(others())
        try:
            return await Running(NOWHERE, register, lambda: {BOOT: {}}).said(), turns
        finally:
            task.cancel()

    found, turns = asyncio.run(asked())
    assert turns >= 9, "no hundred of them are gone through in one turn"
    assert len(found.exchanges) == 995
    assert found.left_out == 0


def runs(**changes: Any) -> RunningExchange:
    one = RunningExchange(f"{BOOT}.2.85", 0, "c0ffee" * 10, "openai_chat", "openai", "gpt-4o", 2048, 210, streamed=True)
    return msgspec.structs.replace(one, **changes)


LONG = {"model": "m" * 128, "user": "u" * 128, "team": "t" * 128, "bytes": 10**13, "first_byte_ms": 10**8}


@pytest.mark.parametrize(
    "found",
    [
        [runs()],
        [runs(), runs(**LONG), runs(id=f"{BOOT}.1023.16777215", bytes=1023 * 1024, first_byte_ms=999)],
        [],
    ],
)
def test_the_table_fits_into_a_hundred_columns(
    found: list[RunningExchange], capsys: pytest.CaptureFixture[str]
) -> None:
    key = KeyRecord("c0ffee" * 10, "a name that is long", "lr_live_…", 0)
    for records in ({}, {key.hash: key}):
        print_table(commands.COLUMNS, commands.rows(found, records, 35_999_999))
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 100
        assert [line.split()[0] for line in lines[1:]] == [one.id for one in found], "an id is there to be copied"


def test_a_line_says_what_an_operator_looks_for() -> None:
    key = KeyRecord("c0ffee" * 10, "agents", "lr_live_…", 0)
    one = runs(team="research", user="ada\x1b[2J")
    [line] = commands.rows([one], {key.hash: key}, 59_000)
    assert line == (one.id, "59s", "agents", "research/ad…", "openai/gpt-4o", "2K", "210ms")
    [line] = commands.rows([runs(first_byte_ms=None, user="\x1b")], {}, 0)
    assert line == (one.id, "0ms", "c0ffeec0", "?", "openai/gpt-4o", "2K", "-")


def test_what_the_list_does_not_have_is_said() -> None:
    answers = Answers({BOOT: RunningExchanges("gw-1", 7, (runs(),))}, {"B" * 26: "gw-2"})
    assert commands.totals(answers).startswith("exchanges: 1; gateways: 1")
    more, silent = commands.unknown(answers)
    assert "7 more" in more
    assert silent == f"the gateway {'B' * 26} on gw-2 has not answered"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Cancel(State.CANCELLED), "x is cancelled"),
        (Cancel(State.ENDED, "completed"), "x has ended already: completed"),
        (Cancel(State.ENDED), "x has ended already: it is not booked yet"),
        (Cancel(State.ASKED), "x: its gateway has not answered; it cancels where it comes back within a minute"),
    ],
)
def test_what_has_become_of_a_cancel_is_said(answer: Cancel, text: str) -> None:
    assert commands.said("x", answer) == text
