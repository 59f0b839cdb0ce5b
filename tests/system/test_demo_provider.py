"""The demo provider fails on command: each way as a client meets it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from services.cli.processes import Processes, free_port
from shared.runtime.settings import own_environment
from tests.support import web
from tests.support.certificates import PEM, certificate
from tests.support.guide import snippets
from tests.support.provider import DemoProvider
from tests.support.requests import ASKS

CHAT = ASKS["chat stream"]


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running


@pytest.fixture(scope="module")
def _provider(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> DemoProvider:
    return DemoProvider(processes, tmp_path_factory.mktemp("provider"), "paris")


@pytest.fixture
def provider(_provider: DemoProvider) -> Iterator[DemoProvider]:
    """One that is well before and after."""
    yield _provider
    _provider.recover()


def ask(provider: DemoProvider, key: str = "sk-main", client: httpx.Client | None = None) -> httpx.Response:
    post = client.post if client is not None else web.post
    return post(provider.url + CHAT.path, headers=CHAT.headers(key), json=CHAT.body)


def test_an_answer_says_who_gave_it_and_to_whom(provider: DemoProvider) -> None:
    answer = ask(provider)
    assert (answer.headers["x-demo-provider"], answer.headers["x-demo-credential"]) == ("paris", "-main")
    assert provider.emitted()[-1].items() >= {"provider": "paris", "credential": "-main", "status": 200}.items()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 529])
def test_it_answers_with_an_error(provider: DemoProvider, status: int) -> None:
    provider.fail(f"status={status}, retry-after=7")
    answer = ask(provider)
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    provider.recover()
    assert ask(provider).status_code == 200


def test_an_outage_ends_by_itself(provider: DemoProvider) -> None:
    provider.fail("down, seconds=0.3")
    with pytest.raises(httpx.ConnectError):
        ask(provider)
    deadline = time.monotonic() + 60
    while web.get(provider.control).json()["outages"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ask(provider).status_code == 200


def test_one_credential_is_met_alone(provider: DemoProvider) -> None:
    provider.fail("status=401, credential=spare")
    assert [ask(provider, key).status_code for key in ("sk-main", "sk-spare")] == [200, 401]


def test_it_refuses_connections_and_closes_the_idle_ones(provider: DemoProvider) -> None:
    with web.client() as client:
        assert ask(provider, client=client).status_code == 200
        provider.fail("down")
        provider.fail("down")  # twice is as good as once
        for _ in range(2):
            with pytest.raises(httpx.ConnectError, match="refused"):
                ask(provider, client=client)
        provider.recover()
        assert ask(provider, client=client).status_code == 200


def test_it_hangs_before_the_head_and_in_the_middle(provider: DemoProvider) -> None:
    with web.client(timeout=httpx.Timeout(60, read=0.3)) as client:
        provider.fail("hang")
        with pytest.raises(httpx.ReadTimeout):
            ask(provider, client=client)
        provider.fail("stall")
        parts: list[bytes] = []
        with client.stream("POST", provider.url + CHAT.path, headers=CHAT.headers("k"), json=CHAT.body) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.ReadTimeout):
                parts.extend(answer.iter_raw())
        assert parts
        assert b"[DONE]" not in b"".join(parts)


@pytest.mark.parametrize(
    ("directives", "error"), [("reset, after=2", httpx.ReadError), ("cut", httpx.RemoteProtocolError)]
)
def test_it_breaks_off_in_the_middle(provider: DemoProvider, directives: str, error: type[Exception]) -> None:
    provider.fail(directives)
    with web.stream("POST", provider.url + CHAT.path, headers=CHAT.headers("k"), json=CHAT.body) as answer:
        assert answer.status_code == 200
        with pytest.raises(error):
            answer.read()


def test_an_order_that_makes_no_sense_changes_nothing(provider: DemoProvider) -> None:
    provider.fail("status=503")
    for order, said in (
        ("sttus=500", "unknown directive 'sttus'"),
        ("tls", "it speaks no TLS: --certificate"),
        ("", "no directive says what goes wrong"),
    ):
        answer = web.post(provider.control, content=order)
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, said)
    assert web.get(provider.control).json() == {"outages": ["status=503"]}
    assert web.get(provider.control.replace("/fail", "/")).status_code == 400


def test_tls_fails_in_the_handshake_or_by_an_expired_certificate(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    _, trusting = certificate(tmp_path)
    certificate(tmp_path / "old", age=timedelta(days=2))
    trusting.load_verify_locations(tmp_path / "old" / PEM)
    files = ("--certificate", str(tmp_path / PEM), "--expired", str(tmp_path / "old" / PEM))
    provider = DemoProvider(processes, tmp_path, "tls", *files)
    with web.client(verify=trusting) as client:
        assert ask(provider, client=client).status_code == 200
        for outage, said in (("tls", "UNEXPECTED_EOF|HANDSHAKE_FAILURE"), ("expired", "certificate has expired")):
            provider.fail(outage)
            with pytest.raises(httpx.ConnectError, match=said):
                ask(provider, client=client)
            provider.recover()
            assert ask(provider, client=client).status_code == 200


def test_the_outage_of_the_page_is_played(tmp_path: Path) -> None:
    """As it stands there, but for the ports; its comments say what it prints."""
    (script,) = (snippet.text for snippet in snippets("bash", page="demo-provider.md"))
    expected = re.findall(r"^ask +# (\d+ \w+ \d)", script, re.MULTILINE)
    assert len(expected) == 4
    for port in ("8080", "8091", "8092", "8191", "8192"):
        script = script.replace(port, str(free_port(0)))
    settings = {
        "AROUTER_DATA_DIR": str(tmp_path / "data"),
        "AROUTER_METRICS_PORT": "0",
        "AROUTER_METER_METRICS_PORT": "0",
        "NO_PROXY": "127.0.0.1",
    }
    here = f"PATH={Path(sys.executable).parent}:$PATH\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", here + script],
        cwd=tmp_path,
        env=own_environment(settings),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert re.findall(r"^\d{3} \w+ \d$", done.stdout, re.MULTILINE) == expected, done.stdout + done.stderr
