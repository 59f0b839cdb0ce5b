"""Which messages of a WebSocket are copied for the meter, and how much of each. Pure (decision 99).

An hour of audio is hundreds of megabytes, and its figures are a few lines: what every response reports. So reports are
copied for as long as the tail has room at all, text as long as its own share lasts, and audio never: runs of it are
told by their number and size. Nothing is left out without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from services.gateway.websocket.frames import CLOSE, HEAD_BYTES, LAST_BYTES, Message
from shared.contract.messages import SocketMessage, encode

WHOLE_BYTES: Final = 1024 * 1024  # the largest message that is copied whole
SENT_BYTES: Final = 2 * 1024 * 1024  # of all that a client sends
_RUN_MESSAGES: Final = 256
_RUN_BYTES: Final = 4 * 1024 * 1024
_REPORT_BYTES: Final = 4096
_TURN_BYTES: Final = 64 * 1024  # at least
_BEGINNING: Final = 256  # bytes of a message that is not copied whole: its kind, and the ids of what it belongs to

# Base64 of sound, images and video, by the first bytes of the messages that hold it.
_BULKY: Final = re.compile(
    rb'audio_buffer\.append"|audio\.delta"|"(?:inline_?[dD]ata|media_?[cC]hunks|audio|video|media)"\s*:\s*[\[{]'
)
# Reports, in every dialect. In the text of a message it would have a backslash before its second quote.
_REPORT: Final = re.compile(rb'"usage(?:Metadata|_metadata)?"\s*:\s*\{')
# How a response begins and ends: without these words a meter could not tell which of them has no report.
_TURNS: Final = re.compile(
    rb'"response\.(?:create|created|done|completed|incomplete|failed|cancelled)"|"(?:turn_?[cC]omplete|interrupted)"'
    rb'|"(?:setup|session\.(?:created|updated|update))"|"error"'
)

# What the client has sent before an answer begins is input of it, and must stand before it.
_BEGINS: Final = re.compile(rb'"response\.created"|"model_?[tT]urn"')
_ENDS: Final = re.compile(
    rb'"response\.(?:done|completed|incomplete|failed|cancelled)"|"(?:turn_?[cC]omplete|interrupted)"'
)

Feed = Callable[[bytes], None]


def bulky(beginning: bytes) -> bool:
    """Whether a message that begins so need not be kept whole."""
    return _BULKY.search(beginning, 0, HEAD_BYTES) is not None


class _Run:
    """Messages in a row, of one side, that are not copied."""

    __slots__ = ("beginning", "size", "times")

    def __init__(self) -> None:
        self.beginning = b""
        self.size = 0
        self.times = 0


class Copies:
    """The copies of one socket. `feed` takes the bytes of the tail, a whole number of messages at a time."""

    __slots__ = ("_answering", "_feed", "_room", "_runs", "_sent", "_turns")

    def __init__(self, feed: Feed, room: int) -> None:
        """`room`: bytes of whole messages, as long as reports have not taken them."""
        self._answering = False  # the model has begun an answer
        self._feed = feed
        self._room = room
        self._sent = min(SENT_BYTES, room // 4)
        self._turns = max(room // 4, _TURN_BYTES)  # of messages without a report that say where answers begin and end
        self._runs = {True: _Run(), False: _Run()}

    def take(self, message: Message, *, sent: bool) -> None:
        """Copy a message, or note that it was there. `sent`: by the client."""
        if message.opcode >= CLOSE:
            return
        if not sent:
            self._follow(message)
        report = None if sent else _report(message)
        if self._has_room(message, sent=sent) and (report or not bulky(message.body)):
            self._put(SocketMessage(sent, message.size, message.body))
        elif report is not None:
            self._put(SocketMessage(sent, message.size, message.body[:HEAD_BYTES], report))
        elif _TURNS.search(message.body, 0, HEAD_BYTES):
            self._turn(SocketMessage(sent, message.size, message.body[:HEAD_BYTES]))
        else:
            self._run(message.size, message.body, sent=sent)

    def lost(self, size: int, *, sent: bool) -> None:
        """So many bytes could not be read as frames."""
        self._put(SocketMessage(sent, size, b"", times=0))

    def close(self) -> None:
        """The socket is closed: note what is not noted yet."""
        self._flush(sent=True)
        self._flush(sent=False)

    def _follow(self, message: Message) -> None:
        """Note where answers begin and end."""
        if self._answering:
            self._answering = _ENDS.search(message.body, 0, HEAD_BYTES) is None
        elif _BEGINS.search(message.body, 0, HEAD_BYTES):
            self._answering = True
            self._flush(sent=True)

    def _has_room(self, message: Message, *, sent: bool) -> bool:
        return message.whole and message.size <= min(WHOLE_BYTES, self._sent if sent else self._room)

    def _turn(self, message: SocketMessage) -> None:
        """Copy where an answer begins or ends. Anybody can have thousands of these, which must not take the room of
        reports: from some number on they are only counted, and the tail says that something is lost."""
        if self._turns <= 0:
            self._run(message.size, message.body, sent=message.sent)
            return
        self._turns -= len(message.body)
        if self._turns > 0:
            self._put(message)
        else:
            self.lost(message.size, sent=message.sent)

    def _put(self, message: SocketMessage) -> None:
        self._flush(sent=message.sent)
        self._write(message)

    def _write(self, message: SocketMessage) -> None:
        encoded = encode(message)
        if message.sent:
            self._sent -= len(encoded)
        self._room -= len(encoded)
        self._feed(encoded)

    def _run(self, size: int, body: bytes, *, sent: bool) -> None:
        run = self._runs[sent]
        run.beginning = run.beginning or body[:_BEGINNING]
        run.size += size
        run.times += 1
        if run.times >= _RUN_MESSAGES or run.size >= _RUN_BYTES:
            self._flush(sent=sent)

    def _flush(self, *, sent: bool) -> None:
        run = self._runs[sent]
        if run.times:
            self._runs[sent] = _Run()
            self._write(SocketMessage(sent, run.size, run.beginning, times=run.times))


def _report(message: Message) -> bytes | None:
    """The bytes of a message from its last report on; None where it has none near its end."""
    end = message.last or message.body
    places = [found.start() for found in _REPORT.finditer(end, max(0, len(end) - LAST_BYTES))]
    return end[places[-1] : places[-1] + _REPORT_BYTES] if places else None
