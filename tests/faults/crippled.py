"""Runs `arouter` with one of its defences switched off: the faults must notice.

`python -m tests.faults.crippled DEFENCE COMMAND …`
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from services.cli.main import main
from services.gateway.capture.journal import Journal
from services.gateway.capture.recovery import JournalRecovery
from services.meter.consumer import ShardConsumer
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

    def forget(self: Journal) -> bool:
        self._pending = []
        return True

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


# Each with a fault that must fail without it.
DEFENCES: dict[str, tuple[Callable[[], None], str]] = {
    "dedupe": (dedupe, "duplicates"),
    "compare": (compare, "gateway_frozen"),
    "replay": (replay, "redis_failed_over"),
    "journal": (journal, "gateway_gone_without_redis"),
    "reclaim": (reclaim, "meter_killed"),
    "sweep": (sweep, "gateway_gone"),
}

if __name__ == "__main__":
    DEFENCES[sys.argv.pop(1)][0]()
    main()
