"""LangChain, LlamaIndex and LiteLLM themselves, in an environment of their own: their pins are not ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from services.demo.scenario import Scenario
from services.demo.script import words
from shared.runtime.settings import own_environment
from tests.support.system import System

AGENTS = Path(__file__).parent / "agents"
STORY = "".join(words(Scenario()))


def test_frameworks_stream_and_are_metered(system: System, python: str) -> None:
    key = system.command("keys", "create", "--name", "frameworks").strip()
    environment = {
        "AROUTER_TEST_URL": system.url,
        "AROUTER_TEST_KEY": key,
        "NO_PROXY": "127.0.0.1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices when it is imported
        "LANGSMITH_TRACING": "false",
    }
    done = subprocess.run(
        [python, "-W", "ignore", str(AGENTS / "frameworks.py")],
        env=own_environment(environment),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == 4
    for one in found:
        assert one["whole"].strip() == STORY.strip(), one["name"]
        if one["name"] == "litellm_anthropic":  # it takes U+2028, which stands raw in this text, for the end of a line
            assert one["streamed"]
            assert STORY.startswith(one["streamed"])
        else:
            assert one["streamed"].strip() == STORY.strip(), one["name"]
            assert one["told"] in (12, None), one["name"]
    hash = json.loads(system.command("keys", "list", "--json"))[-1]["hash"]
    system.until(lambda: sum(row["requests"] for row in usage(system, hash)) == 8)
    assert sum(row["partial_requests"] for row in usage(system, hash)) == 0


def usage(system: System, hash: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(system.command("usage", "--json", "--key", hash))
    return rows
