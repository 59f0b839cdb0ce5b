"""`arouter doctor`: what it finds in order, and what it finds wrong."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import web
from tests.support.nginx import nginx
from tests.support.raw_upstream import RawUpstream
from tests.support.system import System


def lines(said: str) -> list[tuple[str, str, str]]:
    return [(line[:8].strip(), line[9:19].strip(), line[20:]) for line in said.splitlines()]


def test_everything_is_there(system: System) -> None:
    environment = {**system.environment, "AROUTER_PROVIDERS__DEAD__BASE_URL": f"{system.provider}/v1"}
    found = lines(system.processes.command("doctor", environment=environment))
    assert {level for level, _, text in found if "maxmemory" not in text} <= {"ok", "warning"}
    texts = [text for _, _, text in found]
    assert any("append-only" in text for text in texts)
    assert any("evicts nothing" in text for text in texts)
    assert ("ok", "openai", "is reachable and accepts the credential") in found
    assert ("ok", "anthropic", "is reachable and accepts the credential") in found
    assert any(about == "clock" and level == "ok" for level, about, _ in found)
    assert ("ok", "database", "there is none: AROUTER_DATABASE_URL is not set") in found


def test_what_is_wrong_is_named(system: System, tmp_path: Path) -> None:
    with RawUpstream() as refusing:
        refusing.answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}"
        environment = {
            **system.environment,
            "AROUTER_PROVIDERS__MINE__BASE_URL": refusing.url,
            "AROUTER_PROVIDERS__MINE__API_KEY": "sk-wrong-credential",
            "AROUTER_JOURNAL_DIR": "/proc/journal",
            "AROUTER_MISPELLED": "1",
            "AROUTER_DRAIN_SECONDS": "5",
            "AROUTER_PROVIDERS__MINE__ON_DISCONNECT": "drain",
            "AROUTER_DATABASE_URL": "postgresql://arouter:secret@127.0.0.1:9/books",
        }
        said = system.processes.command("doctor", environment=environment, expected=(1,))
    found = lines(said)
    assert ("WRONG", "mine", "does not accept the credential (HTTP 401)") in found
    assert any(level == "WRONG" and about == "dead" and "cannot be reached" in text for level, about, text in found)
    assert any(level == "WRONG" and about == "journal" for level, about, _ in found)
    assert any(level == "warning" and "AROUTER_MISPELLED" in text for level, _, text in found)
    disconnect = "AROUTER_PROVIDERS__MINE__ON_DISCONNECT"
    for old, new in (
        ("AROUTER_DRAIN_SECONDS", "AROUTER_READ_ON_SECONDS"),
        (f"{disconnect}=drain", f"{disconnect}=read_on"),
    ):
        assert ("warning", "settings", f"{old} is now {new}; the old name will go") in found
    assert any(level == "WRONG" and about == "database" and "does not answer" in text for level, about, text in found)
    assert "sk-wrong" not in said
    assert "secret" not in said


def test_a_redis_that_forgets_is_wrong(system: System) -> None:
    system.redis.config_set("appendonly", "no")
    try:
        said = system.command("doctor", expected=(1,))
    finally:
        system.redis.config_set("appendonly", "yes")
    assert any(level == "WRONG" and "append-only" in text for level, _, text in lines(said))


def test_another_pepper_is_wrong(system: System) -> None:
    environment = {**system.environment, "AROUTER_KEY_PEPPER": "not the pepper of these keys"}
    said = system.processes.command("doctor", environment=environment, expected=(1,))
    assert any((level, about) == ("WRONG", "pepper") for level, about, _ in lines(said))


def test_no_redis_is_wrong(system: System) -> None:
    environment = {**system.environment, "REDIS_URL": "redis://127.0.0.1:9"}
    said = system.processes.command("doctor", environment=environment, expected=(1,))
    assert any(level == "WRONG" and "does not answer" in text for level, _, text in lines(said))


def test_a_path_that_streams(system: System, tmp_path: Path) -> None:
    for url in (system.url, None):
        with nginx(tmp_path, [system.url]) as proxied:
            said = system.command("doctor", "--url", url or proxied, "--key", system.key, "--silence", "2")
        assert {level for level, _, _ in lines(said)} == {"ok"}, said


@pytest.mark.parametrize(
    ("changes", "silence", "expected"),
    [
        ({"proxy_read_timeout 3600s;": "proxy_read_timeout 1s;"}, 3, "idle timeout"),
        ({"gzip off;": "gzip on; gzip_types text/event-stream; gzip_min_length 1;"}, 0, "compresses"),
    ],
)
def test_a_path_that_does_not(
    system: System, tmp_path: Path, changes: dict[str, str], silence: int, expected: str
) -> None:
    with nginx(tmp_path, [system.url], changes) as proxied:
        arguments = ["doctor", "--url", proxied, "--key", system.key, "--silence", str(silence)]
        said = system.command(*arguments, expected=(1,))
    assert any(level == "WRONG" and expected in text for level, _, text in lines(said)), said


def test_a_path_that_holds_events_back(system: System) -> None:
    class Buffering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name for it
            answer = web.get(system.url + self.path, headers={"authorization": self.headers["authorization"]})
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Buffering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        said = system.command("doctor", "--url", url, "--key", system.key, expected=(1,))
        server.shutdown()
    assert any(level == "WRONG" and "buffers" in text for level, _, text in lines(said)), said


def test_the_probe_stream_needs_a_key(system: System) -> None:
    assert web.get(f"{system.url}/api/v1/pulse").status_code == 401
    wrong = web.get(f"{system.url}/api/v1/pulse?events=999", headers={"authorization": f"Bearer {system.key}"})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["message"].startswith("events: ")
    unreachable = system.command("doctor", "--url", "http://127.0.0.1:9", "--key", system.key, expected=(1,))
    assert "cannot be reached" in unreachable
