"""Proves patterns linear by their construction: the steps of a match grow no faster than its text.

Two rules, both stricter than need be:
- *One way*: wherever the engine stands, the next byte says where to go. No two ways of which one is repeated begin with
  the same byte, so that going back finds nothing to try: neither nested nor neighbouring repetitions overlap.
- *No late failure*, of a pattern that is searched for: each beginning of it is tried, so that an attempt must not
  read far and then fail. Either nothing behind a repetition can fail, or the repetition cannot contain a beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from re import _constants as sre  # type: ignore[attr-defined]  # the parser is the one that `re` itself uses
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from tests.support.regular_expressions import Nodes

Chars = frozenset[int]

_OTHER = 256  # stands for every character beyond Latin-1
_ALL = frozenset(range(_OTHER + 1))
_FEW = 16  # rounds of a repetition that count as a constant
_MANY = 1000  # rounds that are remembered without harm
_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT)
_ASSERTS = (sre.ASSERT, sre.ASSERT_NOT)


def faults(pattern: re.Pattern[Any], *, searched: bool) -> list[str]:
    """Why a pattern may take more steps than its text has characters, times a constant; [] where it cannot.

    `searched`: it is used with `search`, `finditer`, `findall`, `sub` or `split`.
    """
    chars = _Chars(pattern.flags, text=isinstance(pattern.pattern, str))
    try:
        nodes = _flat(parser.parse(pattern.pattern, pattern.flags))
        found = list(_OneWay(chars).faults(nodes))
        if searched and not _anchored(nodes, pattern.flags):
            found += _late_failures(nodes, chars, [], ends=True)
    except NotImplementedError as exc:
        return [f"{exc} is not known here"]
    return found


def _flat(nodes: Any) -> Nodes:
    """The same nodes without the brackets of groups."""
    found: Nodes = []
    for operator, argument in nodes:
        if operator is sre.SUBPATTERN:
            if argument[1] or argument[2]:
                raise NotImplementedError("a group with flags of its own")
            found += _flat(argument[-1])
        elif operator in _REPEATS:
            found.append((operator, (argument[0], argument[1], _flat(argument[2]))))
        elif operator is sre.BRANCH:
            found.append((operator, (None, [_flat(choice) for choice in argument[1]])))
        elif operator in _ASSERTS:
            found.append((operator, (argument[0], _flat(argument[1]))))
        else:
            found.append((operator, argument))
    return found


def remembers_rounds(pattern: re.Pattern[Any]) -> bool:
    """Whether a group is repeated without a bound: the engine keeps about a hundred bytes for each round."""
    return _repeats_groups(_flat(parser.parse(pattern.pattern, pattern.flags)))


def _repeats_groups(nodes: Nodes) -> bool:
    for operator, argument in nodes:
        if operator in _REPEATS:
            alone = [_is_single(inner) for inner, _ in argument[2]] == [True]
            if (not alone and argument[1] > _MANY) or _repeats_groups(argument[2]):
                return True
        elif operator is sre.BRANCH and any(_repeats_groups(choice) for choice in argument[1]):
            return True
    return False


class _Chars(NamedTuple):
    """The characters that a node takes."""

    flags: int
    text: bool

    def of(self, operator: Any, argument: Any) -> Chars:
        if operator is sre.LITERAL:
            return self._folded([argument])
        if operator is sre.NOT_LITERAL:
            return _ALL - self._folded([argument])
        if operator is sre.RANGE:
            return self._folded(range(argument[0], min(argument[1], _OTHER) + 1))
        if operator is sre.ANY:
            return _ALL if self.flags & re.DOTALL else _ALL - {ord("\n")}
        if operator is sre.CATEGORY:
            return self._category(argument)
        if operator is sre.IN:
            inside = frozenset[int]().union(*(self.of(*item) for item in argument if item[0] is not sre.NEGATE))
            return _ALL - inside if argument[0][0] is sre.NEGATE else inside
        raise NotImplementedError(str(operator))

    def _folded(self, characters: Iterable[int]) -> Chars:
        plain = {min(one, _OTHER) for one in characters}
        if self.flags & re.IGNORECASE:
            plain |= {ord(cased) for one in plain if one < 128 for cased in (chr(one).lower(), chr(one).upper())}
        return frozenset(plain)

    def _category(self, category: Any) -> Chars:
        if category not in _CATEGORIES:
            raise NotImplementedError(str(category))
        one = re.compile(_CATEGORIES[category], re.ASCII if self.flags & re.ASCII or not self.text else 0)
        found = {code for code in range(_OTHER) if one.match(chr(code))}
        return frozenset(found | {_OTHER} if self.text and not self.flags & re.ASCII else found)


def _is_single(operator: Any) -> bool:
    return operator in (sre.LITERAL, sre.NOT_LITERAL, sre.RANGE, sre.ANY, sre.CATEGORY, sre.IN)


@dataclass
class _Part:
    """A piece of a pattern: its first and last positions, and whether it may be empty."""

    empty: bool = True
    first: set[int] = field(default_factory=set)
    last: set[int] = field(default_factory=set)


class _OneWay:
    """Glushkov's automaton of a pattern. It holds the first rule where it is deterministic in its repetitions."""

    def __init__(self, chars: _Chars) -> None:
        self._chars = chars
        self._takes: list[Chars] = []  # by position
        self._repeated: set[int] = set()
        self._follow: dict[int, set[int]] = {}
        self._twice: list[str] = []

    def faults(self, nodes: Nodes) -> Iterator[str]:
        whole = self._sequence(nodes)
        yield from self._twice
        for ways in [whole.first, *self._follow.values()]:
            for one, other in combinations(sorted(ways), 2):
                both = self._takes[one] & self._takes[other]
                if both and self._repeated & {one, other}:
                    yield f"two ways begin with {chr(min(both))!r}, and one of them is repeated"
                    return

    def _sequence(self, nodes: Nodes) -> _Part:
        whole = _Part()
        for node in nodes:
            part = self._part(*node)
            self._join(whole, part)
            if whole.empty:
                whole.first |= part.first
            whole.last = whole.last | part.last if part.empty else part.last
            whole.empty = whole.empty and part.empty
        return whole

    def _part(self, operator: Any, argument: Any) -> _Part:
        if _is_single(operator):
            self._takes.append(self._chars.of(operator, argument))
            position = len(self._takes) - 1
            self._follow[position] = set()
            return _Part(False, {position}, {position})
        if operator in _REPEATS:
            return self._repeat(*argument)
        if operator is sre.BRANCH:
            parts = [self._sequence(choice) for choice in argument[1]]
            if sum(part.empty for part in parts) > 1:
                self._twice.append("two choices are empty")
            first, last = ({position for part in parts for position in getattr(part, end)} for end in ("first", "last"))
            return _Part(any(part.empty for part in parts), first, last)
        if operator in _ASSERTS:
            inside = self._sequence(argument[1])
            return _Part(True, inside.first, inside.last)
        if operator is sre.AT:
            return _Part()
        raise NotImplementedError(str(operator))

    def _join(self, one: _Part, other: _Part) -> None:
        """Let `other` follow `one`."""
        for position in one.last:
            if self._follow[position] & other.first:
                self._twice.append("two repetitions give the same two characters")
            self._follow[position] |= other.first

    def _repeat(self, least: int, most: Any, body: Any) -> _Part:
        begin = len(self._takes)
        single = [_is_single(operator) for operator, _ in body] == [True]
        if single and least == most <= _FEW:
            return self._sequence(body * least)
        part = self._sequence(body)
        if most != 1:
            self._join(part, part)
            if most > _FEW or not single:
                self._repeated |= set(range(begin, len(self._takes)))
        return _Part(part.empty or least == 0, part.first, part.last)


