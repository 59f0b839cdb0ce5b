"""Followers of the ledger through real processes, beside a meter and alone: the books in a database, webhooks, and what
the commands say of them."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from standardwebhooks import Webhook

from services.cli.processes import ProcessFailed, free_port
from tests.support import web
from tests.support.receiver import Posted, Receiver, receiving
from tests.support.requests import ASKS
from tests.support.system import System

CHAT = ASKS["chat"]
METRICS_PORT = free_port(0)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """The receiver of a webhook."""
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[System]:
    """A system whose meter keeps the books in a file, and sends events and spans to a receiver."""
    folder = tmp_path_factory.mktemp("followed")
    webhook = {"url": f"{receiver.url}/hook", "name": "mine", "secret": SECRET}
    with System(
        folder,
        AROUTER_DATABASE_URL=f"sqlite:///{folder}/books.sqlite",
        AROUTER_WEBHOOKS=json.dumps([webhook]),
        AROUTER_OTLP_ENDPOINT=f"{receiver.url}/otlp",
        AROUTER_METER_METRICS_PORT=str(METRICS_PORT),
    ) as running:
        running.until(lambda: {"otlp", "webhook"} <= followers(running).keys())
        yield running


def followers(system: System) -> dict[str, Any]:
    """What `arouter books status` says, by follower."""
    return {state["name"]: state for state in json.loads(system.command("books", "status", "--json"))}


def ask(system: System) -> str:
    response = web.post(system.url + CHAT.path, headers=CHAT.headers(system.key), json=CHAT.body)
    assert response.status_code == 200, response.text
    return response.headers["x-generation-id"]


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{folder}/books.sqlite?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def in_database(system: System, ids: list[str]) -> list[tuple[Any, ...]]:
    """Wait until these are there; id, output tokens and cost of each."""

    def found() -> list[tuple[Any, ...]]:
        all_rows = rows(system.folder, "SELECT exchange_id, output_tokens, cost_nanousd FROM exchanges")
        return [row for row in all_rows if row[0] in ids]

    found_rows: list[tuple[Any, ...]] = system.until(lambda: len(found()) == len(ids) and found())
    return found_rows


def test_a_meter_keeps_the_books_in_a_database(followed: System) -> None:
    ids = [ask(followed) for _ in range(3)]
    book = followed.settled(ids)
    for id, output, cost in in_database(followed, ids):
        assert (output, cost) == (book[id]["output_tokens"], book[id]["cost_nanousd"])
        assert output > 0 and cost > 0
    found = json.loads(followed.command("audit", "--json"))
    assert found["database"]["exchanges"] == found["exchanges"] >= 3
    assert found["differences"] == []
    [usage] = rows(followed.folder, "SELECT sum(requests), sum(output_tokens) FROM usage_hourly")
    assert list(usage) == list(rows(followed.folder, "SELECT count(*), sum(output_tokens) FROM exchanges")[0])


def test_status_says_how_a_follower_does(followed: System) -> None:
    in_database(followed, [ask(followed)])

    def at_rest() -> Any:
        states = followers(followed)
        return all(state["lag_seconds"] == 0 for state in states.values()) and states

    found = followed.until(at_rest)
    assert sorted(found) == ["otlp", "sql", "webhook"]
    state = found["sql"]
    assert (state["name"], state["failing"], state["gaps"], state["unreadable_entries"]) == ("sql", False, [], 0)
    assert (state["last_error"], state["shards_behind"]) == (None, 0)
    heading, _, line, _ = followed.command("books", "status").splitlines()
    assert heading.split()[:2] == ["follower", "lag"]
    assert line.startswith("sql")


def test_an_audit_names_what_is_wrong_in_the_database(followed: System) -> None:
    [(id, output, _)] = in_database(followed, [ask(followed)])
    with sqlite3.connect(f"{followed.folder}/books.sqlite") as connection:
        connection.execute("UPDATE exchanges SET output_tokens = output_tokens + 1 WHERE exchange_id = ?", (id,))
    said = followed.command("audit", expected=(1,))
    assert f"{id}: output_tokens is {output + 1} in the database, {output} in the ledger" in said
    with sqlite3.connect(f"{followed.folder}/books.sqlite") as connection:
        connection.execute("UPDATE exchanges SET output_tokens = ? WHERE exchange_id = ?", (output, id))
    followed.command("audit")


def test_a_follower_runs_alone(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        before = ask(system)
        system.settled([before])
        with pytest.raises(ProcessFailed, match="AROUTER_DATABASE_URL: the follower sql needs it"):
            system.command("follow", "sql")
        system.extra["AROUTER_DATABASE_URL"] = f"sqlite:///{tmp_path}/books.sqlite"
        follower = system.processes.start("follow", "sql", environment=system.environment)
        system.until((tmp_path / "books.sqlite").exists)
        system.until(lambda: rows(tmp_path, "SELECT 1 FROM sqlite_master WHERE name = 'kept'"))
        assert len(in_database(system, [before, ask(system)])) == 2
        system.stop(follower)
        assert follower.returncode == 0
        assert system.command("books", "forget", "sql").startswith("forgotten: sql")
        assert json.loads(system.command("books", "status", "--json")) == []
        with pytest.raises(ProcessFailed, match="there is no follower 'sql'"):
            system.command("books", "forget", "sql")


def posted(receiver: Receiver, type: str, about: str) -> list[tuple[str, dict[str, Any]]]:
    """The messages of this type that name this, with their ids. Their signatures are right."""

    def signed(one: Posted) -> str:
        sent = datetime.fromtimestamp(int(one.headers["webhook-timestamp"]), UTC)
        return Webhook(SECRET).sign(one.headers["webhook-id"], sent, one.body.decode())

    got = [one for one in list(receiver.got) if one.path == "/hook"]
    assert all(one.headers["webhook-signature"] == signed(one) for one in got)
    found = [(one.headers["webhook-id"], json.loads(one.body)) for one in got]
    return [(id, said["data"]) for id, said in found if said["type"] == type and about in said["data"].values()]


def test_a_webhook_is_told_what_is_booked_and_what_happens_to_keys(followed: System, receiver: Receiver) -> None:
    id = ask(followed)
    book = followed.settled([id])[id]
    [(_, told)] = followed.until(lambda: posted(receiver, "exchange.booked", id))
    assert {name: told[name] for name in ("output_tokens", "cost_nanousd")} == {
        name: book[name] for name in ("output_tokens", "cost_nanousd")
    }
    made = json.loads(followed.command("keys", "create", "--name", "told", "--json"))
    followed.command("keys", "update", made["hash"], "--disable")
    [(_, created)] = followed.until(lambda: posted(receiver, "key.created", made["hash"]))
    assert made["key"] not in str(created)
    [(_, changed)] = followed.until(lambda: posted(receiver, "key.changed", made["hash"]))
    assert (changed["changed"], changed["disabled"]) == (["disabled"], True)


def test_what_a_receiver_does_not_take_can_be_sent_again(followed: System, receiver: Receiver) -> None:
    receiver.answers = [410]
    made = json.loads(followed.command("keys", "create", "--name", "lost", "--json"))

    def dead() -> list[str]:
        [state] = json.loads(followed.command("webhooks", "list", "--json"))
        return [letter["id"] for letter in state["dead"] if letter["body"]["data"].get("hash") == made["hash"]]

    [id] = followed.until(dead)
    receiver.answers = [204]
    assert followed.command("webhooks", "resend", "mine", "--all").startswith("sent again: ")
    followed.until(lambda: len(posted(receiver, "key.created", made["hash"])) > 1)
    assert {one for one, _ in posted(receiver, "key.created", made["hash"])} == {id}


def spans(receiver: Receiver) -> dict[str, Span]:
    """Every span that it got, by exchange."""
    found = {}
    for one in list(receiver.got):
        if one.path == "/otlp/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(one.body).resource_spans:
                for span in resource.scope_spans[0].spans:
                    attributes = {pair.key: pair.value.string_value for pair in span.attributes}
                    found[attributes["arouter.exchange.id"]] = span
    return found


def test_an_exchange_is_a_span_and_counts_in_the_metrics_of_usage(followed: System, receiver: Receiver) -> None:
    id = ask(followed)
    book = followed.settled([id])[id]
    span = followed.until(lambda: spans(receiver).get(id))
    values = {pair.key: pair.value for pair in span.attributes}
    assert values["gen_ai.request.model"].string_value == book["model"]
    assert values["gen_ai.usage.output_tokens"].int_value == book["output_tokens"]
    assert span.end_time_unix_nano > span.start_time_unix_nano == book["opened_ms"] * 1_000_000
    metrics = web.get(f"http://127.0.0.1:{METRICS_PORT}/metrics").text
    line = re.compile(rf'^arouter_usage_cost_usd_total{{model="{book["model"]}",team=""}} (\S+)$', re.MULTILINE)
    found = line.search(metrics)
    assert found is not None
    assert float(found[1]) >= book["cost_nanousd"] / 1e9 > 0
