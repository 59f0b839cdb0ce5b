"""Whether a failed attempt is followed by another one: the policy, and its budget. Pure: clocks are handed in.

The budget keeps an outage from multiplying itself: further attempts are a share of the requests of the last minute
(decision 86). Those that follow a refusal have half of it: a caller can ask for what is forbidden as often as it likes
(decision 117).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from services.gateway.attempt_settings import CAUSES, AttemptSettings
from services.gateway.window import Window

_MINUTE = 60.0
_ALWAYS = 10  # further attempts a minute, so that a gateway without traffic makes any
_FIRST_WAIT = 0.5  # seconds; it doubles
# The request went out as a whole, and nobody knows what became of it.
_UNKNOWN_CAUSES = CAUSES["timeout"] | CAUSES["broken"]
_UNKNOWN_STATUSES = frozenset({502, 504, 524})  # of a server before the provider's, which got no answer from it


class Retries:
    """The further attempts of one gateway."""

    __slots__ = ("_causes", "_made", "_refused", "_requests", "_statuses", "requests", "settings", "stopped", "unmade")

    def __init__(self, settings: AttemptSettings, stopped: Callable[[], bool] = lambda: False) -> None:
        """`stopped`: whether there are to be no further attempts, because the gateway ends."""
        words = settings.retry_on
        self.requests = 0  # exchanges that have begun
        self.unmade = 0  # further attempts for which there was no budget
        self.settings = settings
        self.stopped = stopped
        self._causes = frozenset[str]().union(*(CAUSES.get(word, ()) for word in words))
        self._made: deque[float] = deque()  # when further attempts began, of the last minute
        self._refused: deque[float] = deque()  # those of them that followed a refusal
        self._requests = Window(_MINUTE, 1.0)
        self._statuses = {int(word) for word in words if word.isdigit()}
        if "5xx" in words:
            self._statuses |= set(range(500, 600))

    def wanted(self, status: int | None, cause: str) -> bool:
        """Whether the policy asks for another attempt after this answer, or after this cause of none."""
        return cause in self._causes if status is None else status in self._statuses

    def note(self, now: float) -> None:
        """Keep what the last minute is counted from; to be called every second or so."""
        self._requests.note(now, (self.requests,))

    def allowed(self, now: float, *, refused: bool = False) -> bool:
        """Whether the budget has room for another attempt. `refused`: it is to follow a refusal."""
        for made in (self._made, self._refused):
            while made and made[0] <= now - _MINUTE:
                made.popleft()
        (requests,) = self._requests.grown((self.requests,))
        share = self.settings.budget
        room = max(share * requests, _ALWAYS if share else 0)
        return len(self._made) + 1 <= room and not (refused and len(self._refused) + 1 > room / 2)

    def spend(self, now: float, *, refused: bool = False) -> None:
        """Another attempt begins."""
        self._made.append(now)
        if refused:
            self._refused.append(now)

    def pause(self, asked: float | None, attempt: int) -> float | None:
        """Seconds until the same candidate may be tried again, after its attempt of this number, from 0; None where it
        may not. `asked`: what the provider says."""
        seconds = asked if asked is not None else _FIRST_WAIT * 2**attempt
        return seconds if seconds <= self.settings.wait else None


def maybe_paid(status: int | None, cause: str) -> bool:
    """Whether the provider may have worked, and may bill, for an attempt that ended so."""
    return cause in _UNKNOWN_CAUSES if status is None else status in _UNKNOWN_STATUSES


def retry_after(answered: Mapping[bytes, str], now: float) -> float | None:
    """Seconds for which a provider asks to be left alone; None where it does not ask. `now`: seconds since 1970."""
    if (exact := _number(answered.get(b"retry-after-ms"))) is not None:
        return exact / 1000
    said = answered.get(b"retry-after")
    if (seconds := _number(said)) is not None or said is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    """A plain decimal number, not negative."""
    digits = (text or "").strip()
    whole, _, rest = digits.partition(".")
    plain = whole.isascii() and whole.isdigit() and (not rest or (rest.isascii() and rest.isdigit()))
    return float(digits[:32]) if plain else None
