"""The control API over HTTP: keys, who may do what, and what is said of nonsense."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import web
from tests.support.controlled import Controlled, ask, made
from tests.support.requests import connected
from tests.support.system import System


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


def test_teams_are_made_listed_and_changed_and_keys_move_between_them(controlled: Controlled) -> None:
    manager = controlled.manager
    answer = manager.post("/api/v1/teams", json={"name": "research", "label": "Research"})
    assert (answer.status_code, answer.json()["data"]["name"]) == (201, "research")
    assert controlled.command("teams", "create", "--name", "support").strip() == "support"
    assert manager.post("/api/v1/teams", json={"name": "support"}).status_code == 409
    assert manager.post("/api/v1/teams", json={"name": "no spaces"}).status_code == 400
    changed = manager.patch("/api/v1/teams/research", json={"label": "Research and evaluation"}).json()["data"]
    assert (changed["name"], changed["label"]) == ("research", "Research and evaluation")
    assert manager.patch("/api/v1/teams/nobody", json={"label": "x"}).status_code == 404
    assert manager.patch("/api/v1/teams/research", json={"label": None}).status_code == 400
    found: list[str] = []
    token = None
    while True:
        query = {"page_size": "1"} | ({"page_token": token} if token else {})
        page = manager.get("/api/v1/teams", params=query).json()
        found += [team["name"] for team in page["data"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert found == ["research", "support"]
    assert json.loads(controlled.command("teams", "list", "--json"))[0]["label"] == "Research and evaluation"

    key, data = made(controlled, team="research")
    assert data["team"] == "research"
    before = ask(controlled.url, key).headers["x-generation-id"]
    url = f"/api/v1/keys/{data['hash']}"
    refused = manager.patch(url, json={"team": "nobody"})
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "team: there is no team 'nobody'")
    assert manager.patch(url, json={"team": "support"}).json()["data"]["team"] == "support"
    after = controlled.until(partial(asked_of, controlled, key, "support"))
    assert controlled.settled([before])[before]["team"] == "research"
    assert manager.patch(url, json={"team": None}).json()["data"]["team"] is None
    controlled.until(partial(asked_of, controlled, key, None))
    assert controlled.settled([after])[after]["team"] == "support"
    assert web.get(f"{controlled.url}/api/v1/teams", headers={"authorization": f"Bearer {key}"}).status_code == 403


def asked_of(system: Controlled, key: str, team: str | None) -> str | None:
    """The id of an exchange, once it is booked with this team."""
    id = ask(system.url, key).headers["x-generation-id"]
    return id if system.settled([id])[id].get("team") == team else None


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
        ("POST", "/v1/responses/compact", b'{"model": "gpt-4o"}', True),  # a call that no dialect knows
        ("POST", "/v1/responses/compact", b'{"model": "o3"}', False),
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
    assert (answer.status_code not in (403, 405)) is allowed, answer.text


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
        ("POST", "/api/v1/keys", {"name": "x", "limit": -5}, "limit"),
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


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    """Each byte of it comes in time, the whole does not; without a key nothing of it is waited for."""
    head = "POST /api/v1/keys HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-length: 250000\r\n\r\n"
    with System(tmp_path, AROUTER_BODY_TIMEOUT="3") as system:
        for key, status in ((system.key, b"408"), ("nobody", b"401")):
            with connected(system.url) as slow:
                slow.sendall(head.format(key).encode())
                slow.settimeout(0.5)
                answer = b""
                while not answer:
                    slow.sendall(b" ")
                    with suppress(TimeoutError):
                        answer = slow.recv(4096)
                assert answer.startswith(b"HTTP/1.1 " + status)


def test_redis_that_is_away_is_a_503_here_and_no_news_to_streams(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        headers = {"x-api-key": system.key}
        assert web.get(f"{system.url}/api/v1/key", headers=headers).status_code == 200
        assert ask(system.url, system.key).status_code == 200  # the data plane has seen the key
        system.redis.shutdown(nosave=True)
        answer = web.get(f"{system.url}/api/v1/key", headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
        assert ask(system.url, system.key).status_code == 200
