"""Processes that a test starts by itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import AnyStr

from services.cli.processes import stop


@contextmanager
def ending(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """The process, ended with the block whatever happens in it: SIGTERM, and SIGKILL where that is not enough."""
    with process:  # closes its pipes
        try:
            yield process
        finally:
            if process.poll() is None:
                stop(process)
