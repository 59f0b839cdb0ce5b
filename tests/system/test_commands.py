"""The command line as a newcomer meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from services.cli.processes import ProcessFailed
from shared.settings import own_environment
from shared.usage import COUNTERS
from tests.support.requests import ASKS
from tests.support.system import System


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    given = {"AROUTER_DATA_DIR": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "services.cli", *arguments],
        env=own_environment(given),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that name the folder in their arguments or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            zombie = ") Z " in (process / "stat").read_text()
        except OSError:
            continue
        if str(folder).encode() in said and int(process.name) != os.getpid() and not zombie:
            found.append(said.decode(errors="replace"))
    return found


def test_the_demo_once(tmp_path: Path) -> None:
    demo = start(tmp_path, "demo", "--once")
    out, err = demo.communicate(timeout=120)
    assert demo.returncode == 0, out + err
    assert "Every count agrees." in out
    for title in ("OpenAI chat", "OpenAI responses", "Anthropic messages", "Gemini events", "Gemini JSON array"):
        assert title in out
    assert "curl -N http://127.0.0.1:" in out
    assert processes_of(tmp_path) == []


def test_the_demo_until_ctrl_c(tmp_path: Path) -> None:
    demo = start(tmp_path, "demo")
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("Serving on"):
            break
    os.kill(demo.pid, signal.SIGINT)
    demo.communicate(timeout=60)
    assert demo.returncode == 0
    assert processes_of(tmp_path) == []


def test_keys_and_usage(system: System) -> None:
    assert system.command("keys", "create", "--name", "plain").strip().startswith("lr_live_")
    record = json.loads(system.command("keys", "create", "--name", "me", "--json"))
    assert record["key"].startswith("lr_live_")
    assert record["name"] == "me"
    listed = json.loads(system.command("keys", "list", "--json"))
    assert record["hash"] in [row["hash"] for row in listed]
    assert "key" not in listed[0]
    assert json.loads(system.command("usage", "--json", "--key", record["hash"])) == []

    ask = ASKS["chat"]
    response = httpx.post(system.url + ask.path, headers=ask.headers(record["key"]), json=ask.body)
    system.settled([response.headers["x-generation-id"]])
    [row] = json.loads(system.command("usage", "--json", "--key", record["hash"]))
    assert (row["key"], row["name"], row["provider"], row["model"]) == (record["hash"], "me", "openai", "gpt-4o")
    assert row["requests"] == 1
    assert row["output_tokens"] == 12
    assert set(row) == {
        "key",
        "name",
        "provider",
        "model",
        "requests",
        *COUNTERS,
        "estimated_requests",
        "partial_requests",
    }
    assert "gpt-4o" in system.command("usage")
    assert "revoked" in system.command("keys", "revoke", record["hash"])
    for arguments in (("usage", "--key", "ffff"), ("keys", "revoke", "zz")):
        with pytest.raises(ProcessFailed, match="arouter: "):
            system.command(*arguments)


@pytest.mark.parametrize("command", ["gateway", "meter"])
def test_a_wrong_setting_stops_the_start(tmp_path: Path, command: str) -> None:
    process = start(tmp_path, command, AROUTER_SHARDS="many")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert (
        err.strip() == "arouter: AROUTER_SHARDS: Input should be a valid integer, unable to parse string as an integer"
    )


def test_secrets_are_never_logged(tmp_path: Path) -> None:
    gateway = start(tmp_path, "gateway", "--port", "0", AROUTER_LOG_LEVEL="debug", OPENAI_API_KEY="sk-very-secret")
    assert gateway.stderr is not None
    lines = []
    for line in gateway.stderr:
        lines.append(line)
        if "Redis takes records" in line:
            break
    gateway.terminate()
    _, rest = gateway.communicate(timeout=60)
    assert gateway.returncode == 0
    assert "sk-very-secret" not in "".join(lines) + rest
    assert processes_of(tmp_path) == []
