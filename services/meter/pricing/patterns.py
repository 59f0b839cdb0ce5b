"""Patterns of models' names: * stands for anything, # for one digit. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

_KEPT = 4096


class Pattern:
    """A pattern, in the parts between its stars.

    Each part is taken where it comes first, and never looked for again: callers choose the names, and a regular
    expression would try all places of each part, as many as their product.
    """

    def __init__(self, text: str) -> None:
        self._first, *self._others = (
            re.compile(re.escape(part).replace(re.escape("#"), "[0-9]")) for part in text.split("*")
        )
        self._end = len(text.rpartition("*")[2])  # characters behind the last star

    def fits(self, name: str) -> bool:
        """Whether a name is one of these."""
        if not self._others:
            return self._first.fullmatch(name) is not None
        found = self._first.match(name)
        for part in self._others[:-1]:
            found = found and part.search(name, found.end())
        end = len(name) - self._end
        return found is not None and found.end() <= end and self._others[-1].fullmatch(name, end) is not None


@lru_cache(_KEPT)
def compiled(text: str) -> Pattern:
    """The same one for the same text."""
    return Pattern(text)
