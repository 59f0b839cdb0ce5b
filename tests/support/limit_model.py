"""A model of scopes of limits in plain Python: budgets, running requests, reserves that are learned, and entries."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.contract import limits
from shared.contract.limits import ModelLimits


class Line(NamedTuple):
    """One entry of the ledger, for one scope."""

    permit: str
    at_ms: int
    nanousd: int
    tokens: int
    teaches: bool


class Said(NamedTuple):
    """What a scope says to a request."""

    verdict: int
    why: int
    reserve: tuple[int, int]


@dataclass
class ScopeModel:
    """One scope. `ledger` is all that was ever settled for it; `applied` how much of it is counted."""

    ledger: list[Line] = field(default_factory=list)
    applied: int = 0
    used: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    reserved: dict[str, tuple[int, int, bool]] = field(default_factory=dict)
    learned: list[float] = field(default_factory=list)  # count, mean and distance of dollars, of tokens

    def admit(self, permit: str, given: ModelLimits, guess: tuple[int, int], most: int | None, at_ms: int) -> Said:
        used = self.used[limits.period(at_ms).field(given.limit_reset)]
        held = [sum(one[place] for one in self.reserved.values()) for place in (0, 1)]
        why = 0
        if given.concurrent_requests is not None and self.running >= given.concurrent_requests:
            why, wait = 6, 1
        else:
            wait = 0
        for place, reason, limit in ((1, 2, given.limit_tokens), (0, 1, given.limit_nanousd)):
            if limit is not None and used[place] + held[place] >= limit:
                spent = used[place] >= limit
                if wait >= 0 and (spent or not wait):
                    why, wait = reason, -1 if spent else 1
        if why and not given.soft:
            return Said(0, why, (0, 0))
        reserve = self._reserve(guess, most)
        self.reserved[permit] = (*reserve, given.concurrent_requests is not None)
        return Said(2 if why else 1, why, reserve)

    @property
    def running(self) -> int:
        return sum(slot for *_, slot in self.reserved.values())

    def _reserve(self, guess: tuple[int, int], most: int | None) -> tuple[int, int]:
        nanousd, tokens = guess
        if self.learned:
            nanousd, tokens = int(self.learned[1] + self.learned[2]), int(self.learned[3] + self.learned[4])
        if most is not None and most < tokens:
            nanousd, tokens = int(nanousd * (most / tokens)), most
        return nanousd, tokens

    def ended(self, permit: str) -> None:
        if permit in self.reserved:
            self.reserved[permit] = (*self.reserved[permit][:2], False)

    def undo(self, permit: str) -> None:
        self.reserved.pop(permit, None)

    def read(self, start: int, end: int) -> None:
        """Entries of the ledger are handed to it, perhaps again."""
        for place in range(start, end):
            line = self.ledger[place]
            self.reserved.pop(line.permit, None)
            if place >= self.applied:
                self.applied = place + 1
                self._add(line)
                if line.teaches:
                    self._learn(line)

    def start(self) -> None:
        """It starts anew from the totals."""
        self.used.clear()
        for line in self.ledger:
            self._add(line)
        self.applied = len(self.ledger)

    def _add(self, line: Line) -> None:
        at = limits.period(line.at_ms)
        for reset in limits.Reset:
            used = self.used[at.field(reset)]
            used[0] += line.nanousd
            used[1] += line.tokens

    def _learn(self, line: Line) -> None:
        n, *rest = self.learned or [0, 0, 0, 0, 0]
        n = min(8, n + 1)
        found = [n]
        for mean, far, value in ((rest[0], rest[1], line.nanousd), (rest[2], rest[3], line.tokens)):
            off = value - mean
            found += [_whole(mean + off / n), _whole(far + ((abs(off) if n > 1 else 0) - far) / n)]
        self.learned = found


def _whole(number: float) -> int:
    return max(0, int(f"{number:.0f}"))
