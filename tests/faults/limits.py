"""The limits of a fault: it ends in time, however it hangs, and leaves no process behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from uuid import uuid4

from tests.support.leftovers import VARIABLE, Session, end, leftovers, remaining

_TIDY_SECONDS = 120.0  # for processes to be told to end, and to end


class Exceeded(AssertionError):
    """A fault did not end by itself, or left a process behind."""


@contextmanager
def limited(seconds: float, folder: Path, patience: float = 10.0) -> Iterator[None]:
    """Run the block for at most `seconds`. SIGTERM ends it as Ctrl-C does. Exceeded where it takes longer, or where
    processes are left after `patience` seconds; those are killed. `folder`: where its processes work. What ran before
    is let alone."""
    session = Session(uuid4().hex, folder)
    session = replace(session, others=frozenset(process.pid for process in leftovers(session)))
    outer = os.environ.get(VARIABLE)  # noqa: TID251  # the children's environment is the subject
    os.environ[VARIABLE] = session.run  # noqa: TID251

    def late(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, stuck)
        signal.setitimer(signal.ITIMER_REAL, _TIDY_SECONDS)
        raise Exceeded(f"did not end within {seconds:.0f} s")

    def stuck(signum: int, frame: FrameType | None) -> None:
        end(leftovers(session))  # what waits for them goes on

    signal.signal(signal.SIGALRM, late)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, before)
        found = remaining(session, patience)
        end(found)
        if outer is None:
            del os.environ[VARIABLE]  # noqa: TID251
        else:
            os.environ[VARIABLE] = outer  # noqa: TID251
    if found:
        raise Exceeded(f"left processes behind: {'; '.join(map(str, found))}")
