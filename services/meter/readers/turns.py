"""The turns of a socket: each has one report, and they are added up. Pure.

A turn that reports nothing has an estimate beside it; so what a client has sent is kept in the order in which it became
input, and what the model has said until its report makes it needless.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

from services.meter.readers.costs import cost_of
from services.meter.readers.reading import Json, Reading, Report, Slot, Unreported, total
from shared.contract.entry import Mark
from shared.contract.usage import Usage

_MOST_PIECES: Final = 200_000  # of one stretch without a report; what comes after them is in no estimate


@dataclass(slots=True)
class Stretch:
    """What has become input since the last report. `base`: tokens of the conversation that it counted."""

    base: int = 0
    pieces: list[bytes | str | int] = field(default_factory=list)  # the client's messages, the model's text, tokens


@dataclass(slots=True)
class Turn:
    """A response of the model."""

    stretch: Stretch
    size: int  # pieces of it that had come before the turn
    report: Report | None = None
    raw: Json | None = None
    done: bool = False
    tokens: int = 0  # of its output, where that is no text: sound, and what was not copied
    said: dict[Slot, list[str]] = field(default_factory=dict)


class Turns:
    """All turns of one socket, by their ids."""

    def __init__(self) -> None:
        self.awaited = 0  # turns that the client has asked for, and that have not begun
        self.last: Turn | None = None
        self._turns: dict[str, Turn] = {}
        self._beside: dict[str, Report] = {}
        self._stretch = Stretch()

    def __len__(self) -> int:
        return len(self._turns)

    def of(self, id: str) -> Turn:
        """The turn of this id, which begins where it is new."""
        found = self._turns.get(id)
        if found is None:
            found = self._turns[id] = Turn(self._stretch, len(self._stretch.pieces))
            self.awaited = max(0, self.awaited - 1)
            self.last = found
        return found

    def hear(self, piece: bytes | int) -> None:
        """Something that the client has sent becomes input."""
        self._keep(piece)

    def say(self, turn: Turn, kind: str, index: object, text: object) -> None:
        """The model has said something."""
        if isinstance(text, str) and text:
            slot = (kind, index if isinstance(index, (int, str)) else 0)
            turn.said.setdefault(slot, []).append(text)
            self._keep(text)

    def report(self, turn: Turn, report: Report, raw: Json) -> None:
        """What a turn has cost; the last report of a turn counts. `raw`: as the provider wrote it."""
        if not report.usage.any_known:
            return
        turn.report, turn.raw = report, raw
        self._stretch = Stretch(base=(report.usage.input_tokens or 0) + (report.usage.output_tokens or 0))

    def beside(self, id: str, report: Report) -> None:
        """What was drawn beside the turns, once for each id."""
        self._beside[id] = report

    def close(self, reading: Reading) -> None:
        """The sum of all reports, and what has none."""
        missing = []
        for turn in self._turns.values():
            report = turn.report
            heard = bool(turn.said) or turn.tokens > 0
            if report is None or (not report.usage.any and heard):
                missing.append(self._unreported(turn))
                if report is not None:
                    reading.marks.add(Mark.PLACEHOLDER)
                continue
            if heard and report.usage.input_tokens and report.usage.output_tokens == 0:
                missing.append(self._unreported(turn)._replace(base=0, heard=0))
                reading.marks |= {Mark.PLACEHOLDER, Mark.HALF_REPORT}
            self._add(reading, report)
            cost = cost_of(turn.raw or {})
            if cost is not None:
                reading.cost_nanousd = (reading.cost_nanousd or 0) + cost
            reading.raw_usage = dict(turn.raw or {}) if len(self._turns) + len(self._beside) == 1 else None
        for report in self._beside.values():
            self._add(reading, report)
        pieces = self._stretch.pieces
        unseen = Unreported(self._stretch.base, pieces, len(pieces), {}, 0, done=False)
        missing += [unseen] * self.awaited
        reading.unreported = tuple(missing)
        reading.complete = all(one.done for one in missing)
        reading.provisional = reading.provisional or not reading.complete or reading.unread > 0
        if missing and reading.usage is not None:
            reading.marks.add(Mark.HALF_REPORT)

    def _unreported(self, turn: Turn) -> Unreported:
        return Unreported(turn.stretch.base, turn.stretch.pieces, turn.size, turn.said, turn.tokens, turn.done)

    def _keep(self, piece: bytes | str | int) -> None:
        if len(self._stretch.pieces) < _MOST_PIECES:
            self._stretch.pieces.append(piece)

    def _add(self, reading: Reading, report: Report) -> None:
        reading.usage = report.usage if reading.usage is None else _sum(reading.usage, report.usage)
        reading.marks |= report.marks
        for name, amount in report.units.items():
            reading.units[name] = reading.units.get(name, 0) + amount
        shares = dict(reading.modalities)
        reading.modalities = shares | {name: shares.get(name, 0) + more for name, more in report.modalities.items()}


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(**{each.name: total(getattr(one, each.name), getattr(other, each.name)) for each in fields(Usage)})
