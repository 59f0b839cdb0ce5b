"""The command line as a newcomer meets it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from services.cli.processes import Processes, ProcessFailed, free_port
from shared.contract import names
from shared.contract.usage import COUNTERS
from shared.runtime.settings import own_environment
from tests.support import web
from tests.support.children import ending
from tests.support.requests import ASKS
from tests.support.system import System


@contextmanager
def started(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`arouter ARGUMENTS` with a data folder of its own, ended with the block."""
    given = {"AROUTER_DATA_DIR": str(folder), **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", *arguments],
        env=own_environment(given),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with ending(process):
        yield process


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


def normalised(text: str) -> str:
    """The demo's output without what differs from run to run: key and port, and blanks at the ends of lines."""
    text = re.sub(r"lr_live_(?:[0-9a-f]+|…)", "KEY", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def quoted() -> str:
    """What the README says `make demo ONCE=1` prints, up to the verdict."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    return readme.partition("$ make demo ONCE=1\n")[2].partition("…\n\n$ make test")[0]


def test_the_demo_prints_what_the_readme_quotes(tmp_path: Path) -> None:
    with started(tmp_path, "demo", "--once") as demo:
        out, err = demo.communicate(timeout=300)
    assert demo.returncode == 0, out + err
    round_, verdict, snippets = out.partition("Every count agrees.\n")
    assert normalised(round_ + verdict) == normalised(quoted())
    assert "curl -N http://127.0.0.1:" in snippets
    assert processes_of(tmp_path) == []


def test_the_demo_until_ctrl_c(tmp_path: Path) -> None:
    with started(tmp_path, "demo") as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("Serving on"):
                break
        os.kill(demo.pid, signal.SIGINT)
        demo.communicate(timeout=120)
    assert demo.returncode == 0
    assert processes_of(tmp_path) == []


def test_teams_of_keys(system: System) -> None:
    made = json.loads(system.command("teams", "create", "--name", "red", "--label", "Red team", "--json"))
    assert (made["name"], made["label"]) == ("red", "Red team")
    record = json.loads(system.command("keys", "create", "--name", "me", "--team", "red", "--json"))
    assert record["team"] == "red"
    assert system.command("teams", "update", "red", "--label", "Reds").strip() == "red"
    assert [line.split()[:2] for line in system.command("teams", "list").splitlines()[1:]] == [["red", "Reds"]]
    for words, said in (
        (("keys", "create", "--name", "me", "--team", "nobody"), "arouter: there is no team 'nobody'"),
        (("keys", "update", record["hash"], "--team", "nobody"), "arouter: there is no team 'nobody'"),
        (("teams", "update", "nobody", "--label", "x"), "arouter: there is no team 'nobody'"),
        (("teams", "create", "--name", "red"), "arouter: there is a team 'red'"),
        (("teams", "create", "--name", "a b"), "arouter: 'a b' cannot name a team"),
    ):
        with pytest.raises(ProcessFailed, match=said):
            system.command(*words)
    system.command("keys", "update", record["hash"], "--team", "")
    listed = {row["hash"]: row for row in json.loads(system.command("keys", "list", "--json"))}
    assert listed[record["hash"]]["team"] is None


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
    response = web.post(system.url + ask.path, headers=ask.headers(record["key"]), json=ask.body)
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
        "unpriced_requests",
        "cost_microusd",
        "cost_nanousd",
    }
    gemini = ASKS["gemini"]  # has no price
    response = web.post(system.url + gemini.path, headers=gemini.headers(record["key"]), json=gemini.body)
    system.settled([response.headers["x-generation-id"]])
    costs = {
        line.split()[1]: line.split()[-1] for line in system.command("usage", "--key", record["hash"]).splitlines()
    }
    assert costs["gemini"] == "unpriced"
    assert float(costs["openai"]) > 0
    assert "revoked" in system.command("keys", "revoke", record["hash"])
    for arguments in (("usage", "--key", "ffff"), ("keys", "revoke", "zz")):
        with pytest.raises(ProcessFailed, match="arouter: "):
            system.command(*arguments)


@pytest.mark.parametrize("command", ["gateway", "meter"])
def test_a_wrong_setting_stops_the_start(tmp_path: Path, command: str) -> None:
    with started(tmp_path, command, AROUTER_SHARDS="many") as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert (
        err.strip() == "arouter: AROUTER_SHARDS: Input should be a valid integer, unable to parse string as an integer"
    )


def test_settings_come_from_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('key_pepper = "short"\n')
    for arguments, environment, said in (
        (("--config", str(file), "meter"), {}, "AROUTER_KEY_PEPPER: Value should have at least 16 items"),
        (("meter",), {"AROUTER_CONFIG": str(file)}, "AROUTER_KEY_PEPPER: Value should have at least 16 items"),
        (("--config", f"{file}.no", "demo"), {}, f"--config: there is no file {file}.no"),
        (("meter",), {"AROUTER_CONFIG": f"{file}.no"}, f"AROUTER_CONFIG: there is no file {file}.no"),
    ):
        with started(tmp_path, *arguments, **environment) as process:
            _, err = process.communicate(timeout=120)
        assert (process.returncode, err.startswith(f"arouter: {said}"), err.count("\n")) == (1, True, 1), err


def test_the_demo_hands_its_file_on(tmp_path: Path) -> None:
    """The gateway that the demo starts calls the provider of the file, where nobody listens."""
    file = tmp_path / "mine.toml"
    file.write_text("port = 0\n[providers.openai]\nbase_url = 'http://127.0.0.1:9/v1'\n")
    with started(tmp_path, "--config", str(file), "demo", "--once") as demo:
        out, err = demo.communicate(timeout=300)
    assert demo.returncode == 1, "the provider of the file is not there"
    assert out.count("HTTP 502") >= 2, out + err
    assert processes_of(tmp_path) == []


def test_a_reader_that_leaves_ends_a_command_without_a_traceback() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", "webhooks", "secret"],
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_version() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "services.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"arouter {version('arouter')}\n"


def test_secrets_are_never_logged(tmp_path: Path) -> None:
    """Not the operator's credential, the caller's key, nor the pepper: not at debug, not for any error."""
    secrets = {"OPENAI_API_KEY": "sk-very-secret", "AROUTER_KEY_PEPPER": "pepper-very-secret"}
    port = free_port(0)
    changes = {
        "AROUTER_LOG_LEVEL": "debug",
        "AROUTER_PROVIDERS__OPENAI__BASE_URL": "http://127.0.0.1:9/v1",
        "AROUTER_DRAIN_BYTES": "5",
        **secrets,
    }
    with started(tmp_path, "gateway", "--port", str(port), **changes) as gateway:
        with started(tmp_path, "keys", "create", "--name", "x", **secrets) as created:
            key = created.communicate(timeout=120)[0].strip()
        url = f"http://127.0.0.1:{port}"
        Processes().wait_for(f"{url}/readyz")
        ask = ASKS["chat"]
        assert web.post(url + ask.path, headers=ask.headers(key), json=ask.body).status_code == 502
        assert web.post(url + ask.path, headers=ask.headers(key + "0"), json=ask.body).status_code == 401
        assert web.get(f"{url}/v1beta/models?key={key}").status_code == 404
        gateway.terminate()
        out, err = gateway.communicate(timeout=120)
    assert gateway.returncode == 0
    assert "could not be reached" in err
    assert "AROUTER_DRAIN_BYTES is now AROUTER_READ_ON_BYTES" in err
    for secret in (*secrets.values(), key, key.removeprefix("lr_live_")):
        assert secret not in out + err
    assert processes_of(tmp_path) == []


def test_quarantine_and_inspect(system: System, tmp_path: Path) -> None:
    system.redis.xadd(names.tail(0), {"garbage": "1"})
    listed = system.until(lambda: json.loads(system.command("quarantine", "list", "--json")))
    [case] = [case for case in listed if "not a tail record" in case["reason"]]
    shown = json.loads(system.command("quarantine", "show", case["id"]))
    assert shown["records"][0]["fields"] == {"garbage": "1"}
    assert case["id"] in system.command("quarantine", "list")
    assert "retried" in system.command("quarantine", "retry", case["id"])
    again = system.until(lambda: json.loads(system.command("quarantine", "list", "--json")))
    assert "dropped" in system.command("quarantine", "drop", again[0]["id"])
    assert json.loads(system.command("quarantine", "list", "--json")) == []
    with pytest.raises(ProcessFailed, match="nothing is held"):
        system.command("quarantine", "show", "1:1-1")
    body = tmp_path / "body.json"
    body.write_text('{"id": "x", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}')
    found = json.loads(system.command("inspect", str(body), "--dialect", "openai_chat"))
    assert found["usage"]["total_tokens"] == 3
    with pytest.raises(ProcessFailed, match="arouter: inspect"):
        system.command("inspect", str(body))


def test_prices_are_checked(system: System, tmp_path: Path) -> None:
    key = system.command("keys", "create", "--name", "priced").strip()
    for name in ("chat", "gemini"):
        answer = web.post(system.url + ASKS[name].path, headers=ASKS[name].headers(key), json=ASKS[name].body)
        system.settled([answer.headers["x-generation-id"]])
    said = system.command("prices", "check", expected=(1,))
    assert said.startswith("version tests-1: 2 prices of 2 providers")
    assert any(line.split()[:2] == ["gemini", "gemini-x"] for line in said.splitlines())
    assert not any(line.split()[:2] == ["openai", "gpt-4o"] for line in said.splitlines())
    whole = tmp_path / "whole.toml"
    price = '[[prices]]\nprovider = "{}"\nmodel = "*"\ninput = 1\noutput = 1\n'
    providers = ("openai", "anthropic", "gemini", "deepseek", "azure", "asking", "dead")
    whole.write_text('version = "2"\n' + "".join(price.format(name) for name in providers))
    assert system.command("prices", "check", str(whole)) == "version 2: 7 prices of 7 providers\n"
    whole.write_text('version = "3"\n' + price.format("openai") * 2)
    with pytest.raises(ProcessFailed, match=r"AROUTER_PRICES: .* two prices"):
        system.command("prices", "check", str(whole))


def test_a_key_is_changed(system: System) -> None:
    record = json.loads(system.command("keys", "create", "--name", "limits", "--json"))
    hash = record["hash"][:20]
    said = system.command(
        "keys", "update", hash, "--name", "b", "--allow-models", "gpt-4o*", "--expires-at", "2099-01-01"
    )
    assert said.strip().endswith("(b): good until 2099-01-01 00:00 for gpt-4o*")
    ask = ASKS["messages"]
    assert web.post(system.url + ask.path, headers=ask.headers(record["key"]), json=ask.body).status_code == 403
    said = system.command("keys", "update", hash, "--allow-models", "all", "--expires-at", "never", "--disable")
    assert said.strip().endswith("(b): disabled")
    assert "disabled" in system.command("keys", "list")
    assert system.command("keys", "update", hash, "--enable").strip().endswith("(b): good")
    with pytest.raises(ProcessFailed, match="--expires-at"):
        system.command("keys", "update", hash, "--expires-at", "soon")
