"""The version of the contract that this program follows. Pure.

Minor: records, entries or keys have gained something; a roll-out may mix minors. Major: something has changed its
meaning, or is gone; programs of two majors must not share a Redis.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.contract.errors import BadRecord


class Version(NamedTuple):
    """A version of the contract, not of the program. A Redis that names none was written by 1.0."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def parse(cls, text: str) -> Version:
        """The inverse of `str()`; BadRecord for anything else."""
        try:
            major, minor = map(int, text.split("."))
        except ValueError:
            raise BadRecord(f"not a version of the contract: {text[:20]!r}") from None
        return cls(major, minor)


CURRENT = Version(1, 1)
