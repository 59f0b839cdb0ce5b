"""OpenAI's messages over WebSockets: realtime sessions, and responses. Pure.

Every response ends with `response.done`, or as a stream of responses does, and states there what it has cost. Speech
that comes in is transcribed by a model of its own, which reports beside the responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.meter.readers import openai_usage
from services.meter.readers.openai_responses import DELTAS, ENDS, with_tools
from services.meter.readers.reading import CALL, TEXT, Json, Reading, Report, mapping, text
from services.meter.readers.turns import Turn, Turns
from shared.contract.dialects import Dialect
from shared.contract.messages import SocketMessage

_REALTIME: Final[Mapping[str, str]] = {
    "response.text.delta": TEXT,
    "response.output_audio_transcript.delta": TEXT,
    "response.audio_transcript.delta": TEXT,
}
_SPEECH: Final = ("response.output_audio.delta", "response.audio.delta")
_HEARD: Final = ("response.create", "conversation.item.create", "session.update")
_TRANSCRIBED: Final = "conversation.item.input_audio_transcription.completed"
# Tokens in a second of speech, as OpenAI documents them (its guide to the costs of realtime sessions).
_IN_PER_SECOND: Final = 10
_OUT_PER_SECOND: Final = 20
_PCM: Final = 48_000  # bytes of a second: 24 kHz, 16 bits
_G711: Final = 8_000


class OpenAiTalk:
    """Understands the messages of one socket."""

    def __init__(self, dialect: Dialect, reading: Reading, turns: Turns) -> None:
        self._reading = reading
        self._turns = turns
        self._model_in_messages = dialect is Dialect.OPENAI_RESPONSES_SOCKET
        self._in_rate = self._out_rate = _PCM
        self._number = 0
        self._error: Any = None

    def sent(self, message: SocketMessage, document: Json) -> None:
        """A message of the client's."""
        kind = text(document.get("type"))
        if kind == "input_audio_buffer.append":
            self._turns.hear(round(sound(message, b'"audio"') / self._in_rate * _IN_PER_SECOND))
            return
        if kind == "session.update":
            self._take_formats(mapping(document.get("session")))
        if kind in _HEARD:
            self._turns.hear(message.body if message.whole else _by_size(message.size))
        if kind == "response.create":
            self._turns.awaited += 1
            named = text(document.get("model"))
            if self._model_in_messages and named:
                self._reading.several = self._reading.several or named != (self._reading.asked or named)
                self._reading.asked = self._reading.asked or named

    def came(self, message: SocketMessage, document: Json, report: Json) -> None:
        """A message of the provider's. `report`: its usage, where the message was not copied whole."""
        reading, kind = self._reading, text(document.get("type"))
        reading.shaped = reading.shaped or kind.startswith(("response.", "session.", "conversation."))
        if kind in ("session.created", "session.updated"):
            session = mapping(document.get("session"))
            reading.model = text(session.get("model")) or reading.model
            self._take_formats(session)
        elif kind == "error" or document.get("error"):
            self._error = document.get("error") or dict(document)
            self._turns.awaited = max(0, self._turns.awaited - 1)
        elif kind == _TRANSCRIBED:
            self._transcribed(document)
        elif kind.startswith("response."):
            self._respond(kind, message, document, report)

    def close(self) -> None:
        """Only an error that no response followed has ended something."""
        self._reading.error = self._error

    def _respond(self, kind: str, message: SocketMessage, document: Json, report: Json) -> None:
        response = mapping(document.get("response"))
        id = text(response.get("id")) or text(document.get("response_id"))
        turn = self._turns.of(id) if id else self._current()
        if kind in DELTAS or kind in _REALTIME:
            for _ in range(0 if message.whole else 1):
                turn.tokens += message.times  # text that was not copied: about a token each
            if message.whole:
                said = DELTAS.get(kind) or _REALTIME[kind]
                self._turns.say(turn, said, document.get("output_index"), document.get("delta"))
        elif kind in _SPEECH:
            turn.tokens += round(sound(message, b'"delta"') / self._out_rate * _OUT_PER_SECOND)
        elif kind == "response.output_item.added":
            self._turns.say(turn, CALL, document.get("output_index"), mapping(document.get("item")).get("name"))
        if response:
            self._take_response(kind, turn, response, report or mapping(response.get("usage")))

    def _take_response(self, kind: str, turn: Turn, response: Json, usage: Json) -> None:
        reading = self._reading
        reading.response_id = text(response.get("id")) or reading.response_id
        reading.model = text(response.get("model")) or reading.model
        reading.service_tier = text(response.get("service_tier")) or reading.service_tier
        if kind not in ENDS:
            self._error = None
            return
        turn.done = True
        failed = mapping(response.get("status_details")).get("error") or response.get("error")
        self._error = failed or None
        reading.finish.append(text(response.get("status")) or kind)
        if usage:
            found = openai_usage.report(usage, model=reading.model)
            self._turns.report(turn, with_tools(found, mapping(response.get("tool_usage"))), usage)

    def _current(self) -> Turn:
        """The response in flight, for events that do not name theirs."""
        last = self._turns.last
        if last is None or last.done:
            self._number += 1
            return self._turns.of(f"#{self._number}")
        return last

    def _transcribed(self, document: Json) -> None:
        """Tokens of another model, or seconds: they are named apart."""
        usage = mapping(document.get("usage"))
        if not usage:
            return
        found = openai_usage.report(usage)
        tokens = found.usage
        shares = {"transcription_input": tokens.input_tokens, "transcription_output": tokens.output_tokens}
        units = {f"transcription_{name}": amount for name, amount in found.units.items()}
        named = {name: value for name, value in shares.items() if value}
        id = f"{document.get('item_id')}:{document.get('content_index')}"
        self._turns.beside(id, Report(tokens, units=units, modalities=named, marks=found.marks))

    def _take_formats(self, session: Json) -> None:
        audio = mapping(session.get("audio"))
        given = (
            mapping(mapping(audio.get("input")).get("format")).get("type") or session.get("input_audio_format"),
            mapping(mapping(audio.get("output")).get("format")).get("type") or session.get("output_audio_format"),
        )
        self._in_rate = _rate(given[0]) or self._in_rate
        self._out_rate = _rate(given[1]) or self._out_rate


def _rate(format: object) -> int | None:
    """Bytes of a second of sound; None where nothing is said of it."""
    name = text(format).lower()
    if not name:
        return None
    return _PCM if "pcm16" in name or name == "audio/pcm" else _G711


def sound(message: SocketMessage, member: bytes) -> int:
    """Bytes of sound in messages, which have it as base64 behind `member`."""
    at = message.body.find(member)
    beside = (at + len(member) + 3 if at >= 0 else 0) * message.times
    return max(0, message.size - beside) * 3 // 4


def _by_size(size: int) -> int:
    """Tokens of a message that was not copied."""
    return min(size, 4 * 1024 * 1024) // 4
