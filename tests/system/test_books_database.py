"""Followers of the ledger through real processes, beside a meter and alone: the books in a database, webhooks, and what
the commands say of them."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pyarrow import parquet
from standardwebhooks import Webhook

from services.cli import main
from services.cli.books import BadCursor
from services.cli.processes import ProcessFailed, free_port
from tests.support import web
from tests.support.guide import Snippet, snippets
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
    assert sorted(found) == ["limits", "otlp", "sql", "webhook"]
    state = found["sql"]
    assert (state["name"], state["failing"], state["gaps"], state["unreadable_entries"]) == ("sql", False, [], 0)
    assert (state["last_error"], state["shards_behind"]) == (None, 0)
    heading, *lines = followed.command("books", "status").splitlines()
    assert heading.split()[:2] == ["follower", "lag"]
    assert [line.split()[0] for line in lines] == sorted(found)


def test_an_audit_names_what_is_wrong_in_the_database(followed: System) -> None:
    [(id, output, _)] = in_database(followed, [ask(followed)])
    with sqlite3.connect(f"{followed.folder}/books.sqlite") as connection:
        connection.execute("UPDATE exchanges SET output_tokens = output_tokens + 1 WHERE exchange_id = ?", (id,))
    said = followed.command("audit", expected=(1,))
    assert f"{id}: output_tokens is {output + 1} in the database, {output} in the ledger" in said
    with sqlite3.connect(f"{followed.folder}/books.sqlite") as connection:
        connection.execute("UPDATE exchanges SET output_tokens = ? WHERE exchange_id = ?", (output, id))
    followed.command("audit")


def test_doctor_knows_the_database(followed: System) -> None:
    in_database(followed, [ask(followed)])
    environment = {**followed.environment, "AROUTER_PROVIDERS__DEAD__BASE_URL": f"{followed.provider}/v1"}
    said = followed.processes.command("doctor", environment=environment)
    about = [line[20:] for line in said.splitlines() if line.startswith("ok       database")]
    assert about[0].startswith("SQLite 3")
    assert about[1:] == ["has the tables of this version", "tables can be made and written there"]


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
        assert followers(system).keys() == {"limits"}
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


Command = Callable[..., str]


@pytest.fixture
def arouter(followed: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process, which takes less time; what it prints."""
    for name, value in followed.environment.items():
        monkeypatch.setenv(name, value)

    def run(*words: str, expected: int = 0) -> str:
        capsys.readouterr()
        arguments = main.parse(words)
        assert arguments.run(arguments) == expected
        return capsys.readouterr().out

    return run


def manager(system: System, arouter: Command) -> httpx.Client:
    key = arouter("keys", "create", "--name", "admin", "--management").strip()
    return web.client(base_url=system.url, headers={"x-api-key": key})


def test_exchanges_are_found_over_http_and_by_the_command(followed: System, arouter: Command) -> None:
    cut = web.post(followed.url + CHAT.path, headers=CHAT.headers(followed.key, "status=500"), json=CHAT.body)
    broken = cut.headers["x-generation-id"]
    ids = [*(ask(followed) for _ in range(3)), broken]
    book = followed.settled(ids)
    followed.until(lambda: len(rows(followed.folder, "SELECT 1 FROM exchanges")) >= len(followed.ledger()))
    with manager(followed, arouter) as client:
        everything, token, pages = [], None, 0
        while pages == 0 or token:
            params = {"page_size": 2} | ({"page_token": token} if token else {})
            page = client.get("/api/v1/exchanges", params=params).json()
            assert page["source"] == "database"
            everything += [one["id"] for one in page["data"]]
            token, pages = page["next_page_token"], pages + 1
        assert len(everything) == len(set(everything)) == len(followed.ledger())
        [one] = client.get("/api/v1/exchanges", params={"id": broken}).json()["data"]
        assert (one["status"], one["ended"], one["provider"]) == (500, "error", "openai")
        recent = client.get("/api/v1/exchanges", params={"ended": "error", "since": "1h"}).json()
        assert (recent["data"], recent["complete_since"]) == ([one], None)
        by_answer = client.get("/api/v1/exchanges", params={"response_id": book[ids[0]]["response_id"]}).json()["data"]
        assert ids[0] in [one["id"] for one in by_answer]
        wrong = ({"modle": "x"}, {"since": "soon"}, {"page_token": "x"}, {"team": ""}, {"team": ["a", "b"]})
        for asked in (*wrong, {"key": book[broken]["key"]}):  # the filter is key_id
            assert client.get("/api/v1/exchanges", params=asked).status_code == 400, asked
        assert client.get("/api/v1/streams", params={"key_id": "x"}).status_code == 400
        assert (
            client.get("/api/v1/exchanges", params={"key": followed.key}).status_code == 200
        )  # a caller's, as Google's
    own = web.get(f"{followed.url}/api/v1/exchanges", headers={"x-api-key": followed.key}).json()["data"]
    assert {one["key_id"] for one in own} == {book[broken]["key"]}
    other = arouter("keys", "create", "--name", "other").strip()
    assert web.get(f"{followed.url}/api/v1/exchanges", headers={"x-api-key": other}).json()["data"] == []
    hers = web.get(
        f"{followed.url}/api/v1/exchanges", params={"key_id": book[broken]["key"]}, headers={"x-api-key": other}
    )
    assert hers.status_code == 403
    [line] = arouter("exchanges", "--ended", "error", "--json").splitlines()
    assert json.loads(line)["exchange_id"] == broken
    table = arouter("exchanges", "--since", "1h").splitlines()
    assert max(map(len, table)) <= 100
    assert any(broken in line for line in table)
    assert "exchange_id  " in arouter("exchanges", broken)
    assert arouter("exchanges", "no-such-id", expected=1) == ""


