"""The environment of Python packages that are not ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

AGENTS = Path(__file__).parent / "agents"


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter of the frameworks' environment, made on first use."""
    made = AGENTS / ".venv" / "bin" / "python"
    if not (AGENTS / ".venv" / ".ready").exists():
        uv = str(Path(sys.executable).with_name("uv"))
        lock = str(AGENTS / "requirements.lock")
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(AGENTS / ".venv")],
            [uv, "pip", "install", "--quiet", "--python", str(made), "--require-hashes", "-r", lock],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"the frameworks cannot be installed: {done.stderr.strip()[-200:]}")
        (AGENTS / ".venv" / ".ready").touch()
    return str(made)
