"""Outages, played on two gateways and two providers: however the first provider fails, callers have the second one's
answer, each exchange is booked once, few requests meet what is down, and it is asked again when it is well."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NamedTuple

import httpx
import pytest

from services.cli.processes import Processes, free_port
from tests.support import web
from tests.support.certificates import PEM, certificate
from tests.support.provider import DemoProvider
from tests.support.requests import COUNTED, MESSAGES
from tests.support.system import System

CLIENTS = 2  # at each gateway
REQUESTS = 30  # of each client, in one round
# As the documents have it (docs/fallback.md): failures in a row until a credential cools, and of the requests of the
# last minute the share that may be tried again, or ten.
FAILURES, SHARE, ALWAYS = 3, 0.2, 10


class Seen(NamedTuple):
    """What a caller has got."""

    exchange_id: str
    status: int
    provider: str
    whole: bool


class Played(NamedTuple):
    """Two providers behind two gateways. `first` fails on command."""

    system: System
    urls: Sequence[str]
    first: DemoProvider
    second: DemoProvider

    def ask(self, client: httpx.Client, url: str, model: str) -> Seen:
        body = {"model": model, "messages": MESSAGES, **COUNTED}
        headers = {"authorization": f"Bearer {self.system.key}"}
        with client.stream("POST", f"{url}/v1/chat/completions", headers=headers, json=body) as answer:
            try:
                whole = answer.read().endswith(b"data: [DONE]\n\n")
            except httpx.RemoteProtocolError:
                whole = False
        given = answer.headers
        return Seen(given["x-generation-id"], answer.status_code, given.get("x-demo-provider", ""), whole)

    def load(self, model: str = "fast") -> list[Seen]:
        """A round of requests at both gateways at once."""

        def one(url: str) -> list[Seen]:
            with web.client() as client:
                return [self.ask(client, url, model) for _ in range(REQUESTS)]

        with ThreadPoolExecutor(CLIENTS * len(self.urls)) as clients:
            return [seen for some in clients.map(one, [*self.urls] * CLIENTS) for seen in some]

    def entries(self, seen: Sequence[Seen]) -> list[dict[str, Any]]:
        """What is booked of them; AssertionError where one is booked twice."""
        book = self.system.settled([one.exchange_id for one in seen])
        assert len(book) == len(seen)
        return list(book.values())

    def recovered(self) -> None:
        """Wait until both gateways ask the first provider again; nobody tells them."""
        with web.client() as client:
            for url in self.urls:
                self.system.until(lambda url=url: self.ask(client, url, "fast").provider == self.first.name)  # type: ignore[misc]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("outages")
    (folder / "old").mkdir()
    certificate(folder)
    certificate(folder / "old", age=timedelta(days=2))
    files = ("--certificate", str(folder / PEM), "--expired", str(folder / "old" / PEM))
    (folder / "trusted.pem").write_text((folder / PEM).read_text() + (folder / "old" / PEM).read_text())
    with Processes() as processes:
        first = DemoProvider(processes, folder, "east", *files)
        second = DemoProvider(processes, folder, "west")
        pool = [{"name": name, "api_key": f"sk-{name}"} for name in ("main", "spare")]
        settings = {
            "AROUTER_PROVIDERS__EAST__BASE_URL": f"{first.url}/v1",
            "AROUTER_PROVIDERS__EAST__CA_FILE": str(folder / "trusted.pem"),
            "AROUTER_PROVIDERS__WEST__BASE_URL": f"{second.url}/v1",
            "AROUTER_PROVIDERS__POOL__BASE_URL": f"{second.url}/v1",
            "AROUTER_PROVIDERS__POOL__CREDENTIALS": json.dumps(pool),
            "AROUTER_ROUTES__FAST__CANDIDATES": "east/gpt-4o, west/gpt-4o",
            "AROUTER_ATTEMPTS__RETRY_ON": "connect, 429, 5xx, timeout, broken",
            "AROUTER_FIRST_BYTE_TIMEOUT": "4",
            "AROUTER_LOG_LEVEL": "error",
        }
        with System(folder, **settings) as system:
            other = f"http://127.0.0.1:{free_port(0)}"
            system.start_gateway(other)
            system.processes.wait_for(f"{other}/readyz")
            yield Played(system, (system.url, other), first, second)


def met(entries: Sequence[dict[str, Any]], provider: str) -> Counter[str]:
    """How many exchanges have asked a provider that did not serve them, by the boot of their gateway."""
    return Counter(
        entry["exchange_id"].partition(".")[0]
        for entry in entries
        if any(attempt[0] == provider and attempt[3] != 200 for attempt in entry["attempts"])
    )


@pytest.mark.parametrize(
    ("outage", "said", "probes"),
    [
        ("down", "connect_refused", 2.0),
        ("tls", "connect_failed or tls", 2.0),
        ("expired", "certificate", 2.0),
        ("refuse", "closed_early", 2.0),
        ("hang", "first_byte_timeout", 2.0),
        ("status=500", "error", 2.0),
        ("status=503", "overloaded", 2.0),
        ("status=529, retry-after=1", "overloaded", 1.0),
        ("status=429, retry-after=1", "rate_limited", 1.0),
    ],
)
def test_callers_have_the_second_ones_answer(played: Played, outage: str, said: str, probes: float) -> None:
    """`said`: the cause in the attempts (a server that gives up a handshake may say so or not); `probes`: seconds
    between two attempts that try whether it is well again."""
    played.recovered()
    began = time.monotonic()
    played.first.fail(outage)
    seen = played.load()
    played.first.recover()
    took = time.monotonic() - began
    assert {(one.status, one.provider, one.whole) for one in seen} == {(200, "west", True)}
    entries = played.entries(seen)
    assert {(entry["provider"], entry["outcome"], entry["source"]) for entry in entries} == {
        ("west", "completed", "reported")
    }
    causes = {attempt[4] for entry in entries for attempt in entry["attempts"] if attempt[0] == "east"}
    assert len(causes) == 1
    assert causes <= set(said.split(" or "))
    # The first failures, those that were under way meanwhile, and one now and then that tries again.
    most = FAILURES - 1 + CLIENTS + took / probes + 1
    asked = met(entries, "east")
    assert len(asked) == 2
    assert max(asked.values()) <= most


def test_what_has_begun_is_not_tried_again(played: Played) -> None:
    """An answer that breaks off is the caller's: the other provider is not asked, and what came is booked, once."""
    played.recovered()
    played.first.fail("reset, after=4")
    seen = played.load()
    played.first.recover()
    assert {(one.status, one.provider, one.whole) for one in seen} == {(200, "east", False)}
    entries = played.entries(seen)
    assert {(entry["outcome"], entry["source"], len(entry["attempts"])) for entry in entries} == {
        ("upstream_failed", "partial", 1)
    }


