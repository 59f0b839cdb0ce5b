"""What a reader learns from one answer, and the helpers every dialect uses to take a provider's JSON apart safely."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from services.meter.readers.costs import cost_of
from shared.contract.entry import Mark
from shared.contract.errors import ARouterError
from shared.contract.usage import Usage
from shared.contract.work import WorkKind

Json = Mapping[str, Any]
Slot = tuple[str, int | str]

# Kinds of output.
TEXT, REASONING, CALL = "text", "reasoning", "call"

# No model reads or writes this many tokens at once; a larger count is damage, and must not reach a bill.
MAX_TOKENS = 1 << 32


class BadUsage(ARouterError):
    """A reported count that cannot be true: negative, fractional, absurd."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What to look for in the bytes of a document before decoding it. One with no mark says nothing but text.

    A mark is bytes. A key is the end of a field's name with its quote, and is passed over where its value says nothing;
    the quote before it is left out, since every third byte of a document might begin with one.
    """

    every: tuple[bytes, ...] = ()  # each document that holds one of these is decoded
    every_key: tuple[bytes, ...] = ()  # and each that has a value for one of these
    last: tuple[bytes, ...] = ()  # of those that hold one of these, only the last has a say: a running usage
    last_key: tuple[bytes, ...] = ()
    final: tuple[bytes, ...] = ()  # what nothing of length follows: looked for near the end of what has come


_NONE: Mapping[str, Any] = MappingProxyType({})


class Report(NamedTuple):
    """A usage object in the normal form, and what else it states."""

    usage: Usage
    billed: Usage | None = None  # what the provider bills, where it says that this is something else
    units: Mapping[str, float] = _NONE  # what is billed and is no token, by the provider's name
    modalities: Mapping[str, int] = _NONE  # shares of the counters: input_audio, output_image, …
    marks: frozenset[Mark] | set[Mark] = frozenset()


@dataclass(frozen=True, slots=True)
class Work:
    """What an answer says of work that ends elsewhere."""

    kind: WorkKind
    names: tuple[str, ...]  # the provider's ids: of the work, then of the file with its result; () where none is said
    ended: bool  # its result is in this answer, or there will be none
    certain: bool = True  # False: it may be an ordinary answer, which is shown again and was booked already
    several: bool = False  # its result is of several models, or of some that are not named


class Unreported(NamedTuple):
    """A response of a socket that has no report, and what an estimate needs of it."""

    base: int  # tokens of the conversation before it, as far as they were reported
    pieces: Sequence[bytes | str | int]  # what came since then: the client's messages, the model's text, tokens
    heard: int  # how many of these came before it
    said: Mapping[Slot, Sequence[str]]
    tokens: int  # of output that is no text
    done: bool  # it has ended, and said nothing of its cost


@dataclass(slots=True)
class Reading:
    """The state of one answer as far as it was read."""

    raw_usage: dict[str, Any] | None = None  # the provider's last usage object, word for word
    usage: Usage | None = None  # the same in the normal form
    billed: Usage | None = None  # as in the report
    units: dict[str, float] = field(default_factory=dict)
    modalities: Mapping[str, int] = field(default_factory=dict)
    marks: set[Mark] = field(default_factory=set)
    cost_nanousd: int | None = None  # what the provider says that it has cost
    provisional: bool = False  # that usage is from the beginning of the answer: its output is a start value
    model: str = ""  # as the provider names it
    response_id: str = ""
    finish: list[Any] = field(default_factory=list)  # reasons in the order they came, in the provider's words
    service_tier: str = ""
    bad_usage: str = ""  # why the last usage object cannot be true; there is no usage then
    error: Any = None  # the provider's error, where it sent one
    complete: bool = False  # the dialect's own end was seen
    shaped: bool = False  # a document had a shape that a reader knows
    whole: bool = False  # the body was one JSON document, and its end is here
    reported_last: bool = True  # the report stands behind the last gap of the body, if there is one
    sums: bool = False  # each document has its own report, and all of them are added up: the lines of a batch's result
    work: Work | None = None  # work that ends elsewhere
    asked: str = ""  # the model that messages of the client name
    several: bool = False  # it is several models
    unreported: Sequence[Unreported] = ()  # responses of a socket without a report
    documents: int = 0  # JSON documents and other signs of a protocol that could be read
    unread: int = 0  # bytes of payloads in which no document was found
    broke_off: bool = False  # the last document was cut
    # Visible output by where it belongs (kind and index), since choices and tool calls may be interleaved; filled only
    # when observing.
    output: dict[Slot, list[str]] = field(default_factory=dict)
    output_beyond_report: bool = False  # output came after the last report, which cannot know of it
    passed_over: int = 0  # bytes that were not decoded since the last report: output may stand in them

    @property
    def ended(self) -> bool:
        """Whether the provider has said that this is all."""
        return self.complete or self.whole

    @property
    def unreadable(self) -> bool:
        """Whether there was something to read, and none of it could be."""
        return self.unread > 0 and not self.documents

    @property
    def empty_report(self) -> bool:
        """Whether all that is reported is zero."""
        return self.usage is not None and not self.usage.any

    def report(self, raw: Json, report: Report) -> None:
        """Take a usage object. One without a count is no report, and zeros do not replace what was counted before."""
        if report.units:
            self.units.update(report.units)
        cost, usage = cost_of(raw), report.usage
        if cost or self.cost_nanousd is None:
            self.cost_nanousd = cost
        if not usage.any and (not usage.any_known or (self.usage is not None and self.usage.any)):
            return
        self.raw_usage = dict(raw)
        self.usage, self.billed = usage, report.billed
        self.modalities = report.modalities
        if report.marks or self.marks:
            self.marks = self.marks.difference(_OF_REPORTS) | report.marks

    def take_back(self, before: Reading) -> None:
        """Return to what was reported before; what was said since then stays said."""
        self.raw_usage, self.usage, self.billed = before.raw_usage, before.usage, before.billed
        self.modalities, self.provisional, self.work = before.modalities, before.provisional, before.work
        self.cost_nanousd = before.cost_nanousd
        self.finish, self.complete, self.bad_usage = before.finish, before.complete, before.bad_usage
        self.model, self.response_id, self.service_tier = before.model, before.response_id, before.service_tier

    def say(self, kind: str, index: Any, *pieces: Any) -> None:
        """Add pieces of output to one slot; what is no text is no output."""
        for piece in pieces:
            if piece and isinstance(piece, str):
                slot = (kind, index if isinstance(index, (int, str)) else 0)
                self.output.setdefault(slot, []).append(piece)
                self.output_beyond_report = True

    def texts(self) -> list[str]:
        """The visible output, each slot in one piece."""
        return ["".join(pieces) for pieces in self.output.values()]


_DIGITS: Final = re.compile("[0-9]{1,12}")

# What is said of one report; the next one speaks for itself.
_OF_REPORTS = frozenset({Mark.INCONSISTENT, Mark.HALF_REPORT, Mark.BILLED_UNITS})


def count(usage: Json, name: str) -> int | None:
    """A token count of a usage object; None where it is not reported. BadUsage where it cannot be true."""
    value = usage.get(name)
    if value is None:
        return None
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)  # protobuf's JSON writes 64-bit numbers as strings
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise BadUsage(f"{name} is {value!r:.40}")
    if not 0 <= value < MAX_TOKENS:
        raise BadUsage(f"{name} is {value!r:.40}")
    return int(value)


def first_count(*values: int | None) -> int | None:
    """The first that is reported."""
    return next((value for value in values if value is not None), None)


def most(*values: int | None) -> int | None:
    """The largest of several names of one count: a zero under one name never hides a count under another."""
    return max([value for value in values if value is not None], default=None)


def total(*parts: int | None) -> int | None:
    """The sum of what is reported; None where nothing is."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def amounts(holder: Json, *names: str) -> dict[str, float]:
    """Billed units other than tokens: positive numbers under these names."""
    found = [(name, holder[name]) for name in names if name in holder]
    return {
        name: value
        for name, value in found
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < MAX_TOKENS
    }


def mapping(value: Any) -> Json:
    """`value` where it is an object, else an empty one: providers send null, and hostile ones anything."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """`value` where it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """`value` where it is a string, else an empty one."""
    return value if isinstance(value, str) else ""
