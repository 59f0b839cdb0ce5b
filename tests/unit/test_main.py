"""The command line finds the module of a command without importing the others."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module

import pytest

from services.cli.main import MODULES, parse


@pytest.mark.parametrize("name", sorted(set(MODULES.values())))
def test_each_module_adds_the_commands_that_are_said_to_be_in_it(name: str) -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    import_module(f"services.cli.{name}").add_commands(commands)
    assert set(commands.choices) == {command for command, module in MODULES.items() if module == name}


@pytest.mark.parametrize(
    "words",
    [["keys", "list"], ["--config", "gateway", "keys", "list"], ["--config=usage", "keys", "list"]],
    ids=" ".join,
)
def test_a_command_is_found_behind_options(words: list[str]) -> None:
    assert parse(words).run.__module__ == "services.cli.keys"


def test_what_is_no_command_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["kyes", "list"])
    said = capsys.readouterr().err
    assert all(f"'{command}'" in said for command in MODULES)


def test_the_help_has_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse(["--help"])
    said = capsys.readouterr().out
    assert [command for command in MODULES if f"    {command} " not in said and f"    {command}\n" not in said] == []


def test_a_command_does_not_wait_for_the_libraries_of_services() -> None:
    code = "import sys; from services.cli.main import parse; parse(['keys', 'list'])"
    heavy = "{'fastapi', 'httpx', 'uvicorn', 'sqlalchemy', 'tiktoken', 'arq'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"{code}; print({heavy})"], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
