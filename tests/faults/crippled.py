"""Runs `arouter` with one of its defences switched off: the faults must notice. Or with something that befalls it.

`python -m tests.faults.crippled DEFENCE+HARM COMMAND …`
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from services.cli.main import main
from services.gateway.capture.copy_budget import CopyLimits
from services.gateway.capture.journal import Journal
from services.gateway.capture.recovery import JournalRecovery
from services.meter import consumer, measure, measuring
from services.meter.consumer import ShardConsumer
from services.meter.measure import Estimator, Measured
from services.meter.readers import encodings
from services.meter.tails import Tail
from shared.contract import scripts


def dedupe() -> None:
    """The settle script no longer asks whether an exchange is final."""
    script = scripts.SETTLE.replace("call('GETBIT', KEYS[2], n) == 1", "false")
    assert script != scripts.SETTLE
    scripts.SETTLE = script


def compare() -> None:
    """The settle script does not compare the provisional value with the one that its caller expects."""
    script = scripts.SETTLE.replace("call('HGET', KEYS[3], ARGV[3]) or ''", "ARGV[5]")
    assert script != scripts.SETTLE
    scripts.SETTLE = script


def replay() -> None:
    """Gateways do not send records again."""

    async def nothing(self: JournalRecovery, records: object) -> int:
        return 0

    JournalRecovery._send_again = nothing  # type: ignore[method-assign]


def journal() -> None:
    """Nothing is written to the journal."""

    def forget(self: Journal) -> None:
        self._pending = []

    Journal.flush = forget  # type: ignore[method-assign]


def reclaim() -> None:
    """Meters do not read again the records that another meter has read."""

    async def nothing(self: ShardConsumer) -> None:
        return

    ShardConsumer.recover = nothing  # type: ignore[method-assign]

    async def nothing_either(self: ShardConsumer, idle_ms: int) -> None:
        return

    ShardConsumer._reclaim = nothing_either  # type: ignore[method-assign]


def sweep() -> None:
    """Orphans are left alone."""

    async def nothing(self: ShardConsumer, orphans: object) -> None:
        return

    ShardConsumer._settle_lost = nothing  # type: ignore[method-assign]


def bounds() -> None:
    """Whatever a body decodes to is decoded at once."""
    encodings.MAX_DECODED = encodings._ANY_RATIO = 1 << 40  # type: ignore[misc]
    encodings._PIECE = encodings._STEP = 1 << 30  # type: ignore[misc]


def suspects() -> None:
    """Records may be delivered as often as it takes."""
    consumer.DELIVERIES = 1 << 60  # type: ignore[attr-defined]


def budget() -> None:
    """Every answer is copied whole."""
    CopyLimits.of = lambda self, dialect: 1 << 60  # type: ignore[method-assign]


def greedy() -> None:
    """Measuring an exchange of the model `poison` takes all the memory there is."""
    plain = measure.measure

    def greedily(tail: Tail, estimator: Estimator) -> Measured:
        hoard = []
        while tail.model == "poison":
            hoard.append(b"x" * (16 << 20))
            time.sleep(0.01)
            if len(hoard) > 64:  # nobody limits it
                os.kill(os.getpid(), signal.SIGKILL)
        return plain(tail, estimator)

    measuring.measure = greedily  # type: ignore[attr-defined]


# Each with a fault that must fail without it.
DEFENCES: dict[str, tuple[Callable[[], None], str]] = {
    "dedupe": (dedupe, "duplicates"),
    "compare": (compare, "gateway_frozen"),
    "replay": (replay, "redis_failed_over"),
    "journal": (journal, "gateway_gone_without_redis"),
    "reclaim": (reclaim, "meter_killed"),
    "sweep": (sweep, "gateway_gone"),
    "bounds": (bounds, "bomb"),
    "suspects": (suspects, "meter_poisoned"),
    "budget": (budget, "giant_download"),
}
HARMS: dict[str, Callable[[], None]] = {"greedy": greedy}

if __name__ == "__main__":
    for change in sys.argv.pop(1).split("+"):
        (HARMS[change] if change in HARMS else DEFENCES[change][0])()
    main()