def test_an_expired_credential_is_out_and_its_pool_serves(played: Played) -> None:
    with web.client() as client:
        served = [played.ask(client, url, "pool/gpt-4o").exchange_id for url in played.urls]
    (own,) = {entry["credential"] for entry in played.system.settled(served).values()}  # a caller's, at every gateway
    played.second.fail(f"status=401, credential={f'sk-{own}'[-5:]}")
    seen = played.load("pool/gpt-4o")
    played.second.recover()
    assert {(one.status, one.whole) for one in seen} == {(200, True)}
    entries = played.entries(seen)
    assert {entry["credential"] for entry in entries} == {"main", "spare"} - {own}
    refused = met(entries, "pool")
    assert len(refused) == 2
    assert max(refused.values()) <= CLIENTS  # what was under way when the first 401 came


def test_the_budget_held_and_nothing_is_booked_twice(played: Played) -> None:
    """Over all rounds, as it stands in the books: each further attempt had room in the minute before it."""
    entries = list(played.system.ledger().values())
    assert len(entries) > REQUESTS * CLIENTS * 2 * 9
    for boot in {entry["exchange_id"].partition(".")[0] for entry in entries}:
        own = [entry for entry in entries if entry["exchange_id"].startswith(boot)]
        opened = [entry["opened_ms"] for entry in own]
        # Not those on a new connection to the same provider (decision 57), nor those after a 401 (decision 103).
        further = [
            entry["opened_ms"] + sum(attempt[5] for attempt in entry["attempts"][:at])
            for entry in own
            for at in range(1, len(entry["attempts"]))
            if entry["attempts"][at - 1][0] != entry["attempts"][at][0]
        ]
        assert len(further) >= 9 * FAILURES - 9
        for now in further:
            # The clocks of the books and of the budget are a little apart, and it counts requests by the second.
            made = sum(now - 59_000 < one <= now for one in further)
            asked = sum(now - 63_000 < one <= now + 1_000 for one in opened)
            assert made <= max(SHARE * asked, ALWAYS)
    logs = [argument for one in (played.first, played.second) for argument in ("--oracle", str(one.emit_log))]
    found = json.loads(played.system.command("audit", "--json", *logs, expected=(0, 1)))
    assert found["differences"] == []
    assert found["conservation"]["gap"] == 0
