"""Tails that are sealed, through real processes: nothing of the text is on the disk, and the books agree with a key and
without it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.cli.processes import ProcessFailed
from shared.contract import names
from tests.support import web
from tests.support.requests import ASKS
from tests.support.system import SHARDS, System

PROMPT = "the merger is on friday, tell nobody"


def asked(system: System, directives: str, *, most: int = 1 << 20) -> tuple[str, bytes]:
    """Stream an answer, all of it or its beginning. Its exchange, and what was said."""
    ask = ASKS["chat stream"]
    body = {**ask.body, "messages": [{"role": "user", "content": PROMPT}]}
    headers = ask.headers(system.key, directives)
    said = b""
    with web.stream("POST", system.url + ask.path, headers=headers, json=body) as response:
        for part in response.iter_raw():
            said += part
            if len(said) >= most:
                break
        return response.headers["x-generation-id"], said


def on_disk(folder: Path, said: bytes) -> set[str]:
    """The files below a folder that have a line of this answer, or the prompt."""
    lines = [PROMPT.encode(), *(line for line in said.split(b"\n") if len(line) > 20 and b"[DONE]" not in line)]
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found.update({path.name} if any(line in data for line in lines) else ())
    return found


def waiting_in_quarantine(system: System) -> int:
    return sum(int(str(system.redis.hlen(names.quarantine(shard)))) for shard in range(SHARDS))


def restarted(system: System, keys: Path, *given: str) -> subprocess.Popen[bytes]:
    """Gateway and meter start with these keys; the meter."""
    keys.write_text("\n".join(given))
    system.extra["AROUTER_SEAL_KEYS_FILE"] = str(keys)
    system.gateway, meter = system.start_gateway(system.url), system.start_meter()
    system.processes.wait_for(f"{system.url}/readyz")
    return meter


def shown(system: System, id: str) -> list[dict[str, Any]]:
    """What `quarantine show` says of the records that have bytes."""
    records = json.loads(system.command("quarantine", "show", id))["records"]
    return [record for record in records if record["kind"] != "Open"]


def no_difference(system: System) -> bool:
    return bool(json.loads(system.command("audit", "--json"))["differences"] == [])


def test_a_key_that_is_thrown_away_takes_the_text_with_it(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        first, second = (system.command("seal-key").strip() for _ in range(2))
        system.stop(system.gateway)
        system.stop(system.meter)
        meter = restarted(system, tmp_path / "keys", first)
        counted, text = asked(system, "tokens=12, no-usage")  # its request goes along
        system.settled([counted])
        system.kill(meter)
        waiting, more = asked(system, "tokens=12, no-usage")
        lost, beginning = asked(system, "tokens=3000, pace=5", most=20_000)
        system.kill(system.gateway)
        text += more + beginning
        assert on_disk(tmp_path, text) == set()

        meter = restarted(system, tmp_path / "keys", second)
        after, _ = asked(system, "tokens=12")
        book = system.settled([counted, waiting, lost, after])
        assert [book[id]["ended"] for id in (counted, waiting, lost, after)] == ["whole", *["unreadable"] * 2, "whole"]
        assert (book[waiting]["input_tokens"], book[waiting]["output_tokens"]) == (None, None)
        assert book[after]["output_tokens"] == system.emitted()[after]["usage"]["output_tokens"]
        system.until(lambda: not system.backlog())
        held = {case["id"]: case["reason"] for case in json.loads(system.command("quarantine", "list", "--json"))}
        assert held.keys() == {waiting, lost}
        [reason] = set(held.values())
        assert reason.endswith(", which AROUTER_SEAL_KEYS_FILE does not have here")
        assert no_difference(system)
        records = shown(system, waiting)
        assert {(record["body"], record["unreadable"]) for record in records} == {(None, reason)}
        key = reason.split()[4].strip(",")
        assert f"sealed with keys that are not here: 2 with {key};" in system.command("doctor", expected=(0, 1))
        assert on_disk(tmp_path, text) == set()

        system.stop(system.gateway)
        system.stop(meter)
        restarted(system, tmp_path / "keys", second, first)  # the key was found in a drawer
        assert shown(system, waiting)[-1]["body"] == more.decode()
        system.command("quarantine", "retry", "all")
        system.until(lambda: not system.backlog() and not waiting_in_quarantine(system))
        lines = {line["exchange_id"]: line for line in map(json.loads, system.command("ledger", "export").splitlines())}
        assert (lines[waiting]["ended"], lines[lost]["source"]) == ("whole", "partial")
        assert min(lines[id]["output_tokens"] for id in (waiting, lost)) > 0
        assert no_difference(system)


def test_what_is_not_sealed_is_found(system: System) -> None:
    """The counter-proof: without a key, the same search finds the text, in the journal and in Redis's file."""
    id, said = asked(system, "tokens=12, no-usage")
    system.settled([id])
    assert system.until(lambda: len(on_disk(system.folder, said)) > 1)


def test_a_key_that_is_none_stops_the_start_with_one_line(system: System, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("ab" * 31 + "\n")
    environment = {**system.environment, "AROUTER_SEAL_KEYS_FILE": str(tmp_path / "keys")}
    for service in ("gateway", "meter"):
        with pytest.raises(ProcessFailed, match=r"line 1 of \S+ is not a key: 64 hex digits") as failed:
            system.processes.command(service, environment=environment)
        assert "abab" not in str(failed.value)
