"""The control API over HTTP: what was used, added up and over time, and one exchange."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import httpx
import pytest

from services.cli.processes import ProcessFailed
from shared.contract.usage import COUNTERS
from tests.support import web
from tests.support.controlled import Controlled, ask, made
from tests.support.requests import ASKS


def test_summary_time_series_and_ledger_say_the_same(controlled: Controlled) -> None:
    keys = [made(controlled)[0] for _ in range(2)]
    for number in range(30):
        name = ["chat", "chat stream", "messages stream", "gemini", "responses"][number % 5]
        directives = f"tokens={number}, seed={number}" + (", no-usage" if number % 7 == 0 else "")
        ask(controlled.url, keys[number % 2], name, directives)
    exported = controlled.until(lambda: settled(controlled, 30))
    for params in ({}, {"provider_id": "openai"}, {"model": "gpt-4o"}, {"provider_id": "nobody"}):
        summary = controlled.manager.get("/api/usage/summary", params=params).json()
        wanted = [e for e in exported if all(e[name.removesuffix("_id")] == value for name, value in params.items())]
        assert sums_of(summary) == expected(wanted)
        for group, fields in (("by_provider", 1), ("by_model", 2), ("by_key", 1)):
            rows = summary[group]
            assert sum(row["requests"] for row in rows) == len(wanted)
            assert sum(row["total_tokens"] for row in rows) == summary["total_tokens"]
            counters = rows[0].keys() if rows else set()
            assert all(len(row) == 11 + fields + (group == "by_key") for row in rows)
        for granularity in ("hourly", "daily", "monthly"):
            series = controlled.manager.get(
                "/api/usage/timeseries",
                params={**params, "granularity": granularity, "start_time": summary["start_time"]},
            ).json()
            for total, value in summary.items():
                name = total if total == "total_tokens" else total.removeprefix("total_")
                if name in counters and name != "estimated_cost_usd":
                    assert sum(point[name] for point in series["data_points"]) == value, (granularity, name)
            costs = [point["estimated_cost_usd"] or 0 for point in series["data_points"]]
            assert sum(costs) == pytest.approx(summary["estimated_cost_usd"] or 0)
    summary = controlled.manager.get("/api/usage/summary").json()
    assert summary["estimated_cost_usd"] > 0
    assert summary["unpriced_requests"] > 0  # Gemini's
    assert summary["pending_requests"] == 0
    own = web.get(f"{controlled.url}/api/usage/summary", headers={"x-api-key": keys[0]}).json()
    assert own["total_requests"] == 15
    [row] = own["by_key"]
    data = web.get(f"{controlled.url}/api/v1/key", headers={"x-api-key": keys[0]}).json()["data"]
    assert (row["key_id"], row["total_tokens"]) == (data["hash"], data["usage"])
    assert data["usage"] == data["usage_daily"] == data["usage_weekly"] == data["usage_monthly"] > 0
    assert data["last_used_at"] is not None


def settled(system: Controlled, least: int) -> list[dict[str, Any]] | None:
    entries = [json.loads(line) for line in system.command("ledger", "export").splitlines()]
    return entries if len(entries) >= least and not system.backlog() else None


def sums_of(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name.endswith(("_tokens", "_requests", "_usd"))} | {
        "pending_requests": None
    }


def expected(entries: list[dict[str, Any]]) -> dict[str, Any]:
    sums: Counter[str] = Counter()
    for entry in entries:
        for name in COUNTERS:
            sums[f"total_{name.removeprefix('total_')}"] += entry[name] or 0
        sums["estimated_requests"] += entry["source"] == "estimated"
        sums["partial_requests"] += entry["source"] == "partial"
        sums["unpriced_requests"] += entry["cost_microusd"] is None
        sums["cost"] += entry["cost_nanousd"] or 0
    priced = sums["cost"] > 0 or not sums["unpriced_requests"]
    return {
        **{f"total_{name.removeprefix('total_')}": sums[f"total_{name.removeprefix('total_')}"] for name in COUNTERS},
        "total_requests": len(entries),
        "estimated_requests": sums["estimated_requests"],
        "partial_requests": sums["partial_requests"],
        "unpriced_requests": sums["unpriced_requests"],
        "estimated_cost_usd": sums["cost"] / 1e9 if priced else None,
        "pending_requests": None,
    }


def test_what_has_no_price_is_not_free(controlled: Controlled) -> None:
    key, _ = made(controlled)
    ask(controlled.url, key, "gemini")  # has no price
    assert web.get(f"{controlled.url}/v1/models", headers={"x-api-key": key}).status_code == 200  # costs nothing
    answer = web.post(f"{controlled.url}/openai/v1/images/generations", headers={"x-api-key": key}, json={"n": 1})
    assert answer.status_code == 200  # and nobody knows what it cost
    summary = controlled.until(
        lambda: (
            (a := web.get(f"{controlled.url}/api/usage/summary", headers={"x-api-key": key}).json())["total_requests"]
            == 3
            and a
        )
    )
    assert (summary["unpriced_requests"], summary["estimated_cost_usd"]) == (2, None)


def test_hours_and_time_zones(controlled: Controlled) -> None:
    """A range that is given in another zone is widened to whole hours in UTC, and says so."""
    now = datetime.now(UTC)
    start = (now - timedelta(days=2)).replace(minute=30, second=0, microsecond=0)
    local = start.astimezone(timezone(timedelta(hours=5, minutes=45))).isoformat()
    assert local.endswith("+05:45")
    summary = controlled.manager.get("/api/usage/summary", params={"start_time": local, "end_time": now.isoformat()})
    assert summary.json()["start_time"] == start.strftime("%Y-%m-%dT%H:00:00Z")
    assert datetime.fromisoformat(summary.json()["end_time"]) >= now


def test_hours_are_not_asked_for_by_days(controlled: Controlled) -> None:
    """Totals of days have no hours: all would be in the first one."""
    params = {"group_by": "hour", "granularity": "daily"}
    answer = controlled.manager.get("/api/usage/summary", params=params)
    assert (answer.status_code, answer.json()["error"]["message"].partition(":")[0]) == (400, "granularity")
    by_day = {"group_by": "day", "granularity": "monthly"}
    for params in (by_day, {"group_by": "hour", "granularity": "hourly"}, {"group_by": "hour"}):
        assert controlled.manager.get("/api/usage/summary", params=params).status_code == 200, params


def test_one_exchange(controlled: Controlled) -> None:
    key, _ = made(controlled)
    answer = ask(controlled.url, key, "chat", "tokens=7")
    id = answer.headers["x-generation-id"]
    found = controlled.until(
        lambda: (a := controlled.manager.get("/api/v1/generation", params={"id": id})).status_code == 200 and a
    ).json()
    assert (found["id"], found["provider"], found["model"], found["outcome"]) == (id, "openai", "gpt-4o", "completed")
    assert (found["source"], found["final"], found["revision"], found["status"]) == ("reported", True, 1, 200)
    assert found["provider_usage"] == answer.json()["usage"]
    assert found["usage"]["completion_tokens"] == 7
    assert found["usage"]["cost"] > 0
    assert found["price_version"] == "tests-1"
    assert found["latency_ms"] <= found["duration_ms"]
    own = web.get(f"{controlled.second}/api/v1/generation", params={"id": id}, headers={"x-api-key": key})
    assert own.json() == found
    stranger = web.get(
        f"{controlled.url}/api/v1/generation", params={"id": id}, headers={"x-api-key": made(controlled)[0]}
    )
    assert stranger.status_code == 404
    unknown = id.rpartition(".")[0] + ".9999"
    assert controlled.manager.get("/api/v1/generation", params={"id": unknown}).status_code == 404


def test_who_asks_at_once_is_not_told_that_it_does_not_exist(controlled: Controlled) -> None:
    key, _ = made(controlled)
    asked = ASKS["chat stream"]
    for number in range(20):
        headers = asked.headers(key, "tokens=3, pace=5")
        with web.stream("POST", controlled.url + asked.path, headers=headers, json=asked.body) as running:
            url = (controlled.url, controlled.second)[number % 2]
            query = {"id": running.headers["x-generation-id"]}
            found = web.get(f"{url}/api/v1/generation", params=query, headers={"x-api-key": key})
            assert found.status_code in (200, 202), found.text
            running.read()


def test_one_that_is_still_open(controlled: Controlled) -> None:
    key, _ = made(controlled)
    asked = ASKS["chat stream"]
    headers = asked.headers(key, "tokens=2000, pace=50, no-usage")
    with web.stream("POST", controlled.url + asked.path, headers=headers, json=asked.body) as running:
        id = running.headers["x-generation-id"]
        controlled.until(partial(controlled.pending, key))
        for url in (controlled.url, controlled.second):
            open_ = web.get(f"{url}/api/v1/generation", params={"id": id}, headers={"x-api-key": key})
            assert (open_.status_code, open_.json()) == (202, {"id": id, "state": "open"})
        pending = web.get(f"{controlled.url}/api/usage/summary", headers={"x-api-key": key}).json()
        assert (pending["pending_requests"], pending["total_requests"]) == (1, 0)
        assert controlled.manager.get("/api/usage/summary").json()["pending_requests"] >= 1
        other = web.get(f"{controlled.url}/api/usage/summary", headers={"x-api-key": made(controlled)[0]}).json()
        assert other["pending_requests"] == 0
        hidden = web.get(
            f"{controlled.url}/api/v1/generation", params={"id": id}, headers={"x-api-key": made(controlled)[0]}
        )
        assert hidden.status_code == 404
    found = controlled.until(
        lambda: (
            (
                a := web.get(f"{controlled.url}/api/v1/generation", params={"id": id}, headers={"x-api-key": key})
            ).status_code
            == 200
            and a
        )
    ).json()
    assert (found["outcome"], found["source"]) == ("client_gone", "partial")
    assert found["ratio"] is not None
    assert found["output_low"] <= found["usage"]["completion_tokens"] <= found["output_high"]
    assert found["provider_usage"] is None


def test_what_runs_on_two_gateways_and_cancelling_it(controlled: Controlled) -> None:
    """From the command line and over HTTP; who may see and cancel what; and what is booked of it. On a busy machine a
    gateway may answer late, which is said."""
    (key, data), (other, _) = made(controlled, name="running"), made(controlled)
    asked = ASKS["chat stream"]
    headers = asked.headers(key, "tokens=90000, pace=50")

    def seen(by: str) -> Any:
        found = web.get(f"{controlled.url}/api/v1/streams", headers={"x-api-key": by}).json()
        return found if found["complete"] else None

    def cancel(id: str, by: str) -> httpx.Response:
        return web.request("DELETE", f"{controlled.url}/api/v1/streams/{id}", headers={"x-api-key": by})

    def listed() -> Any:
        found = [json.loads(line) for line in controlled.command("ps", "--json").splitlines()]
        return len(mine := {one["id"]: one for one in found if one["key"] == data["hash"]}) == 2 and mine

    with ExitStack() as open_:
        streams = [
            open_.enter_context(web.stream("POST", url + asked.path, headers=headers, json=asked.body))
            for url in (controlled.url, controlled.second)
        ]
        ids = [stream.headers["x-generation-id"] for stream in streams]
        answers = [stream.iter_bytes() for stream in streams]
        came = [next(answer) for answer in answers]

        found = controlled.until(listed)
        for id, first in zip(ids, came, strict=True):
            one = found[id]
            assert (one["key_name"], one["provider"], one["model"]) == ("running", "openai", "gpt-4o")
            assert (one["streamed"], one["gateway"]) == (True, id.partition(".")[0])
            assert one["bytes"] >= len(first)
            assert one["first_byte_ms"] >= 0
        own = controlled.until(partial(seen, key))
        assert [{one["id"] for one in own["data"]}, own["left_out"]] == [set(ids), None]
        assert {(one["host"], one["credential"]) for one in own["data"]} == {(None, None)}
        assert controlled.until(partial(seen, other))["data"] == []
        everything = controlled.manager.get("/api/v1/streams").json()
        assert {(one["credential"], bool(one["host"])) for one in everything["data"]} == {("", True)}

        assert cancel(ids[0], other).status_code == 404
        assert controlled.command("cancel", ids[0], expected=(0, 1)).startswith(ids[0])
        assert cancel(ids[1], key).json()["state"] in ("cancelled", "asked")
        for answer in answers:
            with pytest.raises(httpx.RemoteProtocolError):
                list(answer)

    for id, entry in controlled.settled(ids).items():
        assert (entry["outcome"], entry["cause"], entry["ended"]) == ("cancelled", "cancelled", "cut")
        assert entry["source"] == "partial"
        assert 0 < entry["output_tokens"] < 90000
        assert entry["response_bytes"] >= found[id]["bytes"]
        assert cancel(id, key).json() == {"id": id, "state": "ended", "outcome": "cancelled"}
    assert controlled.command("cancel", ids[0]) == f"{ids[0]} has ended already: cancelled\n"
    unknown = ids[0].rpartition(".")[0] + ".9999"
    assert cancel(unknown, key).status_code == 404
    with pytest.raises(ProcessFailed, match="is not the id of an exchange that is kept"):
        controlled.command("cancel", unknown)


def test_a_request_that_waits_for_its_answer_is_cancelled_with_an_error(controlled: Controlled) -> None:
    """With a status that no SDK takes for a reason to ask again."""
    key, data = made(controlled)

    def runs() -> Any:
        found = controlled.manager.get("/api/v1/streams").json()["data"]
        return next((one for one in found if one["key"] == data["hash"]), None)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, controlled.second, key, "chat", "hang")
        one = controlled.until(runs)
        assert (one["bytes"], one["latency_ms"]) == (0, None)
        assert controlled.manager.delete(f"/api/v1/streams/{one['id']}").json()["state"] in ("cancelled", "asked")
        answer = waiting.result()
    assert answer.status_code == 499
    assert (answer.json()["error"]["code"], answer.json()["error"]["type"]) == ("cancelled", "invalid_request_error")
    entry = controlled.settled([one["id"]])[one["id"]]
    assert (entry["outcome"], entry["response_bytes"], entry["status"]) == ("cancelled", 0, None)
