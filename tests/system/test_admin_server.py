"""The admin server of real processes: metrics and probes; and what the logs say."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.cli.processes import free_port
from shared.runtime.settings import own_environment
from tests.support import web
from tests.support.children import ending
from tests.support.requests import ASKS
from tests.support.system import System

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Observed(System):
    """A system whose metrics are served."""

    def __init__(self, folder: Path) -> None:
        self.gateway_port, self.meter_port = free_port(0), free_port(0)
        ports = {
            "AROUTER_METRICS_PORT": str(self.gateway_port),
            "AROUTER_METER_METRICS_PORT": str(self.meter_port),
        }
        super().__init__(folder, **ports)

    def samples(self, port: int) -> Samples:
        text = web.get(f"http://127.0.0.1:{port}/metrics").text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with Observed(tmp_path_factory.mktemp("observed")) as running:
        yield running


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_what_happened_can_be_counted(observed: Observed) -> None:
    ask = ASKS["chat stream"]
    for _ in range(32):
        body = web.post(observed.url + ask.path, headers=ask.headers(observed.key, "tokens=9, pace=3"), json=ask.body)
        assert body.status_code == 200
    web.post(observed.url + ask.path, headers=ask.headers(observed.key, "refuse"), json=ask.body)
    web.post(observed.url + ask.path, headers=ask.headers("nobody"), json=ask.body)
    observed.until(lambda: len(observed.ledger()) == 33)

    seen = observed.samples(observed.gateway_port)
    assert value(seen, "arouter_exchanges_total", outcome="completed", provider="openai", status="200") == 32
    assert value(seen, "arouter_refused_requests_total", status="401") == 1
    assert value(seen, "arouter_first_byte_seconds_count", side="client") >= 32
    for side in ("provider", "client"):
        gaps = value(seen, "arouter_event_gap_seconds_count", side=side)
        assert gaps >= 2 * 8, "two of 32 exchanges are measured, with a gap between any two events"
    assert value(seen, "arouter_relayed_bytes_total") == sum(e["response_bytes"] for e in observed.ledger().values())
    assert (value(seen, "arouter_open_streams"), value(seen, "arouter_redis_up")) == (0, 1)
    assert value(seen, "arouter_journal_bytes") > 0

    seen = observed.samples(observed.meter_port)
    assert value(seen, "arouter_settled_exchanges_total", outcome="completed", source="reported", ended="whole") >= 32
    assert value(seen, "arouter_settle_lag_seconds_count") == 33
    assert value(seen, "arouter_leased_shards") == 4
    sides = observed.until(
        lambda: (
            (found := observed.samples(observed.meter_port)).get(
                ("arouter_conservation_exchanges", frozenset({("side", "settled")}))
            )
            == 33
            and found
        )
    )
    assert value(sides, "arouter_conservation_exchanges", side="opened") == 33
    assert value(sides, "arouter_conservation_exchanges", side="gap") == 0
    assert sum(v for (name, _), v in sides.items() if name == "arouter_backlog_records") == 0


def test_probes_answer_and_other_paths_do_not_exist(observed: Observed) -> None:
    for port in (observed.gateway_port, observed.meter_port):
        for probe in ("healthz", "readyz"):
            answer = web.get(f"http://127.0.0.1:{port}/{probe}")
            assert (answer.status_code, answer.json()) == (200, {"ok": True, "reasons": []})
        assert web.get(f"http://127.0.0.1:{port}/v1/models").status_code == 404


def test_a_meter_without_redis_is_alive_and_not_ready(observed: Observed) -> None:
    port = free_port(0)
    environment = {
        **observed.environment,
        "REDIS_URL": f"redis://127.0.0.1:{free_port(0)}",
        "AROUTER_METER_METRICS_PORT": str(port),
    }
    meter = observed.processes.start("meter", environment=environment)
    observed.processes.wait_for(f"http://127.0.0.1:{port}/healthz")
    answer = observed.until(lambda: (a := web.get(f"http://127.0.0.1:{port}/readyz")).status_code == 503 and a)
    assert "Redis has not answered" in answer.json()["reasons"][0]
    observed.stop(meter)


def test_json_logs_name_exchanges_and_no_secret_or_content(observed: Observed, tmp_path: Path) -> None:
    url, said = f"http://127.0.0.1:{free_port(0)}", tmp_path / "log"
    environment = {
        **observed.environment,
        "AROUTER_LOG_FORMAT": "json",
        "AROUTER_LOG_LEVEL": "debug",
        "AROUTER_METRICS_PORT": "0",
    }
    command = [sys.executable, "-m", "services.cli", "gateway", "--port", url.rpartition(":")[2]]
    ids = []
    with open(said, "wb") as log, ending(subprocess.Popen(command, env=own_environment(environment), stderr=log)):
        observed.processes.wait_for(f"{url}/readyz")
        for name, directive in (
            ("chat", ""),
            ("chat stream", "cut"),
            ("messages", "refuse"),
            ("gemini array", "reset"),
        ):
            ask = ASKS[name]
            try:
                answer = web.post(url + ask.path, headers=ask.headers(observed.key, directive), json=ask.body)
                ids.append(answer.headers["x-generation-id"])
            except httpx.HTTPError:
                continue
    lines = [json.loads(line) for line in said.read_text().splitlines()]
    assert {line["level"] for line in lines} >= {"info", "warning"}
    named = [line for line in lines if "exchange_id" in line]
    assert len(named) >= 3
    assert all(line["exchange_id"].count(".") == 2 for line in named)
    text = said.read_text()
    assert observed.key not in text
    assert "credential" not in text  # of the providers
    assert "Tell me a story" not in text  # what was asked
    assert ids


def test_before_it_ends_a_gateway_says_so(observed: Observed) -> None:
    """With a delay it is not ready, and takes requests all the same, each on a connection that then closes."""
    url, port = f"http://127.0.0.1:{free_port(0)}", free_port(0)
    usual = observed.extra
    observed.extra = usual | {"AROUTER_SHUTDOWN_DELAY": "8", "AROUTER_METRICS_PORT": str(port)}
    gateway = observed.start_gateway(url)
    observed.extra = usual
    observed.processes.wait_for(f"{url}/readyz")
    ask = ASKS["chat stream"]
    headers = ask.headers(observed.key, "tokens=100, pace=30")
    observed.processes.forget(gateway)
    with (
        ending(gateway),
        web.client() as client,
        client.stream("POST", url + ask.path, headers=headers, json=ask.body) as running,
    ):
        gateway.send_signal(signal.SIGTERM)
        late = observed.until(lambda: (a := web.get(f"{url}/readyz")).status_code == 503 and a)
        assert late.json()["reasons"] == ["the process is shutting down"]
        assert web.get(f"http://127.0.0.1:{port}/readyz").status_code == 503
        taken = web.post(url + ask.path, headers=ask.headers(observed.key), json=ask.body)
        assert (taken.status_code, taken.headers["connection"]) == (200, "close")
        assert running.read().endswith(b"data: [DONE]\n\n")
        assert gateway.wait(90) == 0
    observed.settled([running.headers["x-generation-id"], taken.headers["x-generation-id"]])