def test_usage_is_summed_by_any_group(followed: System, arouter: Command) -> None:
    tagged = CHAT.headers(followed.key) | {"x-arouter-tags": "nightly"}
    response = web.post(followed.url + CHAT.path, headers=tagged, json=CHAT.body)
    in_database(followed, [response.headers["x-generation-id"]])
    followed.until(lambda: len(rows(followed.folder, "SELECT 1 FROM exchanges")) >= len(followed.ledger()))
    count = len(followed.ledger())
    with manager(followed, arouter) as client:
        plain = client.get("/api/usage/summary").json()
        assert (plain["total_requests"], plain["groups"]) == (count, [])
        for by in ("team", "user,tag", "credential,day", "hour,provider", "key,model", "month"):
            summary = client.get("/api/usage/summary", params={"group_by": by}).json()
            assert {tuple(one["group"]) for one in summary["groups"]} == {tuple(by.split(","))}
            assert sum(one["total_tokens"] for one in summary["groups"]) == plain["total_tokens"]
            for total in ("total_requests", "total_tokens", "estimated_cost_usd", "unpriced_requests"):
                assert summary[total] == plain[total], (by, total)
        series = client.get("/api/usage/timeseries", params={"group_by": "team,model"}).json()
        assert sum(one["requests"] for one in series["data_points"]) == count
        assert {tuple(one["group"]) for one in series["data_points"]} == {("team", "model")}
        for params in ({"group_by": "colour"}, {"group_by": "key,key"}, {"grop_by": "key"}, {"granularity": "weekly"}):
            assert client.get("/api/usage/summary", params=params).status_code == 400, params
        assert client.get("/api/usage/timeseries", params={"group_by": "day"}).status_code == 400
    lines = arouter("usage", "--since", "1h", "--by", "team,model,day").splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-1].split()[:2] == ["total", str(count)]
    report = json.loads(arouter("usage", "--by", "credential", "--json"))
    assert report["total"]["requests"] == sum(one["requests"] for one in report["groups"]) == count
    heading, *body = arouter("usage", "--csv").splitlines()
    assert heading.startswith("key,key_name,provider,model,requests,")
    assert sum(int(line.split(",")[4]) for line in body) == count


def test_the_books_are_exported_and_each_export_goes_on(followed: System, arouter: Command, tmp_path: Path) -> None:
    in_database(followed, [ask(followed)])
    followed.until(lambda: len(rows(followed.folder, "SELECT 1 FROM exchanges")) >= len(followed.ledger()))
    cursor = str(tmp_path / "cursor.json")

    def export(*arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in arouter("books", "export", *arguments).splitlines()]

    first = followed.until(
        lambda: len(found := export("exchanges", "--format", "jsonl")) == len(followed.ledger()) and found
    )
    assert export("exchanges", "--format", "jsonl", "--cursor", cursor) == first
    assert export("exchanges", "--format", "jsonl", "--cursor", cursor) == []
    costs = {one["exchange_id"]: one["cost_usd"] for one in first}
    for id, entry in followed.ledger().items():
        assert costs[id] is None or Decimal(costs[id]) * 10**9 == entry["cost_nanousd"]
    id = ask(followed)
    in_database(followed, [id])
    [later] = followed.until(lambda: export("exchanges", "--format", "jsonl", "--cursor", cursor))
    assert later["exchange_id"] == id
    with pytest.raises(BadCursor, match="cursor of another export"):
        export("usage", "--cursor", cursor)
    hours = export("usage", "--format", "jsonl")
    assert sum(one["requests"] for one in hours) == len(followed.ledger())
    assert export("usage", "--format", "jsonl", "--cursor", str(tmp_path / "usage.json")) == []  # no hour is over
    file = tmp_path / "exchanges.parquet"
    arouter("books", "export", "exchanges", "--format", "parquet", "--output", str(file))
    table = parquet.read_table(file).to_pylist()
    assert {one["exchange_id"] for one in table} == {*costs, id}
    heading, *_ = arouter("books", "export", "focus").splitlines()
    assert heading.startswith("BilledCost,BillingAccountId,")


@pytest.mark.parametrize("snippet", snippets("bash", page="tasks.md"), ids=str)
def test_each_question_of_the_page_is_answered_by_its_command(
    followed: System, tmp_path: Path, snippet: Snippet
) -> None:
    id = ask(followed)
    in_database(followed, [id])
    program, *arguments = shlex.split(snippet.text)
    assert program == "arouter"
    prefix = followed.ledger()[id]["key"][:8]
    placed = [str(tmp_path / one) if one.startswith("finance.") else one for one in arguments]
    said = followed.command(*(prefix if one == "1a2b" else one for one in placed))
    expected = {"exchanges": "exchange", "usage": "total", "books": "", "ps": ""}[arguments[0]]
    assert expected in said
    if "1a2b" in arguments:
        assert id in said
    if "finance.csv" in arguments:
        assert (tmp_path / "finance.csv").read_text().startswith("BilledCost,")
        assert (tmp_path / "finance.cursor").exists()


def test_the_page_has_the_five_questions() -> None:
    assert len(snippets("bash", page="tasks.md")) == 5


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


def test_a_meter_that_stops_leaves_nothing_unread(followed: System) -> None:
    """The last test of this system: its meter is gone then."""
    ids = [ask(followed) for _ in range(3)]
    followed.settled(ids)
    followed.stop(followed.meter)
    assert followed.meter.returncode == 0
    there = rows(followed.folder, "SELECT exchange_id FROM exchanges")
    assert {(id,) for id in ids} <= set(there)