def _anchored(nodes: Nodes, flags: int) -> bool:
    starts = (sre.AT_BEGINNING_STRING,) if flags & re.MULTILINE else (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING)
    return bool(nodes) and nodes[0][0] is sre.AT and nodes[0][1] in starts


def _late_failures(nodes: Nodes, chars: _Chars, before: list[Chars], *, ends: bool) -> list[str]:
    """Breaches of the second rule. `before`: single characters in front; `ends`: nothing behind `nodes` can fail."""
    found: list[str] = []
    before = list(before)
    for at, (operator, argument) in enumerate(nodes):
        safe = ends and all(_may_be_empty(*node) for node in nodes[at + 1 :])
        if _is_single(operator):
            before.append(chars.of(operator, argument))
        elif operator in _REPEATS:
            found += _late_in_repeat(argument, chars, before, safe=safe)
        elif operator is sre.BRANCH:
            for choice in argument[1]:
                found += _late_failures(choice, chars, before, ends=safe)
        elif operator in _ASSERTS:
            found += _late_failures(argument[1], chars, before, ends=False)
    return found


def _late_in_repeat(argument: Any, chars: _Chars, before: list[Chars], *, safe: bool) -> list[str]:
    least, most, body = argument
    if safe:
        return _late_failures(body, chars, before, ends=True) if least else []
    if most <= _FEW:
        return _late_failures(body, chars, before, ends=False)
    inside = frozenset[int]().union(*_taken(body, chars))
    if any(not one & inside for one in before):
        return []
    return ["an attempt can read far and then fail, and another one can begin within what it has read"]


def _taken(nodes: Nodes, chars: _Chars) -> Iterator[Chars]:
    """What each single character of these nodes takes."""
    for operator, argument in nodes:
        if _is_single(operator):
            yield chars.of(operator, argument)
        elif operator is sre.BRANCH:
            for choice in argument[1]:
                yield from _taken(choice, chars)
        elif operator is not sre.AT:
            yield from _taken(argument[-1], chars)


def _may_be_empty(operator: Any, argument: Any) -> bool:
    if operator in _REPEATS:
        return argument[0] == 0 or all(_may_be_empty(*node) for node in argument[2])
    if operator is sre.BRANCH:
        return any(all(_may_be_empty(*node) for node in choice) for choice in argument[1])
    return False
