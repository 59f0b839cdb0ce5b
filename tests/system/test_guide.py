"""Every snippet of the streaming guide, run as it stands there but for the address and the key."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.demo.scenario import Scenario
from services.demo.script import words
from shared.runtime.settings import own_environment
from tests.support.node import NODE, node_with_sdks
from tests.support.system import System

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "streaming.md").read_text()
STORY = "".join(words(Scenario())).strip()


def snippets() -> list[tuple[str, str, str]]:
    """(heading, language, text) of each, but for what is no program."""
    found = []
    heading = ""
    for match in re.finditer(r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        elif match[2] != "text":
            found.append((heading, match[2], match[3]))
    return found


def python(text: str, folder: Path) -> list[str]:
    return [sys.executable, "-W", "ignore", "-c", text]


def bash(text: str, folder: Path) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", text]


def js(text: str, folder: Path) -> list[str]:
    node = node_with_sdks()
    (folder / "snippet.mjs").write_text(text)
    (folder / "node_modules").symlink_to(NODE / "node_modules")
    return [node, str(folder / "snippet.mjs")]


def go(text: str, folder: Path) -> list[str]:
    found = shutil.which("go")
    if found is None:
        pytest.skip("go is not installed")
    (folder / "main.go").write_text(text)
    module = f"module snippet\n\ngo 1.21\n\nrequire arouter v0.0.0\n\nreplace arouter => {ROOT / 'sdk' / 'go'}\n"
    (folder / "go.mod").write_text(module)
    return [found, "run", "."]


COMMANDS: dict[str, Callable[[str, Path], list[str]]] = {"python": python, "bash": bash, "js": js, "go": go}

SHOWS: dict[str, str] = {
    "curl": "data: [DONE]",
    "Usage at the end of a stream": "12",
    "Cancelling": "",
    "Errors": "refused: 401",
}


@pytest.mark.parametrize(("heading", "language", "text"), snippets(), ids=lambda value: str(value).split("\n")[0][:24])
def test_a_snippet_of_the_guide(system: System, tmp_path: Path, heading: str, language: str, text: str) -> None:
    text = text.replace("https://llm.example.com", system.url).replace("lr_live_your_key", system.key)
    done = subprocess.run(
        COMMANDS[language](text, tmp_path),
        cwd=tmp_path,
        env=own_environment({"NO_PROXY": "127.0.0.1"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert SHOWS.get(heading, STORY) in done.stdout


def test_the_six_clients_of_the_guide_are_there() -> None:
    shown = [(heading, language) for heading, language, _ in snippets()]
    for wanted in (
        ("Python, `openai`", "python"),
        ("Node, `openai`", "js"),
        ("Go, `arouter`", "go"),
        ("curl", "bash"),
        ("Python, `anthropic`", "python"),
        ("Python, `google-genai`", "python"),
    ):
        assert wanted in shown
    assert len(shown) >= 11
