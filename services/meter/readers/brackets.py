"""Brackets of JSON outside its strings, in bytes that come cut anywhere. Pure; each byte is looked at a few times.

The patterns have neither possessive quantifiers nor atomic groups (decision 28). What keeps them from trying the
same bytes in many ways instead: no two repetitions meet at the same byte, and a window bounds every match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# The engine remembers every round of a repetition, about a hundred bytes for as few as two of the text.
WINDOW = 64 * 1024

# Up to and with the next bracket, group 1 where it opens and 2 where it closes. It never fails: at an incomplete string
# it ends before its quote, without a group.
TO_BRACKET = re.compile(
    rb"""[^"{}\[\]]*(?:(?:"[^"\\]*"|"[^"\\]*\\.(?:[^"\\]*\\.)*[^"\\]*")[^"{}\[\]]*)*(?:([{\[])|([}\]]))?""",
    re.DOTALL,
)
_OPENS = 1
# Inside a string, up to its quote or to a backslash whose second byte has not come.
TO_QUOTE = re.compile(rb'(?:[^"\\]*\\.)*[^"\\]*', re.DOTALL)


class Brackets:
    """Finds brackets, and remembers from one piece of bytes to the next whether a string is open."""

    def __init__(self) -> None:
        self._in_string = False
        self._escaping = False  # the last piece ended with half an escape

    def feed(self, data: bytes) -> Iterator[tuple[int, bool]]:
        """Each bracket of the next piece: how many bytes of `data` end with it, and whether it opens."""
        at = 0
        while at < len(data):
            if self._in_string:
                at = self._leave_string(data, at)
                continue
            for match in TO_BRACKET.finditer(data, at, at + WINDOW):
                at = match.end()
                if match.lastindex is None:
                    break
                yield at, match.lastindex == _OPENS
            if data[at : at + 1] == b'"':
                self._in_string = True
                at += 1

    def _leave_string(self, data: bytes, at: int) -> int:
        """Behind the string's quote, or as far as this window goes."""
        if self._escaping:
            self._escaping = False
            return at + 1
        end = self._string_end(data, at)
        if data[end : end + 1] == b'"':
            self._in_string = False
            return end + 1
        self._escaping = data[end : end + 2] == b"\\"
        return end + self._escaping

    def _string_end(self, data: bytes, at: int) -> int:
        """Where the quote stands, or how far this window goes."""
        stop = min(at + WINDOW, len(data))
        quote = data.find(b'"', at, stop)
        end = stop if quote < 0 else quote
        if data.find(b"\\", at, end) < 0:  # many times faster, and most long strings are base64
            return end
        match = TO_QUOTE.match(data, at, stop)
        assert match is not None  # it matches nothing, too
        return match.end()
