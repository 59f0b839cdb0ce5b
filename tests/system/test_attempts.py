"""Pools and attempts through a real gateway: what callers see when credentials fail, and what is booked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from services.cli.processes import ProcessFailed, free_port
from tests.support import web
from tests.support.keyed_provider import KeyedProvider, Reply
from tests.support.system import System

# One provider for each test, so that the health that one leaves is nothing to the next.
PROVIDERS = ["revoked", "limited", "failing", "overloaded", "hanging", "exhausted", "forbidden", "refusing", "xai"]
PROVIDERS += ["breaking", "spent", "file"]
_REQUESTS = 80
REFUSED = "http://127.0.0.1:9/v1"


def pool(name: str) -> str:
    """A credential for everybody, and a spare one."""
    return json.dumps(
        [
            {"name": "main", "api_key": f"sk-{name}-main"},
            {"name": "spare", "api_key": f"sk-{name}-spare", "weight": 0},
        ]
    )


@pytest.fixture(scope="module")
def provider() -> Iterator[KeyedProvider]:
    with KeyedProvider() as running:
        yield running


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, provider: KeyedProvider) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("pooled")
    settings = {
        "AROUTER_FIRST_BYTE_TIMEOUT": "2",
        "AROUTER_ATTEMPTS__RETRY_ON": "connect, 429, 5xx, timeout",
        "AROUTER_ATTEMPTS__BUDGET": "10",
        "AROUTER_METRICS_PORT": str(free_port(0)),
        "AROUTER_LOG_LEVEL": "info",
    }
    for name in PROVIDERS:
        settings[f"AROUTER_PROVIDERS__{name.upper()}__BASE_URL"] = provider.url if name != "refusing" else REFUSED
        settings[f"AROUTER_PROVIDERS__{name.upper()}__CREDENTIALS"] = pool(name)
    (folder / "key").write_text("  sk-file-main\n")
    named = [{"name": "main", "api_key_file": str(folder / "key")}]
    settings["AROUTER_PROVIDERS__FILE__CREDENTIALS"] = json.dumps(named)
    settings["AROUTER_PROVIDERS__FILE__API_KEY"] = "sk-not-this-one"
    with System(folder, **settings) as running:
        yield running


def ask(system: System, provider: str, url: str = "") -> httpx.Response:
    body = {"model": f"{provider}/m", "messages": [{"role": "user", "content": "Hi"}]}
    return web.post(f"{url or system.url}/v1/chat/completions", json=body, headers={"x-api-key": system.key})


def attempts(answer: httpx.Response) -> int:
    return int(answer.headers["x-arouter-attempts"])


def told(system: System, answer: httpx.Response) -> list[tuple[object, ...]]:
    """Credential, status and cause of each attempt, and whether it may have been paid, as the ledger has them."""
    exchange = answer.headers["x-generation-id"]
    entry = system.settled([exchange])[exchange]
    found: list[tuple[object, ...]]
    found = [(credential, status, cause, paid) for _, _, credential, status, cause, _, paid in entry["attempts"]]
    assert entry["credential"] == found[-1][0]
    assert entry["total_tokens"] == (12 if answer.status_code == 200 else entry["total_tokens"])
    return found


def sample(system: System, name: str, **labels: str) -> float:
    """A metric of the gateway; 0 where it is not there."""
    text = web.get(f"http://127.0.0.1:{system.extra['AROUTER_METRICS_PORT']}/metrics").text
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if found and dict(re.findall(r'(\w+)="([^"]*)"', found[1] or "")) == labels:
            return float(found[2])
    return 0


@pytest.mark.parametrize(
    ("name", "reply", "cause", "health"),
    [
        ("revoked", Reply(401), "refused", "out"),
        ("xai", Reply(400, text="Incorrect API key provided: sk***in. You can obtain one."), "refused", "out"),
        ("limited", Reply(429, (("Retry-After", "50"),)), "rate_limited", "cooling"),
    ],
)
def test_a_credential_that_fails_is_left_at_once(
    pooled: System, provider: KeyedProvider, name: str, reply: Reply, cause: str, health: str
) -> None:
    provider.replies[f"sk-{name}-main"] = reply
    first, second = ask(pooled, name), ask(pooled, name)
    assert [(one.status_code, attempts(one)) for one in (first, second)] == [(200, 2), (200, 1)]
    assert first.headers["x-arouter-provider"] == name
    assert told(pooled, first) == [("main", reply.status, cause, False), ("spare", 200, "", False)]
    assert told(pooled, second) == [("spare", 200, "", False)]
    assert sample(pooled, "arouter_credential_health", provider=name, credential="main", health=health) == 1
    assert sample(pooled, "arouter_failed_attempts_total", provider=name, credential="main") == 1
    assert sample(pooled, "arouter_attempts_total", provider=name, credential="spare") == 2
    assert sample(pooled, "arouter_retried_requests_total", provider=name, cause=cause) == 1


@pytest.mark.parametrize(("name", "status", "cause"), [("failing", 500, "error"), ("overloaded", 529, "overloaded")])
def test_a_credential_that_fails_again_and_again_cools_and_recovers(
    pooled: System, provider: KeyedProvider, name: str, status: int, cause: str
) -> None:
    provider.replies[f"sk-{name}-main"] = Reply(status)
    answers = [ask(pooled, name) for _ in range(4)]
    assert [(one.status_code, attempts(one)) for one in answers] == [(200, 2)] * 3 + [(200, 1)]
    assert told(pooled, answers[0]) == [("main", status, cause, False), ("spare", 200, "", False)]
    provider.replies.clear()
    pooled.until(lambda: ask(pooled, name).status_code == 200 and provider.asked[-1] == f"sk-{name}-main")
    assert sample(pooled, "arouter_credential_health", provider=name, credential="main", health="healthy") == 1


def test_no_answer_in_time_is_tried_again_where_the_policy_says_so_and_said(
    pooled: System, provider: KeyedProvider
) -> None:
    provider.replies["sk-hanging-main"] = Reply(0)
    answer = ask(pooled, "hanging")
    assert (answer.status_code, attempts(answer)) == (200, 2)
    assert told(pooled, answer) == [("main", None, "first_byte_timeout", True), ("spare", 200, "", False)]
    labels = {"provider": "hanging", "cause": "first_byte_timeout"}
    assert sample(pooled, "arouter_maybe_paid_attempts_total", **labels) == 1


def test_the_last_error_is_the_providers_own(pooled: System, provider: KeyedProvider) -> None:
    last = Reply(429, (("Retry-After", "3"), ("X-Own", "kept"), ("X-ARouter-Provider", "forged")), "slow down")
    provider.replies |= {"sk-exhausted-main": Reply(503), "sk-exhausted-spare": last}
    answer = ask(pooled, "exhausted")
    assert (answer.status_code, answer.content, attempts(answer)) == (429, last.body, 2)
    assert (answer.headers["retry-after"], answer.headers["x-own"]) == ("3", "kept")
    assert answer.headers.get_list("x-arouter-provider") == ["exhausted"]
    assert told(pooled, answer) == [("main", 503, "overloaded", False), ("spare", 429, "", False)]


def test_a_refused_connection_is_tried_again_and_says_so(pooled: System) -> None:
    answer = ask(pooled, "refusing")
    assert (answer.status_code, attempts(answer)) == (502, 2)
    assert answer.headers["x-arouter-provider"] == "refusing"
    assert told(pooled, answer) == [(name, None, "connect_refused", False) for name in ("main", "spare")]


def test_nothing_is_tried_again_behind_the_first_byte(pooled: System, provider: KeyedProvider) -> None:
    provider.replies["sk-breaking-main"] = Reply(-1)
    with pytest.raises(httpx.RemoteProtocolError):
        ask(pooled, "breaking")
    assert provider.asked.count("sk-breaking-main") == 1
    assert provider.asked.count("sk-breaking-spare") == 0


def test_no_caller_takes_a_credential_from_others_by_what_it_asks_for(pooled: System, provider: KeyedProvider) -> None:
    provider.replies |= {f"sk-forbidden-{name}": Reply(403) for name in ("main", "spare")}
    seen = [(answer.status_code, attempts(answer)) for answer in (ask(pooled, "forbidden") for _ in range(4))]
    assert seen == [(403, 2)] * 4
    assert sample(pooled, "arouter_credential_health", provider="forbidden", credential="main", health="healthy") == 1
    provider.replies.clear()
    assert attempts(ask(pooled, "forbidden")) == 1


def test_further_attempts_stay_within_their_budget(pooled: System, provider: KeyedProvider) -> None:
    """Both credentials forbid everything, which puts none of them aside: without a budget each request were two."""
    provider.replies |= {f"sk-spent-{name}": Reply(403) for name in ("main", "spare")}
    usual, url = pooled.extra, f"http://127.0.0.1:{free_port(0)}"
    pooled.extra = usual | {"AROUTER_ATTEMPTS__BUDGET": "0.2", "AROUTER_METRICS_PORT": str(free_port(0))}
    pooled.start_gateway(url)
    pooled.processes.wait_for(f"{url}/readyz")
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(pooled, "spent", url), range(_REQUESTS)))
    assert {answer.status_code for answer in answers} == {403}
    further = provider.asked.count("sk-spent-spare")
    assert further == sum(attempts(answer) - 1 for answer in answers)
    assert 5 <= further <= 0.1 * _REQUESTS, "attempts behind a refusal have half of the budget"
    assert sample(pooled, "arouter_unmade_attempts_total") == _REQUESTS - further
    pooled.extra = usual
    entries = pooled.settled(answer.headers["x-generation-id"] for answer in answers)
    assert sum(len(entry["attempts"]) - 1 for entry in entries.values()) == further


def test_a_key_in_a_file_is_read_without_its_line_end_and_goes_before_the_other_settings(
    pooled: System, provider: KeyedProvider
) -> None:
    assert ask(pooled, "file").status_code == 200
    assert provider.asked[-1] == "sk-file-main"


def test_a_key_file_that_is_missing_stops_the_start_in_one_line(pooled: System, tmp_path: Path) -> None:
    missing = json.dumps([{"name": "main", "api_key_file": str(tmp_path / "none")}])
    changed = {**pooled.environment, "AROUTER_PROVIDERS__FILE__CREDENTIALS": missing, "AROUTER_METRICS_PORT": "0"}
    with pytest.raises(ProcessFailed) as failed:
        pooled.processes.command("gateway", "--port", "0", environment=changed)
    wanted = f"AROUTER_PROVIDERS__FILE__CREDENTIALS: main: {tmp_path / 'none'} cannot be read: No such file"
    assert wanted in str(failed.value).splitlines()[-1]


def test_a_credential_that_is_out_comes_back_by_itself(pooled: System, provider: KeyedProvider) -> None:
    """It stands last, so that most of the half minute is over."""

    def is_now(health: str) -> bool:
        return sample(pooled, "arouter_credential_health", provider="revoked", credential="main", health=health) == 1

    if is_now("healthy"):
        provider.replies["sk-revoked-main"] = Reply(401)
        ask(pooled, "revoked")
    assert is_now("out")
    provider.replies.clear()
    pooled.until(lambda: ask(pooled, "revoked").status_code == 200 and provider.asked[-1] == "sk-revoked-main")
    assert is_now("healthy")
