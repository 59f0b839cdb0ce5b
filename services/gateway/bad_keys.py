"""Whether a refusal is about the key, where the status alone does not tell (decision 118). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

BEGINNING: Final = 16 * 1024  # bytes of an answer that are looked at: these are a few hundred
SECONDS: Final = 0.25  # most that is waited for them behind the head
_BAD_REQUEST: Final = 400
_UNAUTHORIZED: Final = 401

_Texts = list[tuple[list[str], str]]


class BadKey:
    """How a provider's answers tell. A text is given by its beginning and its place (members with dots between them,
    through any list)."""

    __slots__ = ("_texts",)

    def __init__(self, unknown: Mapping[str, str], forbidden: Mapping[str, str]) -> None:
        """`unknown`: of a 400 to a key that it does not know; `forbidden`: of a 401 to what a good key may not do."""
        self._texts: dict[int, _Texts] = {_BAD_REQUEST: _split(unknown), _UNAUTHORIZED: _split(forbidden)}

    def looks(self, status: int) -> bool:
        """Whether the body of an answer has to be looked at."""
        return bool(self._texts.get(status))

    def told(self, status: int, body: bytes) -> bool:
        """Whether an answer is about the key, by its whole body. What merely repeats the request stands elsewhere, and
        does not count."""
        return _says(self._texts.get(status, []), body) is (status == _BAD_REQUEST)


def _split(texts: Mapping[str, str]) -> _Texts:
    return [(place.split("."), text) for place, text in texts.items()]


def _says(texts: _Texts, body: bytes) -> bool:
    try:
        document = msgspec.json.decode(body)
        return any(
            isinstance(value, str) and value.startswith(text)
            for place, text in texts
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
