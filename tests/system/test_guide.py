"""Every snippet of the streaming guide, run as it stands there but for the address and the key.

Those for Node need packages from a registry: tests/compat/test_node.py.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.guide import ROOT, Snippet, snippets
from tests.support.system import System


def python(text: str, folder: Path) -> list[str]:
    return [sys.executable, "-W", "ignore", "-c", text]


def bash(text: str, folder: Path) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", text]


def go(text: str, folder: Path) -> list[str]:
    found = shutil.which("go")
    if found is None:
        pytest.skip("go is not installed")
    (folder / "main.go").write_text(text)
    module = f"module snippet\n\ngo 1.21\n\nrequire arouter v0.0.0\n\nreplace arouter => {ROOT / 'sdk' / 'go'}\n"
    (folder / "go.mod").write_text(module)
    return [found, "run", "."]


COMMANDS: dict[str, Callable[[str, Path], list[str]]] = {"python": python, "bash": bash, "go": go}


@pytest.mark.parametrize("snippet", snippets(*COMMANDS), ids=str)
def test_a_snippet_of_the_guide(system: System, tmp_path: Path, snippet: Snippet) -> None:
    command = COMMANDS[snippet.language](snippet.aimed_at(system), tmp_path)
    snippet.check(command, tmp_path)


def test_the_six_clients_of_the_guide_are_there() -> None:
    shown = [(snippet.heading, snippet.language) for snippet in snippets()]
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
    assert {language for _, language in shown} == {*COMMANDS, "js"}
