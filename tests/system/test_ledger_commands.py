"""`arouter audit` and `arouter ledger`, as a billing system and an operator use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.cli.processes import ProcessFailed
from shared.contract import names
from tests.support import web
from tests.support.requests import ASKS
from tests.support.system import System


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system whose books nobody else writes."""
    with System(tmp_path_factory.mktemp("ledger")) as running:
        yield running


def ask(system: System, name: str, directives: str = "") -> str:
    wanted = ASKS[name]
    answer = web.post(system.url + wanted.path, headers=wanted.headers(system.key, directives), json=wanted.body)
    return str(answer.headers["x-generation-id"])


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_what_is_exported_is_what_was_settled_and_nothing_twice(own: System, tmp_path: Path) -> None:
    cursor = str(tmp_path / "cursor.json")
    first = {ask(own, name) for name in ("chat", "messages", "gemini")}
    own.settled(first)
    exported = lines(own.command("ledger", "export", "--cursor", cursor))
    assert {line["exchange_id"] for line in exported} >= first
    assert lines(own.command("ledger", "export", "--cursor", cursor)) == []
    second = ask(own, "chat stream")
    own.settled([second])
    [line] = lines(own.command("ledger", "export", "--cursor", cursor))
    assert (line["exchange_id"], line["revision"], line["final"]) == (second, 1, True)
    assert line["raw_usage"]["completion_tokens"] == line["output_tokens"]
    everything = lines(own.command("ledger", "export"))
    assert len(everything) == len({(line["exchange_id"], line["revision"]) for line in everything})
    settled = line["settled_ms"] / 1000
    assert line in lines(own.command("ledger", "export", "--since", iso(settled - 1), "--until", iso(settled + 1)))
    assert lines(own.command("ledger", "export", "--until", iso(settled - 3600))) == []
    Path(cursor).write_text("nonsense")
    with pytest.raises(ProcessFailed, match="not a cursor of an export"):
        own.command("ledger", "export", "--cursor", cursor)


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def test_one_exchange_is_shown(own: System) -> None:
    id = ask(own, "chat stream", "no-usage")
    own.settled([id])
    [line] = lines(own.command("ledger", "show", id))
    assert (line["exchange_id"], line["source"]) == (id, "estimated")
    with pytest.raises(ProcessFailed, match="not in the ledger"):
        own.command("ledger", "show", "0" * 26 + ".0.0")
    with pytest.raises(ProcessFailed, match="not an exchange id"):
        own.command("ledger", "show", "nonsense")


def test_the_audit_finds_what_is_wrong(own: System) -> None:
    id = ask(own, "chat")
    entry = own.settled([id])[id]
    own.until(lambda: not own.backlog())
    clean = json.loads(own.command("audit", "--json", "--oracle", str(own.emit_log)))
    assert clean["differences"] == []
    assert clean["conservation"]["gap"] == 0
    assert clean["conservation"]["settled"] == clean["exchanges"]
    assert "no differences" in own.command("audit")

    shard = int(id.split(".")[1])
    field = f"{entry['provider']}\x1f{entry['model']}\x1finput_tokens"
    own.redis.hincrby(names.totals(shard, entry["key"]), field, 5)
    with pytest.raises(ProcessFailed):
        own.command("audit")
    found = json.loads(own.command("audit", "--json", expected=(1,)))
    [difference] = found["differences"]
    assert "input_tokens" in difference
    own.redis.hincrby(names.totals(shard, entry["key"]), field, -5)

    boot = id.split(".")[0]
    own.redis.hincrby(names.boot(boot), str(shard), 3)  # three exchanges that nobody has seen
    found = json.loads(own.command("audit", "--json", expected=(1,)))
    assert found["conservation"]["gap"] == 3

    with own.emit_log.open() as log:
        line = json.loads(log.readline())
    forged = own.folder / "forged.jsonl"
    forged.write_text(json.dumps(line | {"exchange_id": "0" * 26 + ".0.1"}) + "\n")
    found = json.loads(own.command("audit", "--json", "--oracle", str(forged), expected=(1,)))
    assert any("it is not booked" in text for text in found["differences"])
