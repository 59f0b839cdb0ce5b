"""The whole system on a Redis Cluster: exchanges, a gateway that is killed, the audit, the commands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.processes import Processes, ProcessFailed, free_port
from shared.runtime import embedded
from shared.runtime.settings import Settings
from tests.support import web
from tests.support.cluster import cluster_url
from tests.support.requests import ASKS


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with cluster_url(tmp_path) as url, embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)) as plain:
        yield {
            "REDIS_URL": url,
            "AROUTER_ARQ_REDIS_URL": plain,
            "AROUTER_DATA_DIR": str(tmp_path),
            "AROUTER_SHARDS": "8",
            "AROUTER_KEY_PEPPER": "pepper-of-the-tests",
            "AROUTER_LOG_LEVEL": "warning",
            "AROUTER_METRICS_PORT": "0",
            "AROUTER_METER_METRICS_PORT": "0",
        }


def test_everything_works_on_a_cluster(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "emitted.jsonl"
    provider, gateway = free_port(0), free_port(0)
    for name, suffix in {"OPENAI": "/v1", "ANTHROPIC": "", "GEMINI": ""}.items():
        environment[f"AROUTER_PROVIDERS__{name}__BASE_URL"] = f"http://127.0.0.1:{provider}{suffix}"
        environment[f"AROUTER_PROVIDERS__{name}__API_KEY"] = "sk-demo"
    with Processes() as processes:
        processes.start("provider", "--port", str(provider), "--log", str(log))
        url = f"http://127.0.0.1:{gateway}"
        first = processes.start("gateway", "--port", str(gateway), environment=environment)
        processes.start("meter", environment=environment)
        processes.wait_for(f"{url}/readyz")
        key = processes.command("keys", "create", "--name", "tests", environment=environment).strip()
        ids = {ask(url, key, name) for name in ASKS for _ in range(4)}
        assert len({id.split(".")[1] for id in ids}) == 8  # all shards, and so all nodes
        ids |= in_background(url, key)
        with web.stream(
            "POST",
            url + ASKS["chat stream"].path,
            headers=ASKS["chat stream"].headers(key, "tokens=500, pace=20"),
            json=ASKS["chat stream"].body,
        ) as response:
            next(response.iter_raw())
            ids.add(response.headers["x-generation-id"])
            processes.forget(first)
            first.kill()
            first.wait()
        processes.start("gateway", "--port", str(gateway), environment=environment)
        found = audited(processes, environment, log)
        assert found["differences"] == []
        assert found["exchanges"] == found["conservation"]["settled"] == len(ids)
        rows = json.loads(processes.command("usage", "--json", environment=environment))
        assert sum(row["requests"] for row in rows) == len(ids)
        assert json.loads(processes.command("quarantine", "list", "--json", environment=environment)) == []
        assert json.loads(processes.command("work", "--json", environment=environment)) == []
        check_control(url, key, ids)


def check_control(url: str, key: str, ids: set[str]) -> None:
    """The control API, whose reports read from every node."""
    headers = {"authorization": f"Bearer {key}"}
    summary = web.get(f"{url}/api/usage/summary", headers=headers).json()
    assert (summary["total_requests"], summary["pending_requests"]) == (len(ids), 0)
    assert web.get(f"{url}/api/v1/key", headers=headers).json()["data"]["usage"] == summary["total_tokens"]
    for id in list(ids)[:5]:
        found = web.get(f"{url}/api/v1/generation", params={"id": id}, headers=headers)
        assert (found.status_code, found.json()["id"]) == (200, id)


def ask(url: str, key: str, name: str) -> str:
    answer = web.post(url + ASKS[name].path, headers=ASKS[name].headers(key), json=ASKS[name].body)
    assert answer.status_code == 200
    return str(answer.headers["x-generation-id"])


def in_background(url: str, key: str) -> set[str]:
    """Begin a response in the background, and fetch it until it is there, and once more; the exchanges."""
    headers, body = {"authorization": f"Bearer {key}"}, {"model": "gpt-4o", "input": "hi", "background": True}
    answers = [web.post(f"{url}/v1/responses", headers=headers, json=body)]
    place = f"{url}/v1/responses/{answers[0].json()['id']}"
    while answers[-1].json()["status"] != "completed":
        answers.append(web.get(place, headers=headers))
    answers.append(web.get(place, headers=headers))
    return {answer.headers["x-generation-id"] for answer in answers}


def audited(processes: Processes, environment: dict[str, str], log: Path) -> dict[str, Any]:
    """What the audit says once nothing moves any more."""
    deadline = time.monotonic() + 180
    while True:
        text = processes.command("audit", "--json", "--oracle", str(log), environment=environment, expected=(0, 1))
        found: dict[str, Any] = json.loads(text)
        if not found["differences"] or time.monotonic() > deadline:
            return found
        time.sleep(1)


def test_arq_needs_a_redis_of_its_own(environment: dict[str, str]) -> None:
    del environment["AROUTER_ARQ_REDIS_URL"]
    with Processes() as processes, pytest.raises(ProcessFailed, match="AROUTER_ARQ_REDIS_URL: is needed"):
        processes.command("meter", environment=environment)
