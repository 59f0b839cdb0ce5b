"""The official Node SDKs, installed on first use."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE = Path(__file__).parents[1] / "node"


def node_with_sdks() -> str:
    """The path of node, with the SDKs beside its tests. Skips the test where there is neither."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not installed")
    if not (NODE / "node_modules" / "openai").exists():
        done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=NODE, capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("npm cannot install the SDKs (no registry?)")
    return node
