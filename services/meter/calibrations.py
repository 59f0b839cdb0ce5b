"""Calibrations, learned from providers' reports and shared by all meters through one hash in Redis.

It is statistics, not billing: two meters that learn at once may overwrite each other's last few exchanges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from services.meter.estimate import calibration
from services.meter.estimate.calibration import Calibration, Known
from services.meter.estimate.lesson import Lesson
from services.meter.estimate.tokenizers import Hides, tokenizer_of
from shared.contract import names
from shared.runtime.store import Store, translated

# Model names come from callers, who could fill an unbounded hash.
_MOST = 10_000

_Place = tuple[str, str]  # provider, model
# What is known stands under provider, model and one of these. Before, a field was provider and model alone, and mixed
# answers that hide reasoning with those that do not: it is left to the meters that know no better.
_SHOWN, _HIDDEN = "shown", "hidden"


class Calibrations:
    """What this meter knows of each provider's models."""

    def __init__(self) -> None:
        self._known: dict[_Place, Known] = {}
        self._mixed: dict[_Place, Calibration] = {}
        self._changed: set[_Place] = set()

    def of(self, provider: str, model: str) -> Known:
        """What was learned; else what earlier versions did, of families that hide nothing; else the seeds."""
        known = self._known.get((provider, model))
        if known is not None:
            return known
        tokenizer = tokenizer_of(model)
        seeds, mixed = calibration.none_yet(tokenizer), self._mixed.get((provider, model))
        return replace(seeds, shown=mixed) if mixed is not None and tokenizer.hides is Hides.NEVER else seeds

    def learn(self, provider: str, model: str, lesson: Lesson) -> None:
        """One more exchange with a report and an expectation."""
        place, known = (provider, model), self.of(provider, model)
        shown = calibration.learn_shown(known.shown, lesson.shown or 0, lesson.expected)
        learned = Known(shown, calibration.learn_hidden(known.hidden, lesson.hidden))
        if learned != known and (place in self._known or len(self._known) < _MOST):
            self._known[place] = learned
            self._changed.add(place)

    async def sync(self, store: Store) -> None:
        """Write what this meter learned and read what others did. After StoreUnavailable the next call does both."""
        mine = {field: value for place in self._changed for field, value in _fields(place, self._known[place])}
        with translated():
            if mine:
                await store.hset(names.CALIBRATIONS, mapping=mine)  # type: ignore[misc]
            theirs = await store.hgetall(names.CALIBRATIONS)  # type: ignore[misc]
        self._changed.clear()
        for field, value in theirs.items():
            try:
                self._take(field.decode(), Calibration.load(value.decode()))
            except ValueError:
                continue  # written by a later version; this meter keeps its own

    def _take(self, field: str, learned: Calibration) -> None:
        provider, _, rest = field.partition(names.FIELD_SEPARATOR)
        model, _, kind = rest.rpartition(names.FIELD_SEPARATOR)
        if kind not in (_SHOWN, _HIDDEN):
            self._mixed[provider, rest] = learned
        elif kind == _SHOWN:
            self._known[provider, model] = replace(self.of(provider, model), shown=learned)
        else:
            self._known[provider, model] = replace(self.of(provider, model), hidden=learned)


def _fields(place: _Place, known: Known) -> Iterator[tuple[str, str]]:
    for kind, learned in ((_SHOWN, known.shown), (_HIDDEN, known.hidden)):
        if learned.count:
            yield names.FIELD_SEPARATOR.join((*place, kind)), learned.dump()
