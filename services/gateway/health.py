"""Answers for the probes: whether the gateway lives, and whether it takes new requests, with the reasons why not."""

from __future__ import annotations

import time

from services.gateway.capture.journal import Journal
from services.gateway.capture.tap import Tap
from services.gateway.redis_check import RedisCheck

_READY_FILL = 0.8
_HUNG_SECONDS = 30.0  # the tap ticks twenty times a second


class Health:
    """The health of one gateway, read from any thread. `draining`: the process has been told to end."""

    def __init__(self, journal: Journal, tap: Tap, check: RedisCheck, *, needs_journal: bool) -> None:
        """`needs_journal`: new requests are refused where the journal fails."""
        self.draining = False
        self._needs_journal = needs_journal
        self._journal = journal
        self._tap = tap
        self.check = check

    def healthy(self) -> list[str]:
        """Why the process is not alive: the event loop hangs. Empty where it is."""
        silent = time.monotonic() - self._tap.ticked
        return [f"the event loop has not turned for {silent:.0f} s"] if silent > _HUNG_SECONDS else []

    def ready(self) -> list[str]:
        """Why new requests should go elsewhere. Empty where the gateway is ready."""
        reasons = ["the process is shutting down"] if self.draining else []
        if not self.check.passed:  # a roll-out with a wrong REDIS_URL must not replace gateways that work
            reasons.append("Redis has not answered since the start")
        if not self._needs_journal:
            return reasons
        if self._journal.fill >= _READY_FILL:
            reasons.append(f"the journal is {self._journal.fill:.0%} full")
        elif self._journal.failed:
            reasons.append("the journal cannot be written")
        return reasons
