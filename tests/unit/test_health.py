"""A gateway's answers to probes."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.gateway.capture.journal import Journal
from services.gateway.health import Health
from shared.contract.ids import new_boot


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path, new_boot(), limit=1000, keep=60)
    yield made
    made.close(complete=True)


def health(journal: Journal, *, needs_journal: bool = True, silent: float = 0.0, passed: bool = True) -> Health:
    tap: Any = SimpleNamespace(ticked=time.monotonic() - silent)
    check: Any = SimpleNamespace(passed=passed)
    return Health(journal, tap, check, needs_journal=needs_journal)


def test_a_loop_that_hangs_is_not_healthy(journal: Journal) -> None:
    assert health(journal).healthy() == []
    assert health(journal, silent=60).healthy() == ["the event loop has not turned for 60 s"]


def test_a_journal_that_fills_is_a_reason_where_it_is_needed(journal: Journal) -> None:
    assert health(journal).ready() == []
    journal.open("A.0.0", b"x" * 900)
    assert "full" in health(journal).ready()[0]
    assert health(journal, needs_journal=False).ready() == []


def test_a_redis_that_has_never_answered_is_a_reason(journal: Journal) -> None:
    assert health(journal, passed=False).ready() == ["Redis has not answered since the start"]
    assert health(journal, passed=False, needs_journal=False).ready() == ["Redis has not answered since the start"]


def test_who_is_told_to_end_is_not_ready(journal: Journal) -> None:
    told = health(journal)
    told.draining = True
    assert told.ready() == ["the process is shutting down"]


@contextmanager
def a_full_disk() -> Iterator[None]:
    """Writing to files fails in this process while the block runs."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_recovers_is_noticed_without_a_request(journal: Journal) -> None:
    with a_full_disk():
        journal.record("A.0.0", 1, b"x")
        journal.flush()
        assert health(journal).ready() == ["the journal cannot be written"]
        journal.flush()
        assert health(journal).ready() == ["the journal cannot be written"]
    journal.flush()
    assert health(journal).ready() == []
