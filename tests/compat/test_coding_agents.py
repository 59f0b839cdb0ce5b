"""Claude Code and Codex themselves, pointed at the gateway as their users would."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from services.demo.scenario import Scenario
from services.demo.script import words
from shared.runtime.settings import own_environment
from tests.support.system import System

AGENTS = Path(__file__).parent / "agents" / "cli"
STORY = "".join(words(Scenario())).split("\u2028")[0].strip()


@pytest.fixture(scope="module")
def agents() -> Path:
    """The folder of their commands, installed on first use."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not installed")
    packages = AGENTS / "node_modules"
    if not (packages / ".bin" / "codex").exists():
        done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=AGENTS, capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("npm cannot install the agents (no registry?)")
    # npm runs no install scripts unless it is told to, and this one puts the binary in its place.
    subprocess.run([node, "install.cjs"], cwd=packages / "@anthropic-ai" / "claude-code", check=True, timeout=600)
    return packages / ".bin"


def run(system: System, folder: Path, command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=own_environment({"HOME": str(folder), "NO_PROXY": "127.0.0.1", **environment}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=6000,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def booked(system: System, dialect: str, before: set[str]) -> None:
    new = system.until(lambda: [e for id, e in system.ledger().items() if id not in before and e["dialect"] == dialect])
    assert new[-1]["outcome"] == "completed"
    assert new[-1]["source"] == "reported"
    assert new[-1]["total_tokens"] > 0


def test_claude_code(system: System, agents: Path, tmp_path: Path) -> None:
    before = set(system.ledger())
    environment = {
        "ANTHROPIC_BASE_URL": system.url,
        "ANTHROPIC_AUTH_TOKEN": system.key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    command = [str(agents / "claude"), "-p", "Tell me a story.", "--model", "claude-haiku-4-5"]
    assert STORY in run(system, tmp_path, command, environment)
    booked(system, "anthropic_messages", before)


def test_codex(system: System, agents: Path, tmp_path: Path) -> None:
    before = set(system.ledger())
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text(f"""
model = "gpt-5-codex"
model_provider = "gateway"
[model_providers.gateway]
name = "gateway"
base_url = "{system.url}/v1"
env_key = "GATEWAY_KEY"
wire_api = "responses"
""")
    command = [str(agents / "codex"), "exec", "--skip-git-repo-check", "Tell me a story."]
    assert STORY in run(system, tmp_path, command, {"GATEWAY_KEY": system.key})
    booked(system, "openai_responses", before)
