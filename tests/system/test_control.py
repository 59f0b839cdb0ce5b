"""The control API over HTTP: keys, usage, one exchange; who may do what, and what is said of nonsense."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli.processes import free_port
from shared.contract.usage import COUNTERS
from tests.support import web
from tests.support.requests import ASKS
from tests.support.system import System


class Controlled(System):
    """A system with a management key, and a second gateway."""

    manager: httpx.Client
    second: str


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    with Controlled(tmp_path_factory.mktemp("controlled")) as system:
        key = system.command("keys", "create", "--name", "admin", "--management").strip()
        assert key.startswith("lr_mgmt_")
        system.second = f"http://127.0.0.1:{free_port(0)}"
        system.start_gateway(system.second)
        system.processes.wait_for(f"{system.second}/readyz")
        with web.client(base_url=system.url, headers={"authorization": f"Bearer {key}"}) as client:
            system.manager = client
            yield system


def made(system: Controlled, **given: Any) -> tuple[str, dict[str, Any]]:
    answer = system.manager.post("/api/v1/keys", json={"name": "made", **given})
    assert answer.status_code == 201, answer.text
    return answer.json()["key"], answer.json()["data"]


def ask(url: str, key: str, name: str = "chat", directives: str = "", **changes: Any) -> httpx.Response:
    asked = ASKS[name]
    return web.post(url + asked.path, headers=asked.headers(key, directives), json=asked.body | changes)


def test_a_key_is_made_shown_changed_and_deleted(controlled: Controlled) -> None:
    key, data = made(controlled, name="team-a", allowed_models=["gpt-*"], expires_at="2099-01-01T00:00:00+02:00")
    assert key.startswith("lr_live_")
    assert data["label"] == f"{key[:12]}…{key[-4:]}"
    assert data["expires_at"] == "2098-12-31T22:00:00Z"
    assert (data["name"], data["key_type"], data["disabled"], data["usage"]) == ("team-a", "regular", False, 0)
    assert key not in controlled.manager.get("/api/v1/keys?page_size=100").text

    url = f"/api/v1/keys/{data['hash']}"
    changed = controlled.manager.patch(url, json={"name": "team-b", "expires_at": None})
    assert changed.status_code == 200
    assert (changed.json()["data"]["name"], changed.json()["data"]["expires_at"]) == ("team-b", None)
    assert changed.json()["data"]["allowed_models"] == ["gpt-*"]
    assert changed.json()["data"]["updated_at"]
    assert controlled.manager.delete(url).json() == {"data": {"deleted": True}}
    for again in (controlled.manager.delete(url), controlled.manager.patch(url, json={})):
        assert again.status_code == 404


def test_keys_are_listed_in_pages(controlled: Controlled) -> None:
    mine = [made(controlled, name=f"page {n}")[1]["hash"] for n in range(7)]
    controlled.manager.delete(f"/api/v1/keys/{mine[3]}")
    controlled.manager.patch(f"/api/v1/keys/{mine[5]}", json={"disabled": True})
    for include, missing in (("true", {mine[3]}), ("false", {mine[3], mine[5]})):
        found: list[str] = []
        token = None
        while True:
            query = {"page_size": "2", "include_disabled": include} | ({"page_token": token} if token else {})
            page = controlled.manager.get("/api/v1/keys", params=query).json()
            assert len(page["data"]) <= 2
            found += [key["hash"] for key in page["data"]]
            token = page["next_page_token"]
            if token is None:
                break
        assert len(found) == len(set(found))
        assert [hash for hash in found if hash in mine] == [hash for hash in mine if hash not in missing]
    ever = json.loads(controlled.command("keys", "list", "--json"))
    rest = controlled.manager.get("/api/v1/keys", params={"offset": len(ever) - 1, "page_size": 100}).json()["data"]
    assert [key["hash"] for key in rest] == [mine[6]]


FORBIDDEN = {
    "chat": lambda error: error["error"]["type"] == "forbidden_error",
    "messages": lambda error: error["error"]["type"] == "permission_error",
    "gemini": lambda error: error["error"]["status"] == "PERMISSION_DENIED",
}


def refused(url: str, key: str, name: str) -> httpx.Response | None:
    """The answer, once it is not a good one any more."""
    answer = ask(url, key, name)
    return None if answer.status_code == 200 else answer


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"disabled": True}, "disabled"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expired"),
        ({"allowed_providers": ["deepseek"]}, "provider"),
        ({"allowed_models": ["another", "openai/other*"]}, "model"),
    ],
)
def test_what_a_key_may_not_do_is_refused_everywhere_(
    controlled: Controlled, name: str, limits: dict[str, Any], says: str
) -> None:
    key, data = made(controlled)
    for url in (controlled.url, controlled.second):
        assert ask(url, key, name).status_code == 200
    assert controlled.manager.patch(f"/api/v1/keys/{data['hash']}", json=limits).status_code == 200
    for url in (controlled.url, controlled.second):
        answer = controlled.until(partial(refused, url, key, name))
        assert answer.status_code == 403, answer.text
        assert says in answer.json()["error"]["message"]
        assert FORBIDDEN[name](answer.json())
    assert controlled.manager.patch(
        f"/api/v1/keys/{data['hash']}",
        json={"disabled": False, "expires_at": None, "allowed_providers": None, "allowed_models": None},
    ).is_success
    controlled.until(lambda: ask(controlled.second, key, name).status_code == 200)


def test_lists_of_what_is_allowed(controlled: Controlled) -> None:
    key, _ = made(controlled, allowed_models=["gpt-4o", "deepseek/deep*"], allowed_providers=["openai", "deepseek"])
    assert ask(controlled.url, key).status_code == 200
    assert ask(controlled.url, key, model="gpt-4o-mini").status_code == 403
    assert ask(controlled.url, key, model="deepseek/deepseek-chat").status_code == 200
    assert ask(controlled.url, key, model="deepseek/other").status_code == 403
    assert ask(controlled.url, key, "messages").status_code == 403
    assert web.get(f"{controlled.url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    [
        ("POST", "/openai/v1/images/generations", b'{"n": 1}', False),  # names no model
        ("POST", "/v1/responses/compact", b'{"model": "gpt-4o"}', False),  # a call, below what is usually free
        ("POST", "/v1/responses", b'{"model": "gpt-4o", "input": "x"}', True),
        ("POST", "/v1/responses", b'{"model": "o3", "model": "gpt-4o", "input": "x"}', False),
        ("POST", "/v1/responses", b'{"Model": "o3", "model": "gpt-4o", "input": "x"}', False),
        ("POST", "/v1/responses", b'{"models": ["o3"], "model": "gpt-4o", "input": "x"}', False),
        ("POST", "/v1/responses", b'{"model": "gpt-4o", "input": [{"model": "nested", "models": 1}]}', True),
        ("POST", "/v1/messages/count_tokens", b'{"model": "claude", "messages": []}', False),
        ("POST", "/v1/messages/count_tokens", b'{"model": "gpt-4o", "messages": []}', True),
        ("POST", "/v1beta/models/gpt-4o:generateContent", b"{}", True),
        ("POST", "/v1beta/models/gemini:generateContent", b"{}", False),
        ("POST", "/v1beta/interactions", b'{"model": "gpt-4o", "input": "x"}', True),
        ("POST", "/v1beta/interactions", b'{"model": "gemini", "input": "x"}', False),
        ("POST", "/openai/deployments/gpt-4o/chat/completions?api-version=1", b"{}", True),
        ("POST", "/openai/deployments/o3/chat/completions?api-version=1", b'{"model": "gpt-4o"}', False),
        ("GET", "/v1/models", b"", True),
        ("GET", "/v1/responses/resp_1", b"", True),
        ("DELETE", "/openai/v1/files/file_1", b"", False),
        ("PUT", "/openai/v1/chat/completions", b'{"model": "o3"}', False),
    ],
)
def test_no_path_leads_around_the_list_of_models(
    controlled: Controlled, limited: str, method: str, path: str, body: bytes, allowed: bool
) -> None:
    headers = {"authorization": f"Bearer {limited}", "content-type": "application/json"}
    answer = web.request(method, controlled.url + path, headers=headers, content=body)
    assert (answer.status_code != 403) is allowed, answer.text


@pytest.fixture(scope="module")
def limited(controlled: Controlled) -> str:
    return made(controlled, allowed_models=["gpt-4o"])[0]


def test_neither_kind_does_the_others_work(controlled: Controlled) -> None:
    key, data = made(controlled)
    live = {"authorization": f"Bearer {key}"}
    for method, path in (("GET", "/api/v1/keys"), ("POST", "/api/v1/keys"), ("DELETE", f"/api/v1/keys/{'0' * 64}")):
        body = {"name": "x"} if method == "POST" else None
        answer = web.request(method, controlled.url + path, headers=live, json=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (403, "forbidden_error")
    own = web.get(f"{controlled.url}/api/v1/key", headers=live).json()["data"]
    assert own["hash"] == data["hash"]
    management = controlled.manager.headers["authorization"].removeprefix("Bearer ")
    assert ask(controlled.url, management).status_code == 403
    me = controlled.manager.get("/api/v1/key").json()["data"]
    assert me["key_type"] == "management"
    assert controlled.manager.patch(f"/api/v1/keys/{me['hash']}", json={"disabled": True}).status_code == 403
    other = made(controlled)[1]["hash"]
    stranger = web.get(f"{controlled.url}/api/usage/summary?key_id={other}", headers=live)
    assert stranger.status_code == 403
    assert web.get(f"{controlled.url}/api/v1/key").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/api/v1/keys", {}, "name"),
        ("POST", "/api/v1/keys", {"name": ""}, "name"),
        ("POST", "/api/v1/keys", {"name": "x", "limit": 5}, "limit"),
        ("POST", "/api/v1/keys", {"name": "x", "expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ("POST", "/api/v1/keys", {"name": "x", "expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ("POST", "/api/v1/keys", {"name": "x", "expires_at": 1_900_000_000}, "expires_at"),
        ("POST", "/api/v1/keys", {"name": "x", "allowed_providers": ["nobody"]}, "allowed_providers"),
        ("GET", "/api/usage/summary?start_time=1900000000", None, "start_time"),
        ("POST", "/api/v1/keys", {"name": "x", "allowed_models": [""]}, "allowed_models.0"),
        ("PATCH", f"/api/v1/keys/{'0' * 64}x", {}, "hash"),
        ("GET", "/api/v1/keys?page_size=0", None, "page_size"),
        ("GET", "/api/v1/keys?page_token=x", None, "page_token"),
        ("GET", "/api/usage/summary?start_time=yesterday", None, "start_time"),
        ("GET", "/api/usage/summary?start_time=2026-11-01T00:00:00", None, "start_time"),
        ("GET", "/api/usage/summary?end_time=2020-01-01T00:00:00Z&start_time=2020-01-02T00:00:00Z", None, "end_time"),
        ("GET", "/api/usage/summary?start_time=2020-01-01T00:00:00Z", None, "start_time"),
        ("GET", "/api/usage/summary?end_time=0001-01-01T00:00:00Z", None, "end_time"),
        ("GET", "/api/usage/summary?start_time=0001-01-01T00:00:00%2B14:00", None, "start_time"),
        ("GET", "/api/usage/timeseries?end_time=9999-12-31T23:59:59-14:00", None, "end_time"),
        ("GET", "/api/usage/summary?key_id=abc", None, "key_id"),
        ("GET", "/api/usage/timeseries?granularity=minutely", None, "granularity"),
        ("GET", "/api/v1/generation?id=nonsense", None, "id"),
        ("GET", "/api/v1/generation", None, "id"),
    ],
)
def test_what_is_wrong_is_named(controlled: Controlled, method: str, path: str, body: Any, field: str) -> None:
    answer = controlled.manager.request(method, path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].startswith(f"{field}: ")
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_large_bodies_are_refused_before_they_are_read(controlled: Controlled) -> None:
    assert controlled.manager.post("/api/v1/keys", content=b"x" * 300_000).status_code == 413
    assert controlled.manager.post("/api/v1/keys", content=iter([b"x" * 200_000] * 2)).status_code == 413
    chunked = controlled.manager.post(
        "/api/v1/keys", content=iter([b'{"name":', b'"chunked"}']), headers={"content-type": "application/json"}
    )
    assert chunked.status_code == 201
    assert controlled.manager.get("/api/nothing").status_code == 404
    assert controlled.manager.put("/api/v1/keys").status_code == 405


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
        sums["cost"] += entry["cost_microusd"] or 0
    priced = sums["cost"] > 0 or not sums["unpriced_requests"]
    return {
        **{f"total_{name.removeprefix('total_')}": sums[f"total_{name.removeprefix('total_')}"] for name in COUNTERS},
        "total_requests": len(entries),
        "estimated_requests": sums["estimated_requests"],
        "partial_requests": sums["partial_requests"],
        "unpriced_requests": sums["unpriced_requests"],
        "estimated_cost_usd": sums["cost"] / 1e6 if priced else None,
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


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with System(tmp_path, AROUTER_BODY_TIMEOUT="1") as system:
        host, _, port = system.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), 60) as slow:
            slow.sendall(b"POST /api/v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            assert slow.recv(4096).startswith(b"HTTP/1.1 408")


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


def test_redis_that_is_away_is_a_503_here_and_no_news_to_streams(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        headers = {"x-api-key": system.key}
        assert web.get(f"{system.url}/api/v1/key", headers=headers).status_code == 200
        assert ask(system.url, system.key).status_code == 200  # the data plane has seen the key
        system.redis.shutdown(nosave=True)
        answer = web.get(f"{system.url}/api/v1/key", headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
        assert ask(system.url, system.key).status_code == 200


def test_hours_and_time_zones(controlled: Controlled) -> None:
    """A range that is given in another zone is widened to whole hours in UTC, and says so."""
    now = datetime.now(UTC)
    start = (now - timedelta(days=2)).replace(minute=30, second=0, microsecond=0)
    local = start.astimezone(timezone(timedelta(hours=5, minutes=45))).isoformat()
    assert local.endswith("+05:45")
    summary = controlled.manager.get("/api/usage/summary", params={"start_time": local, "end_time": now.isoformat()})
    assert summary.json()["start_time"] == start.strftime("%Y-%m-%dT%H:00:00Z")
    assert datetime.fromisoformat(summary.json()["end_time"]) >= now
