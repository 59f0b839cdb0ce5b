"""Reloading through real processes: on SIGHUP, when the file changes, and when `arouter reload` asks for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli.processes import free_port
from tests.support import web
from tests.support.frames import frame, sent
from tests.support.keyed_provider import KeyedProvider, Reply
from tests.support.raw_socket import RawSockets, Switched, exactly, head_of
from tests.support.requests import ASKS, connected, raw_request
from tests.support.sockets import HANDSHAKE
from tests.support.system import PRICES, System

_SECONDS = 60.0  # on a machine that is busy with other things


class Reloaded(System):
    """A system whose gateway and meter have a settings file."""

    def _begin(self) -> None:
        self.file = self.folder / "arouter.toml"
        self.configure(key="sk-first")
        self.admin = f"http://127.0.0.1:{free_port(0)}"
        self.extra |= {
            "AROUTER_CONFIG": str(self.file),
            "AROUTER_METRICS_PORT": self.admin.rpartition(":")[2],
            "AROUTER_LOG_LEVEL": "info",
        }
        super()._begin()

    def configure(self, *, key: str, more: str = "") -> None:
        """Write the file as Kubernetes changes a config map: by a new link in the place of the old one."""
        version = self.folder / f"version-{time.monotonic_ns()}.toml"
        version.write_text(f'[providers.mine]\nbase_url = "{self.provider}/v1"\napi_key = "{key}"\n{more}')
        link = self.folder / "new.toml"
        link.symlink_to(version)
        link.replace(self.file)

    def sent(self, provider: str = "mine") -> str:
        """The credential with which the provider gets a request now; what the gateway answers where it gets none."""
        answer = web.post(
            f"{self.url}/{provider}/v1/echo", headers={"authorization": f"Bearer {self.key}"}, content=b"{}"
        )
        return answer.json()["headers"]["authorization"] if answer.status_code == 200 else answer.text

    def results(self) -> dict[str, float]:
        """How many reloads there were in the gateway, by result."""
        lines = httpx.get(f"{self.admin}/metrics", trust_env=False).text.splitlines()
        found = [line.partition(" ") for line in lines if line.startswith("arouter_configuration_reloads_total{")]
        return {name.split('"')[1]: float(value) for name, _, value in found}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloaded]:
    with Reloaded(tmp_path_factory.mktemp("reloaded")) as running:
        yield running


def test_a_file_that_changes_is_taken_on(system: Reloaded) -> None:
    assert system.sent() == "Bearer sk-first"
    system.configure(key="sk-second")
    system.until(lambda: system.sent() == "Bearer sk-second")


def test_sighup_reloads_at_once(system: Reloaded) -> None:
    system.configure(key="sk-hup", more='[providers.added]\nbase_url = "http://127.0.0.1:9/v1"\n')
    os.kill(system.gateway.pid, signal.SIGHUP)
    system.until(lambda: system.sent() == "Bearer sk-hup")
    assert "could not be reached" in system.sent("added")
    assert "no provider 'other' is configured" in system.sent("other")


def test_a_wrong_file_is_refused_and_the_old_settings_stay(system: Reloaded) -> None:
    system.configure(key="sk-good")
    assert "gateway" in system.command("reload")
    refused = system.results().get("refused", 0)
    system.configure(key="sk-bad", more="colour = 7\n")
    said = system.command("reload", expected=(1,))
    assert "AROUTER_PROVIDERS__MINE__COLOUR: Extra inputs are not permitted" in said
    assert next(line for line in said.splitlines() if line.startswith("meter")).endswith("nothing has changed")
    assert system.sent() == "Bearer sk-good"
    assert system.results()["refused"] > refused
    assert "its last reload was refused" in system.command("providers")
    system.configure(key="sk-better")
    system.command("reload")
    assert system.sent() == "Bearer sk-better"
    assert "refused" not in system.command("providers")


def test_every_process_answers_and_says_what_only_a_restart_changes(system: Reloaded) -> None:
    file, at = system.file.read_text(), system.file.resolve()
    system.configure(key="sk-restart")
    system.file.write_text(f"total_timeout = 77\n{system.file.read_text()}")
    gateway, meter = sorted(system.command("reload").splitlines())
    assert gateway.startswith("gateway ")
    assert gateway.endswith("only a restart changes AROUTER_TOTAL_TIMEOUT")
    assert meter.startswith("meter ")
    at.write_text(file)


def test_a_meter_takes_on_prices(system: Reloaded) -> None:
    prices = Path(system.environment["AROUTER_PRICES"])
    prices.write_text(PRICES.replace("tests-1", "tests-2"))
    assert "meter" in system.command("reload")
    ask = ASKS["chat"]
    answer = web.post(system.url + ask.path, headers=ask.headers(system.key), json=ask.body)
    id = answer.headers["x-generation-id"]
    entry = system.settled([id])[id]
    assert entry["price_version"] == "tests-2"
    prices.write_text("version = 3")
    said = system.command("reload", expected=(1,))
    assert "AROUTER_PRICES" in said
    prices.write_text(PRICES)


def test_no_request_fails_while_a_credential_is_replaced(system: Reloaded) -> None:
    """Requests and streams run all the time; what began before a reload ends as it began."""
    over = threading.Event()
    statuses: list[int] = []
    broken: list[str] = []

    def call(name: str, directives: str) -> None:
        ask = ASKS[name]
        body = {**ask.body, "model": "mine/gpt-4o"}
        with web.client() as client:
            while not over.is_set():
                try:
                    answer = client.post(system.url + ask.path, headers=ask.headers(system.key, directives), json=body)
                except httpx.TransportError as exc:
                    broken.append(repr(exc))
                    continue
                statuses.append(answer.status_code)
                if name.endswith("stream") and not answer.text.rstrip().endswith("[DONE]"):
                    broken.append(answer.text[-200:])
                time.sleep(0.01)

    callers = [threading.Thread(target=call, args=("chat", "")) for _ in range(2)]
    callers += [threading.Thread(target=call, args=("chat stream", "tokens=20, pace=20")) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        for number in range(4):  # add one beside the old one, then take the old one out
            for keys in ([f"sk-{number}", f"sk-{number + 1}"], [f"sk-{number + 1}"]):
                named = ", ".join(f'{{ name = "{key}", api_key = "{key}" }}' for key in keys)
                changes = system.results().get("changed", 0)
                system.configure(key="", more=f"credentials = [{named}]\n")
                os.kill(system.gateway.pid, signal.SIGHUP)
                system.until(lambda: system.results().get("changed", 0) > changes)  # noqa: B023  # it is called at once
                assert system.sent() in {f"Bearer {key}" for key in keys}
                time.sleep(0.2)
    finally:
        over.set()
        for caller in callers:
            caller.join(_SECONDS)
    assert broken == []
    assert set(statuses) == {200}
    assert len(statuses) > 100


def test_sockets_and_streams_end_with_what_they_began_with(system: Reloaded) -> None:
    def configure(key: str, provider: RawSockets) -> None:
        system.configure(key=key, more=f'[providers.own]\nbase_url = "{provider.url}"\napi_key = "{key}"\n')
        system.command("reload")

    def socket_at(provider: RawSockets) -> tuple[socket.socket, Switched]:
        client = connected(system.url)
        lines = f"authorization: Bearer {system.key}\r\n"
        client.sendall(HANDSHAKE.format("/own/v1/realtime?model=m", lines).encode())
        switched = provider.accept()
        assert head_of(client).startswith(b"HTTP/1.1 101 ")
        return client, switched

    def both_ways(client: socket.socket, provider: socket.socket) -> None:
        for data, writer, reader in ((sent("up"), client, provider), (frame(b"down"), provider, client)):
            writer.sendall(data)
            assert exactly(reader, len(data)) == data

    first = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 8\r\n\r\none\n"
    with RawSockets() as provider, RawSockets() as elsewhere, ExitStack() as opened:
        configure("sk-began", provider)
        client, switched = socket_at(provider)
        streaming = connected(system.url)
        streaming.sendall(raw_request("/own/v1/chat/completions", system.key, {"model": "m", "stream": True}))
        stream = provider.answer(first)
        head_of(streaming)
        assert exactly(streaming, 4) == b"one\n"
        for one in (client, streaming, switched.socket, stream.socket):
            opened.callback(one.close)
        configure("sk-after", elsewhere)
        later, other = socket_at(elsewhere)
        opened.callback(later.close)
        opened.callback(other.socket.close)
        began, after = b"bearer sk-began\r\n", b"bearer sk-after\r\n"
        assert [began in one.head.lower() for one in (switched, stream, other)] == [True, True, False]
        assert after in other.head.lower()
        both_ways(client, switched.socket)
        both_ways(later, other.socket)
        stream.socket.sendall(b"two\n")
        assert exactly(streaming, 4) == b"two\n"


def test_a_credential_that_is_out_comes_back_with_a_new_secret(system: Reloaded) -> None:
    def use(key: str) -> None:
        pool = f'credentials = [{{ name = "main", api_key = "{key}" }}]\n'
        system.configure(key="sk-usual", more=f'[providers.keyed]\nbase_url = "{provider.url}"\n{pool}')
        system.command("reload")

    def status() -> int:
        body = {"model": "keyed/m", "messages": []}
        headers = {"authorization": f"Bearer {system.key}"}
        return web.post(f"{system.url}/v1/chat/completions", json=body, headers=headers).status_code

    def healths() -> list[tuple[str, str]]:
        told = json.loads(system.command("providers", "--json"))
        return [(one["health"], one["cause"]) for one in told if one["provider"] == "keyed"]

    with KeyedProvider() as provider:
        provider.replies["sk-revoked"] = Reply(401)
        use("sk-revoked")
        assert status() == 401
        system.until(lambda: healths() == [("out", "401")])
        use("sk-new")
        assert status() == 200
        system.until(lambda: healths() == [("healthy", "")])


def test_providers_are_listed_for_whoever_asks(system: Reloaded) -> None:
    manager = system.command("keys", "create", "--name", "admin", "--management").strip()
    system.configure(key="sk-list")
    system.command("reload")

    def listed(key: str) -> dict[str, dict[str, Any]]:
        answer = web.get(f"{system.url}/api/v1/providers", headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        return {one["id"]: one for one in answer.json()["data"]}

    def names() -> list[str]:
        return [one["name"] for one in listed(manager)["mine"]["status"]["credentials"]]

    system.until(lambda: names() == [""])  # the state of before goes with the next heartbeat
    assert listed(system.key)["mine"] == {
        "id": "mine",
        "name": "mine",
        "model_count": None,
        "is_byok_supported": False,
        "status": None,
    }
    status = listed(manager)["mine"]["status"]
    assert status["health"] == "healthy"
    assert "openai_chat" in status["dialects"]
    [credential] = status["credentials"]
    [gateway] = credential["gateways"]
    assert (credential["name"], credential["health"], gateway["health"]) == ("", "healthy", "healthy")
    [found] = [one for one in json.loads(system.command("providers", "--json")) if one["provider"] == "mine"]
    assert (found["health"], found["gateways"][0]["gateway"]) == ("healthy", gateway["gateway"])


def test_a_key_may_be_restricted_to_a_provider_that_came_with_a_reload(system: Reloaded) -> None:
    manager = system.command("keys", "create", "--name", "admin", "--management").strip()
    headers = {"authorization": f"Bearer {manager}"}
    wanted = {"name": "narrow", "allowed_providers": ["later"]}
    assert web.post(f"{system.url}/api/v1/keys", headers=headers, json=wanted).status_code == 400
    system.configure(key="sk-later", more=f'[providers.later]\nbase_url = "{system.provider}/v1"\n')
    system.command("reload")
    system.until(lambda: web.post(f"{system.url}/api/v1/keys", headers=headers, json=wanted).status_code == 201)


def test_a_process_that_does_not_answer_is_named(system: Reloaded) -> None:
    url = f"http://127.0.0.1:{free_port(0)}"
    other = system.start_gateway(url)
    system.processes.wait_for(f"{url}/readyz")

    def answered() -> list[bool]:
        os.kill(other.pid, signal.SIGSTOP)
        try:
            said = system.command("reload", "--timeout", "4", expected=(0, 1))
        finally:
            os.kill(other.pid, signal.SIGCONT)
        return [not line.endswith("did not answer") for line in said.splitlines()]

    # On a slow machine the command may begin when the gateway has been silent for so long that it counts as gone.
    system.until(lambda: answered() == [True, True, False])
    system.stop(other)
