"""`arouter control`: the control plane in a process of its own, beside a gateway that does not serve it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.cli.processes import ProcessFailed, free_port
from shared.runtime.settings import own_environment
from tests.support.requests import ASKS, exchange_bytes
from tests.support.system import System


class Apart(System):
    """A system whose gateway serves no control plane, a control plane, and a management key."""

    control: str
    control_process: subprocess.Popen[bytes]
    manager: httpx.Client


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    settings = {"AROUTER_CONTROL": "off", "AROUTER_CONTROL_BASE_PATH": "/llm/"}
    with Apart(tmp_path_factory.mktemp("apart"), **settings) as system:
        system.control = f"http://127.0.0.1:{free_port(0)}"
        system.control_process = system.processes.start(
            "control", "--port", system.control.rpartition(":")[2], environment=system.environment
        )
        system.processes.wait_for(f"{system.control}/readyz")
        key = system.command("keys", "create", "--name", "admin", "--management").strip()
        with httpx.Client(base_url=system.control, headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
            system.manager = client
            yield system


def test_a_key_made_over_http_calls_models_at_the_gateway(apart: Apart) -> None:
    made = apart.manager.post("/api/v1/keys", json={"name": "team-a", "allowed_providers": ["openai"]})
    assert made.status_code == 201, made.text
    key = made.json()["key"]
    chat, messages = ASKS["chat"], ASKS["messages"]
    answer = httpx.post(apart.url + chat.path, headers=chat.headers(key), json=chat.body)
    assert answer.status_code == 200
    assert httpx.post(apart.url + messages.path, headers=messages.headers(key), json=messages.body).status_code == 403
    exchange_id = answer.headers["x-generation-id"]
    apart.settled([exchange_id])
    booked = apart.manager.get("/api/v1/generation", params={"id": exchange_id})
    assert booked.json()["provider"] == "openai"


def test_a_provider_nobody_configured_is_refused(apart: Apart) -> None:
    refused = apart.manager.post("/api/v1/keys", json={"name": "x", "allowed_providers": ["klingon"]})
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        400,
        "allowed_providers: 'klingon' is not configured here",
    )


def test_the_gateway_does_not_serve_it(apart: Apart) -> None:
    answer = httpx.get(f"{apart.url}/api/v1/key", headers={"x-api-key": apart.key, "anthropic-version": "2023-06-01"})
    assert answer.status_code == 404
    assert answer.json()["type"] == "error", "in the envelope of the caller's dialect"
    assert (
        httpx.get(f"{apart.url}/api/openapi.json", headers={"authorization": f"Bearer {apart.key}"}).status_code == 404
    )


def test_it_is_reached_below_a_base_path(apart: Apart) -> None:
    for path in ("/llm/api/v1/key", "/api/v1/key"):
        assert apart.manager.get(path).status_code == 200
    assert apart.manager.get("/llm/readyz").json() == {"ready": True, "reasons": []}
    assert apart.manager.get("/api/openapi.json").json()["servers"] == [{"url": "/llm"}]


def test_it_serves_nothing_else(apart: Apart) -> None:
    assert httpx.get(f"{apart.control}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{apart.control}/readyz").json() == {"ready": True, "reasons": []}
    ask = ASKS["chat"]
    refused = httpx.post(apart.control + ask.path, headers=ask.headers(apart.key), json=ask.body)
    assert (refused.status_code, refused.json()["error"]["message"]) == (404, "not found")
    assert httpx.get(f"{apart.control}/api/v1/key", headers={"x-long": "x" * 1_000_000}).status_code == 431


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /api/v1/key HTTP/1.1\r\nhost: c\r\n", b"408"),  # it goes no further
        (b"POST /api/v1/keys HTTP/1.1\r\nhost: c\r\ncontent-length: 250000\r\n\r\nx", b"401"),
        (b"POST /api/v1/keys HTTP/1.1\r\nhost: c\r\ntransfer-encoding: gzip\r\n\r\nx", b"400"),
    ],
)
def test_nobody_is_waited_for_without_end(apart: Apart, request_bytes: bytes, status: bytes) -> None:
    assert exchange_bytes(apart.control, request_bytes).startswith(b"HTTP/1.1 " + status)


def test_a_port_that_is_taken_is_one_clear_line(apart: Apart) -> None:
    port = apart.control.rpartition(":")[2]
    with pytest.raises(ProcessFailed) as failed:
        apart.command("control", "--port", port)
    assert str(failed.value) == (
        f"arouter: AROUTER_CONTROL_PORT: cannot listen on 127.0.0.1:{port}: Address already in use"
    )


def test_it_is_not_ready_without_redis_and_ends_with_sigterm(tmp_path: Path) -> None:
    port = free_port(0)
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "control", "--port", str(port)],
        env=own_environment({"AROUTER_DATA_DIR": str(tmp_path), "REDIS_URL": "redis://127.0.0.1:9"}),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=10)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["Redis does not answer"])
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
