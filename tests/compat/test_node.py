"""Node: the official SDKs, and the streaming guide's snippets for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from shared.runtime.settings import own_environment
from tests.support.guide import Snippet, snippets
from tests.support.system import System

NODE = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def node() -> str:
    """The path of node, with the SDKs beside their tests, installed on first use."""
    npm, found = shutil.which("npm"), shutil.which("node")
    if npm is None or found is None:
        pytest.skip("node and npm are not installed")
    if not (NODE / "node_modules" / "openai").exists():
        done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=NODE, capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("npm cannot install the SDKs (no registry?)")
    return found


def test_the_sdks(system: System, node: str) -> None:
    done = subprocess.run(
        [node, "--test", "--test-concurrency=1", "sdks.test.mjs"],
        cwd=NODE,
        env=own_environment({"AROUTER_TEST_URL": system.url, "AROUTER_TEST_KEY": system.key, "NO_PROXY": "127.0.0.1"}),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}{done.stderr[-3000:]}"
    assert "fail 0" in done.stdout


@pytest.mark.parametrize("snippet", snippets("js"), ids=str)
def test_a_snippet_of_the_guide(system: System, tmp_path: Path, node: str, snippet: Snippet) -> None:
    (tmp_path / "snippet.mjs").write_text(snippet.aimed_at(system))
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    snippet.check([node, str(tmp_path / "snippet.mjs")], tmp_path)
