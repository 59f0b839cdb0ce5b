"""Gemini Live. Pure.

The usage of a turn comes with its end, and counts the whole conversation as input again: turns are added up. Within a
turn a later usage that is nowhere smaller, and has the same prompt, is the same one grown (decision 101).
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from services.meter.readers import gemini
from services.meter.readers.reading import CALL, REASONING, TEXT, Json, Reading, Report, count, mapping, sequence, text
from services.meter.readers.socket_openai import sound
from services.meter.readers.turns import Turn, Turns
from shared.contract.entry import Mark
from shared.contract.messages import SocketMessage

_PER_SECOND: Final = 25  # tokens of sound, as Google documents them
_IN_RATE: Final = 32_000  # bytes of a second: 16 kHz, 16 bits
_OUT_RATE: Final = 48_000
_CONTENT: Final = re.compile("serverContent|toolCall$")


class GeminiTalk:
    """Understands the messages of one socket."""

    def __init__(self, reading: Reading, turns: Turns) -> None:
        self._reading = reading
        self._turns = turns
        self._number = 0
        self._turn: Turn | None = None
        self._raw: Json | None = None  # the last usage
        self._spoken = True  # something was said since that usage
        self._error: Any = None

    def sent(self, message: SocketMessage, document: Json) -> None:
        """A message of the client's."""
        setup = mapping(document.get("setup"))
        if setup:
            self._reading.asked = text(setup.get("model")).removeprefix("models/")
        if "realtimeInput" in document or "realtime_input" in document:
            given = mapping(document.get("realtimeInput") or document.get("realtime_input"))
            if not text(given.get("text")):
                self._turns.hear(round(sound(message, b'"data"') / _IN_RATE * _PER_SECOND))
                return
        self._turns.hear(message.body if message.whole else min(message.size, 4 * 1024 * 1024) // 4)
        content = mapping(document.get("clientContent") or document.get("client_content"))
        if content.get("turnComplete") or content.get("turn_complete"):
            self._turns.awaited += 1

    def came(self, message: SocketMessage, document: Json, report: Json) -> None:
        """A message of the provider's. `report`: its usage, where the message was not copied whole."""
        known = [name for name in document if _CONTENT.match(name)]
        self._reading.shaped = self._reading.shaped or bool(known) or "setupComplete" in document
        if document.get("error"):
            self._error = document["error"]
        content = mapping(document.get("serverContent"))
        calls = sequence(mapping(document.get("toolCall")).get("functionCalls"))
        output = mapping(content.get("outputTranscription")).get("text")
        if "modelTurn" in content or calls or output:
            self._say(message, mapping(content.get("modelTurn")), output, calls)
        usage = report or mapping(document.get("usageMetadata"))
        if usage:
            self._take_usage(usage)
        if content.get("turnComplete") or content.get("interrupted") or calls:
            self._end_turn(content, called=bool(calls))

    def close(self) -> None:
        self._reading.error = self._error

    def _current(self) -> Turn:
        if self._turn is None:
            self._number += 1
            self._turn = self._turns.of(f"turn-{self._number}")
        return self._turn

    def _say(self, message: SocketMessage, said: Json, transcript: Any, calls: list[Any]) -> None:
        turn, self._spoken, self._error = self._current(), True, None
        parts = [mapping(part) for part in sequence(said.get("parts"))]
        if not message.whole or any("inlineData" in part for part in parts):
            turn.tokens += round(sound(message, b'"data"') / _OUT_RATE * _PER_SECOND)
        for part in parts if message.whole else ():
            self._turns.say(turn, REASONING if part.get("thought") else TEXT, 0, part.get("text"))
        if not turn.tokens:  # of speech, the transcript says again what was counted
            self._turns.say(turn, TEXT, 1, transcript)
        for call in map(mapping, calls):
            arguments = msgspec.json.encode(call.get("args") or {}).decode()
            self._turns.say(turn, CALL, text(call.get("id")), text(call.get("name")) + arguments)

    def _take_usage(self, usage: Json) -> None:
        if not self._spoken and self._raw == usage:
            return  # said twice
        turn = self._turn or self._late()
        report = report_of(usage)
        if turn.report is not None and not _grown(turn.report, report):
            self._turn = None
            turn = self._current()
            turn.done = True
        self._turns.report(turn, report, usage)
        self._raw, self._spoken = usage, False

    def _late(self) -> Turn:
        """The turn that has just ended without a usage, or a new one."""
        last = self._turns.last
        if last is not None and last.report is None:
            return last
        turn = self._current()
        self._turn = None
        turn.done = True
        return turn

    def _end_turn(self, content: Json, *, called: bool) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.done = True
            self._reading.finish.append("interrupted" if content.get("interrupted") else "call" if called else "turn")


def report_of(usage: Json) -> Report:
    """A usage of Live's, which has names of its own. Thoughts are beside the response, and its total leaves them out at
    times: they are added, and the contradiction is marked."""
    named = dict(usage)
    for own, usual in (
        ("responseTokenCount", "candidatesTokenCount"),
        ("responseTokensDetails", "candidatesTokensDetails"),
    ):
        if own in named and usual not in named:
            named[usual] = named[own]
    prompt, said, thoughts = (
        count(named, name) or 0 for name in ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    )
    if not thoughts or count(named, "totalTokenCount") != prompt + said:
        return gemini.report_of(named)
    del named["totalTokenCount"]
    found = gemini.report_of(named)
    return found._replace(marks=frozenset({*found.marks, Mark.INCONSISTENT}))


def _grown(before: Report, now: Report) -> bool:
    """Whether a usage is an earlier one of the same turn, grown."""
    one, other = before.usage, now.usage
    return one.input_tokens == other.input_tokens and (other.output_tokens or 0) >= (one.output_tokens or 0)
