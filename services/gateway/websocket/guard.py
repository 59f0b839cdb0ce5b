"""The messages of a client whose key may call certain models alone: each is read before it goes upstream. Pure.

A handshake names one model at most, and later messages may name others (decision 100). So the bytes of a message are
held until it is complete, and go on as they came.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from services.gateway.websocket.frames import CLOSE, FrameParser, Message
from shared.contract.dialects import Dialect

_POLICY: Final = 1008  # close statuses (RFC 6455, 7.4.1)
_TOO_BIG: Final = 1009
_PROTOCOL: Final = 1002


class Forbidden(Exception):
    """A message that does not go upstream. `status`: of the close frame; `cause`: a machine word."""

    def __init__(self, status: int, cause: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.cause = cause


class Guard:
    """Holds what a client sends until it was read."""

    def __init__(self, allows: Callable[[str], bool], dialect: Dialect, most: int) -> None:
        """`allows`: whether the key may call a model. `most`: bytes of one message."""
        self._allows = allows
        self._dialect = dialect
        self._most = most
        self._frames = FrameParser(most)
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the client's. Returns those that may go upstream now. Forbidden where some may not."""
        messages = self._frames.feed(data)
        if self._frames.fault:
            raise Forbidden(_PROTOCOL, "bad_frames", self._frames.fault)
        for message in messages:
            if message.opcode < CLOSE:
                self._check(message)
        self._held.append(data)
        self._size += len(data)
        if self._size - self._frames.open <= 0:
            if self._size > self._most:
                raise _too_big(self._most)
            return b""
        held = b"".join(self._held)
        free = len(held) - self._frames.open
        self._held, self._size = [held[free:]], self._frames.open
        if self._size > self._most:
            raise _too_big(self._most)
        return held[:free]

    def _check(self, message: Message) -> None:
        if not message.whole:
            raise _too_big(self._most)
        try:
            document = json.loads(message.body, object_pairs_hook=_Members)
        except (ValueError, RecursionError):
            raise Forbidden(_POLICY, "model_not_allowed", "a message of this API key must be JSON") from None
        for model in _models(document):
            if not isinstance(model, str) or not self._allows(model.removeprefix("models/")):
                raise Forbidden(_POLICY, "model_not_allowed", f"model {model!r:.60} is not allowed for this API key")
        if not all(_names_one(place) for place in self._choosing(document)):
            raise Forbidden(_POLICY, "model_not_allowed", "this API key may call certain models alone: name one")

    def _choosing(self, document: Any) -> list[Any]:
        """The objects of a message in which a model is chosen, whether or not they name one."""
        members = document if isinstance(document, _Members) else []
        if self._dialect is Dialect.OPENAI_RESPONSES_SOCKET:
            kinds = [value for name, value in members if name.lower() == "type"]
            creates = any(isinstance(kind, str) and kind.lower() == "response.create" for kind in kinds)
            return [document] if creates or not members else []
        if self._dialect is Dialect.GEMINI_LIVE:
            return [value for name, value in members if name.lower() == "setup"]
        return []


class _Members(list[tuple[str, Any]]):
    """An object as it was written: parsers disagree on a name that comes twice."""


def _names_one(place: Any) -> bool:
    """Whether an object names its model itself: what stands deeper, such as in metadata, chooses nothing."""
    return isinstance(place, _Members) and any(name == "model" and isinstance(value, str) for name, value in place)


def _models(document: Any) -> Iterator[Any]:
    """What every member named `model` says, wherever it stands and whoever ignores case; schemas have objects there."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Members):
            for name, inner in value:
                if name.lower() == "model" and inner is not None and not isinstance(inner, (_Members, list)):
                    yield inner
                waiting.append(inner)
        elif isinstance(value, list):
            waiting += value


def _too_big(most: int) -> Forbidden:
    return Forbidden(_TOO_BIG, "message_too_large", f"a message of this API key may have {most} bytes")
