"""Calibrations, learned from providers' reports and shared by all meters through one hash in Redis.

It is statistics, not billing: two meters that learn at once may overwrite each other's last few exchanges.
"""

from __future__ import annotations

from services.meter.estimate import calibration
from services.meter.estimate.calibration import Calibration
from services.meter.estimate.tokenizers import tokenizer_of
from shared.contract import names
from shared.runtime.store import Store, translated

# Model names come from callers, who could fill an unbounded hash.
_MOST = 10_000

_Place = tuple[str, str]  # provider, model


class Calibrations:
    """What this meter knows of each provider's models."""

    def __init__(self) -> None:
        self._known: dict[_Place, Calibration] = {}
        self._changed: set[_Place] = set()

    def of(self, provider: str, model: str) -> Calibration:
        known = self._known.get((provider, model))
        return known if known is not None else calibration.none_yet(tokenizer_of(model))

    def learn(self, provider: str, model: str, reported: int, expected: float) -> None:
        """One more exchange with a report and an expectation, both output tokens."""
        place = (provider, model)
        if place in self._known or len(self._known) < _MOST:
            self._known[place] = calibration.learn(self.of(provider, model), reported, expected)
            self._changed.add(place)

    async def sync(self, store: Store) -> None:
        """Write what this meter learned and read what others did. After StoreUnavailable the next call does both."""
        mine = {_field(place): self._known[place].dump() for place in self._changed}
        with translated():
            if mine:
                await store.hset(names.CALIBRATIONS, mapping=mine)  # type: ignore[misc]
            theirs = await store.hgetall(names.CALIBRATIONS)  # type: ignore[misc]
        self._changed.clear()
        for field, value in theirs.items():
            provider, _, model = field.decode().partition(names.FIELD_SEPARATOR)
            try:
                self._known[provider, model] = Calibration.load(value.decode())
            except ValueError:
                continue  # written by a later version; this meter keeps its own


def _field(place: _Place) -> str:
    return names.FIELD_SEPARATOR.join(place)
