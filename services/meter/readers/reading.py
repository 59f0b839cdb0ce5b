"""What a reader learns from one answer, and the helpers every dialect uses to take a provider's JSON apart safely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.contract.errors import ARouterError
from shared.contract.usage import Usage

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
    """What to look for in the bytes of a document before decoding it. One with no mark says nothing but text."""

    every: tuple[bytes, ...]  # each document that holds one of these is decoded
    last: tuple[bytes, ...] = ()  # of those that hold one of these, only the last has a say: a running usage


@dataclass(slots=True)
class Reading:
    """The state of one answer as far as it was read."""

    raw_usage: dict[str, Any] | None = None  # the provider's last usage object, word for word
    usage: Usage | None = None  # the same in the normal form
    provisional: bool = False  # that usage is from the beginning of the answer: its output is a start value
    model: str = ""  # as the provider names it
    response_id: str = ""
    finish: list[Any] = field(default_factory=list)  # reasons in the order they came, in the provider's words
    service_tier: str = ""
    bad_usage: str = ""  # why the last usage object cannot be true; there is no usage then
    error: Any = None  # the provider's error, where it sent one
    complete: bool = False  # the dialect's own end was seen
    # Visible output by where it belongs (kind and index), since choices and tool calls may be interleaved; filled only
    # when observing.
    output: dict[Slot, list[str]] = field(default_factory=dict)
    output_beyond_report: bool = False  # output came after the last report, which cannot know of it

    def say(self, kind: str, index: Any, *pieces: Any) -> None:
        """Add pieces of output to one slot; what is no text is no output."""
        said = [piece for piece in pieces if piece and isinstance(piece, str)]
        if said:
            slot = (kind, index if isinstance(index, (int, str)) else 0)
            self.output.setdefault(slot, []).extend(said)
            self.output_beyond_report = True

    def texts(self) -> list[str]:
        """The visible output, each slot in one piece."""
        return ["".join(pieces) for pieces in self.output.values()]


def count(usage: Json, name: str) -> int | None:
    """A token count of a usage object; None where it is not reported. BadUsage where it cannot be true."""
    value = usage.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise BadUsage(f"{name} is {value!r:.40}")
    if not 0 <= value < MAX_TOKENS:
        raise BadUsage(f"{name} is {value!r:.40}")
    return int(value)


def first_count(*values: int | None) -> int | None:
    """The first that is reported."""
    return next((value for value in values if value is not None), None)


def total(*parts: int | None) -> int | None:
    """The sum of what is reported; None where nothing is."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def mapping(value: Any) -> Json:
    """`value` where it is an object, else an empty one: providers send null, and hostile ones anything."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """`value` where it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """`value` where it is a string, else an empty one."""
    return value if isinstance(value, str) else ""
