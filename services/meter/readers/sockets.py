"""Reads what passed through a WebSocket: messages of both sides, as a tail has them. Pure.

It has the interface of `Reader`: it is fed bytes, and never raises on them.
"""

from __future__ import annotations

import json
import re
from typing import Final, Protocol

from services.meter.readers import documents
from services.meter.readers.reading import BadUsage, Json, Reading, mapping
from services.meter.readers.socket_gemini import GeminiTalk
from services.meter.readers.socket_openai import OpenAiTalk
from services.meter.readers.turns import Turns
from shared.contract.dialects import Dialect
from shared.contract.errors import BadRecord
from shared.contract.messages import Messages, SocketMessage

_REPORT: Final = re.compile(r'"usage(?:Metadata|_metadata)?"\s*:\s*(?=\{)')
_DECODER: Final = json.JSONDecoder(strict=False)


class Talk(Protocol):
    """Understands the messages of one dialect."""

    def sent(self, message: SocketMessage, document: Json) -> None: ...

    def came(self, message: SocketMessage, document: Json, report: Json) -> None: ...

    def close(self) -> None: ...


class SocketReader:
    """Reads one socket."""

    def __init__(self, dialect: Dialect) -> None:
        self._reading = Reading()
        self._turns = Turns()
        self._messages = Messages()
        self._talk: Talk
        if dialect is Dialect.GEMINI_LIVE:
            self._talk = GeminiTalk(self._reading, self._turns)
        else:
            self._talk = OpenAiTalk(dialect, self._reading, self._turns)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the tail."""
        try:
            for message in self._messages.feed(data):
                self._take(message)
        except BadRecord:
            self._reading.unread += len(data)
            self._reading.provisional = True

    def gap(self) -> None:
        """Messages are missing here."""
        self._messages.skip()
        self._reading.reported_last = False
        self._reading.provisional = True

    def close(self) -> Reading:
        """The socket is closed: what was read."""
        self._talk.close()
        self._turns.close(self._reading)
        return self._reading

    def _take(self, message: SocketMessage) -> None:
        if not message.times:
            self._reading.unread += message.size
            return
        document = documents.decode(message.body)
        if document is None and not message.whole:
            document = documents.beginning(message.body)
        if not isinstance(document, dict):
            self._reading.unread += 0 if message.sent else message.size
            return
        if message.sent:
            self._talk.sent(message, document)
            return
        self._reading.documents += 1
        try:
            self._talk.came(message, document, _report(message.end))
        except BadUsage as exc:
            self._reading.bad_usage = str(exc)


def _report(end: bytes) -> Json:
    """The report that the end of a message begins with; nothing where there is none."""
    content = end.decode("utf-8", "replace")
    found = _REPORT.match(content)
    if found is None:
        return {}
    try:
        return mapping(_DECODER.raw_decode(content, found.end())[0])
    except (ValueError, RecursionError):
        return {}
