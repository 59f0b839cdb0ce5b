"""Finding what is known of a model by its name, with or without a vendor in front. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

Known = TypeVar("Known")

# Names come from callers: long ones are cut, and only so many are remembered.
_LONGEST = 200
_REMEMBERED = 1024


def first_match(table: Sequence[tuple[str, Known]], other: Known) -> Callable[[str], Known]:
    """A function from a model's name to the first entry whose pattern is in it, or to `other`."""
    compiled = [(re.compile(pattern), known) for pattern, known in table]

    @lru_cache(_REMEMBERED)
    def find(name: str) -> Known:
        return next((known for pattern, known in compiled if pattern.search(name)), other)

    return lambda model: find(model[:_LONGEST].lower())
