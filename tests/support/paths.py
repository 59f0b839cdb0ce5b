"""A pytest plugin: how many cases of the relay's contract ran on each of its paths, in all workers together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

RAN: Counter[str] = Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    worker: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if worker is not None:
        worker["ran"] = dict(RAN)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    RAN.update(getattr(node, "workeroutput", {}).get("ran", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if RAN:
        ran = ", ".join(f"{count} {path}" for path, count in sorted(RAN.items()))
        terminalreporter.write_line(f"cases of the relay's contract: {ran}")
