"""Patterns, for tests: the constructs that one uses, and the steps of backtracking that it takes on a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from re import _constants as sre  # type: ignore[attr-defined]  # the parser is the one that `re` itself uses
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

Nodes = list[tuple[Any, Any]]

# Broken before Python 3.11.5, and unknown before 3.11.
FORBIDDEN = (sre.POSSESSIVE_REPEAT, sre.ATOMIC_GROUP)
_HINT = re.compile(r"[*+?}]\+|\(\?>")  # neither can be written without


def _parts(argument: Any) -> Iterator[Nodes]:
    if isinstance(argument, parser.SubPattern):
        yield list(argument)
    elif isinstance(argument, (list, tuple)):
        for item in argument:
            yield from _parts(item)


def forbidden(pattern: str | bytes) -> set[str]:
    """The constructs of a pattern, or of a piece of one, that not every supported interpreter has whole."""
    if not _HINT.search(pattern if isinstance(pattern, str) else pattern.decode("latin-1")):
        return set()
    try:
        parsed = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError):
        return _written_out(pattern)
    found: set[str] = set()
    waiting: list[Nodes] = [list(parsed)]
    while waiting:
        for operator, argument in waiting.pop():
            if operator in FORBIDDEN:
                found.add(str(operator))
            waiting.extend(_parts(argument))
    return found


# In what does not parse by itself: escapes and sets are passed over, the rest is told by its spelling.
_SPELLING = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|([*+?}]\+)|(\(\?>)", re.DOTALL)


def _written_out(piece: str | bytes) -> set[str]:
    text = piece if isinstance(piece, str) else piece.decode("latin-1")
    names = {1: str(sre.POSSESSIVE_REPEAT), 2: str(sre.ATOMIC_GROUP)}
    return {names[match.lastindex] for match in _SPELLING.finditer(text) if match.lastindex}


class Steps:
    """Matches like the engine does, backtracking and all, and counts the nodes it tries.

    It knows what the patterns of the readers are made of, and refuses everything else.
    """

    def __init__(self, pattern: re.Pattern[bytes], text: bytes) -> None:
        self.count = 0
        self.end: int | None = None
        self._text = text
        self._nodes: Nodes = list(parser.parse(pattern.pattern, pattern.flags))

    def run(self) -> int:
        """Match at the beginning. Returns the number of nodes that were tried."""
        self.end = next(self._ends(self._nodes, 0), None)
        return self.count

    def _ends(self, nodes: Nodes, at: int) -> Iterator[int]:
        """Where the nodes may end, in the order in which the engine tries."""
        if not nodes:
            yield at
            return
        for middle in self._node(*nodes[0], at):
            yield from self._ends(nodes[1:], middle)

    def _node(self, operator: Any, argument: Any, at: int) -> Iterator[int]:
        self.count += 1
        if operator in _SINGLE:
            if at < len(self._text) and _SINGLE[operator](argument, self._text[at]):
                yield at + 1
        elif operator is sre.MAX_REPEAT:
            yield from self._repeat(argument, at)
        elif operator is sre.BRANCH:
            for choice in argument[1]:
                yield from self._ends(list(choice), at)
        elif operator is sre.SUBPATTERN:
            yield from self._ends(list(argument[-1]), at)
        else:
            raise NotImplementedError(str(operator))

    def _repeat(self, argument: Any, at: int) -> Iterator[int]:
        """Repeat as often as possible, then once less each time, on a stack of our own."""
        least, most, body = argument
        open_rounds, ends = [self._ends(list(body), at)], [at]
        while open_rounds:
            end = None if len(open_rounds) > most else next(open_rounds[-1], None)
            if end is not None and end > ends[-1]:
                ends.append(end)
                open_rounds.append(self._ends(list(body), end))
                continue
            if len(ends) > least:
                yield ends[-1]
            ends.pop()
            open_rounds.pop()


def _in_set(items: Any, byte: int) -> bool:
    negated = any(operator is sre.NEGATE for operator, _ in items)
    return negated != any(_SINGLE[operator](value, byte) for operator, value in items if operator is not sre.NEGATE)


_SINGLE: dict[Any, Callable[[Any, int], bool]] = {
    sre.LITERAL: lambda value, byte: bool(value == byte),
    sre.NOT_LITERAL: lambda value, byte: bool(value != byte),
    sre.RANGE: lambda value, byte: bool(value[0] <= byte <= value[1]),
    sre.ANY: lambda _, __: True,
    sre.IN: _in_set,
}
