"""Whether an answer 400 says that the provider does not know the key: some have no 401 for it (decision 118). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

BEGINNING = 16 * 1024  # bytes of an answer that are looked at: these are a few hundred
SECONDS = 0.25  # most that is waited for them behind the head


class BadKey:
    """What a provider's answer says then. `members`: the beginning of a text, by the place where it stands (members
    with dots between them, through any list)."""

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, str]) -> None:
        self._members = [(place.split("."), text) for place, text in members.items()]

    def said(self, body: bytes) -> bool:
        """Whether a whole body says it. What merely repeats the request cannot: it stands in other places."""
        try:
            document = msgspec.json.decode(body)
            return any(
                isinstance(value, str) and value.startswith(text)
                for place, text in self._members
                for value in _values(document, place)
            )
        except (msgspec.DecodeError, RecursionError):
            return False


def _values(document: Any, place: list[str]) -> Iterator[Any]:
    if isinstance(document, list):
        for one in document:
            yield from _values(one, place)
    elif not place:
        yield document
    elif isinstance(document, dict) and place[0] in document:
        yield from _values(document[place[0]], place[1:])
