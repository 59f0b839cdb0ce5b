"""The strings and brackets of JSON, and of what is nearly JSON: enough to find the fields at the top level. Pure.

Each byte is scanned once, and the scan is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from shared.runtime.errors import Refused

MOST: Final = 250_000  # a fifth of a second, in which nothing else of this process runs
OPENING: Final = b"{["
CLOSING: Final = b"}]"
COLON: Final = re.compile(rb"\s*:\s*")  # what follows a string that is a name

# Strings, as far as their first escape, and the brackets between them.
_TOKEN = re.compile(rb'"[^"\\]*("?)|[{}\[\]]')
_ESCAPES = re.compile(rb'(?:\\.[^"\\]*){1,500}', re.DOTALL)  # the engine remembers every round, in a hundred bytes


def tokens(body: bytes, at: int = 0) -> Iterator[tuple[int, int]]:
    """The spans of the strings and brackets of a body from `at` on, `(start, end)` each. A string that does not end is
    the last one, and ends behind the body.

    Refused with 400 where there are too many.
    """
    for _ in range(MOST):
        token = _TOKEN.search(body, at)
        if token is None:
            return
        at = _string_end(body, token.end()) if token[1] == b"" else token.end()
        yield token.start(), at
    raise Refused(400, f"the request body has more than {MOST} strings and brackets")


def _string_end(body: bytes, at: int) -> int:
    """Where a string ends that was read up to its first escape, at `at`."""
    while (escapes := _ESCAPES.match(body, at)) is not None:
        at = escapes.end()
    return at + 1 if body[at : at + 1] == b'"' else len(body) + 1
