"""What passes through a socket is read as the sum of its responses: frames to messages, messages to figures."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from services.gateway.websocket.copying import Copies, bulky
from services.gateway.websocket.frames import FrameParser
from services.meter.measure import measure
from services.meter.readers.reading import Reading
from services.meter.readers.sockets import SocketReader
from services.meter.tails import Tail
from shared.contract.dialects import Dialect
from shared.contract.entry import Entry, Mark
from shared.contract.ids import ExchangeId
from shared.contract.messages import Messages, SocketMessage, encode
from shared.contract.tail import End, Open, Outcome, Packed
from tests.support.estimator import WordEstimator
from tests.support.frames import frame

ID = ExchangeId("01K0000000000000000000G01D", 0, 7)
ROOM = 1 << 20
Step = tuple[str, dict[str, Any]]  # "<" from the provider, ">" from the client


def tail_of(steps: list[Step], dialect: Dialect, *, room: int = ROOM) -> bytes:
    """What a gateway copies of these messages."""
    parts: list[bytes] = []
    copies = Copies(parts.append, room)
    parsers = {"<": FrameParser(1 << 20, bulky), ">": FrameParser(1 << 20, bulky)}
    for side, document in steps:
        payload = json.dumps(document).encode()
        for message in parsers[side].feed(frame(payload)):
            copies.take(message, sent=side == ">")
    copies.close()
    return b"".join(parts)


def entry_of(
    steps: list[Step],
    dialect: Dialect,
    *,
    outcome: Outcome = Outcome.COMPLETED,
    room: int = ROOM,
    model: str = "gpt-realtime",
    lost: int = 0,
) -> Entry:
    body = tail_of(steps, dialect, room=room)
    opened = Open("k" * 64, dialect, "openai", model, 1_700_000_000_000, True, "v1/realtime")
    end = End(outcome, 101, "", "", 10_000, 100, 1, 2, "", Packed.pack(body), lost_bytes=lost)
    return measure(Tail(ID, opened, [], end), WordEstimator()).entry


def done(id: str, read: int, written: int, cached: int = 0, **more: Any) -> Step:
    usage = {
        "total_tokens": read + written,
        "input_tokens": read,
        "output_tokens": written,
        "input_token_details": {"cached_tokens": cached, "text_tokens": read, "audio_tokens": 0},
        "output_token_details": {"text_tokens": min(written, 1), "audio_tokens": max(0, written - 1)},
    }
    response = {"object": "realtime.response", "id": id, "status": "completed", **more, "usage": usage}
    return "<", {"type": "response.done", "response": response}


def begun(id: str) -> Step:
    return "<", {"type": "response.created", "response": {"id": id, "status": "in_progress", "usage": None}}


def said(id: str, text: str) -> Step:
    return "<", {"type": "response.output_text.delta", "response_id": id, "output_index": 0, "delta": text}


def spoken(id: str, milliseconds: int) -> Step:
    sound = base64.b64encode(bytes(48 * milliseconds)).decode()
    return "<", {"type": "response.output_audio.delta", "response_id": id, "delta": sound}


def turn(prompt: int, answer: int, **more: Any) -> dict[str, Any]:
    counts = {"promptTokenCount": prompt, "responseTokenCount": answer, "totalTokenCount": prompt + answer, **more}
    return {"usageMetadata": counts}


CREATED: Step = ("<", {"type": "session.created", "session": {"model": "gpt-realtime-2026"}})
CREATE: Step = (">", {"type": "response.create"})
ITEM: Step = (">", {"type": "conversation.item.create", "item": {"content": [{"text": "four words of input"}]}})
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
SETUP: Step = (">", {"setup": {"model": "models/gemini-live"}})
READY: Step = ("<", {"setupComplete": {}})
WORDS: Step = ("<", {"serverContent": {"modelTurn": {"parts": [{"text": "three words here"}]}}})
OVER = {"serverContent": {"turnComplete": True}}
CALL: Step = ("<", {"toolCall": {"functionCalls": [{"id": "c", "name": "look", "args": {"q": "x"}}]}})

REALTIME = Dialect.OPENAI_REALTIME
SOCKET = Dialect.OPENAI_RESPONSES_SOCKET
LIVE = Dialect.GEMINI_LIVE


def response_event(kind: str, id: str, model: str, usage: dict[str, Any] | None = None) -> Step:
    return "<", {"type": kind, "response": {"id": id, "model": model, "usage": usage}}


RESPONSES: list[Step] = [
    (">", {"type": "response.create", "model": "gpt-5", "input": "one two"}),
    response_event("response.created", "resp_1", "gpt-5-2026"),
    ("<", {"type": "response.output_text.delta", "output_index": 0, "delta": "an answer"}),
    response_event("response.completed", "resp_1", "gpt-5-2026", {"input_tokens": 20, "output_tokens": 5}),
    (">", {"type": "response.create", "model": "gpt-5", "input": "three"}),
    response_event("response.created", "resp_2", "gpt-5-2026"),
    response_event("response.completed", "resp_2", "gpt-5-2026", {"input_tokens": 30, "output_tokens": 7}),
]

# Steps, dialect, and input, output, source, marks.
REPORTED: dict[str, tuple[list[Step], Dialect, tuple[int, int, str]]] = {
    "nothing was asked": ([CREATED], REALTIME, (0, 0, "reported")),
    "one response": (
        [CREATED, ITEM, CREATE, begun("a"), said("a", "x"), done("a", 30, 4)],
        REALTIME,
        (30, 4, "reported"),
    ),
    "two responses": ([begun("a"), done("a", 30, 4), begun("b"), done("b", 40, 5)], REALTIME, (70, 9, "reported")),
    "each once by its id": ([begun("a"), done("a", 30, 4), done("a", 31, 5)], REALTIME, (31, 5, "reported")),
    "begun by voice": ([begun("a"), spoken("a", 500), done("a", 30, 10)], REALTIME, (30, 10, "reported")),
    "zeros of one that was cancelled": ([begun("a"), done("a", 0, 0)], REALTIME, (0, 0, "reported")),
    "an error before it": (
        [CREATE, ("<", {"type": "error", "error": {"message": "busy"}}), CREATE, begun("a"), done("a", 3, 4)],
        REALTIME,
        (3, 4, "reported"),
    ),
    "responses": (RESPONSES, SOCKET, (50, 12, "reported")),
    "turns": (
        [SETUP, READY, WORDS, ("<", OVER | turn(10, 3)), WORDS, ("<", OVER | turn(20, 4))],
        LIVE,
        (30, 7, "reported"),
    ),
    "usage behind the turn": ([SETUP, READY, WORDS, ("<", OVER), ("<", turn(10, 3))], LIVE, (10, 3, "reported")),
    "usage that grows": (
        [SETUP, WORDS, ("<", turn(10, 1)), WORDS, ("<", OVER | turn(10, 6))],
        LIVE,
        (10, 6, "reported"),
    ),
    "usage said twice": ([SETUP, WORDS, ("<", OVER | turn(10, 6)), ("<", turn(10, 6))], LIVE, (10, 6, "reported")),
    "a call and its answer": (
        [SETUP, ("<", CALL[1] | turn(10, 6)), (">", {"toolResponse": {}}), WORDS, ("<", OVER | turn(25, 3))],
        LIVE,
        (35, 9, "reported"),
    ),
}


@pytest.mark.parametrize("name", REPORTED)
def test_responses_are_added_up(name: str) -> None:
    steps, dialect, expected = REPORTED[name]
    entry = entry_of(steps, dialect, model="")
    assert (entry.input_tokens, entry.output_tokens, entry.source) == expected
    assert entry.total_tokens == expected[0] + expected[1]
    assert entry.ended == "whole"
    assert not set(entry.marks) - {Mark.UNPRICED}


# The counts are in words, and calibrations add what they know of a family; so outputs are bounds.
MISSING: dict[str, tuple[list[Step], Dialect, tuple[int, int, str]]] = {
    "cut in the middle": ([CREATED, ITEM, CREATE, begun("a"), said("a", "one two three")], REALTIME, (4, 3, "partial")),
    "cut after a report": (
        [begun("a"), done("a", 30, 4), ITEM, CREATE, begun("b"), said("b", "one two three")],
        REALTIME,
        (30 + 34 + 4, 4 + 3, "partial"),
    ),
    "speech that broke off": ([begun("a"), spoken("a", 500), spoken("a", 500)], REALTIME, (0, 20, "partial")),
    "asked for, and never begun": ([begun("a"), done("a", 30, 4), CREATE], REALTIME, (64, 4, "partial")),
    "done without a report": (
        [ITEM, CREATE, begun("a"), said("a", "one two"), ("<", {"type": "response.done", "response": {"id": "a"}})],
        REALTIME,
        (4, 2, "estimated"),
    ),
    "zeros beside output": (
        [ITEM, CREATE, begun("a"), said("a", "one two"), done("a", 0, 0)],
        REALTIME,
        (4, 2, "estimated"),
    ),
    "a response cut": (RESPONSES[:-1], SOCKET, (20 + 25 + 1, 5, "partial")),
    "a turn cut": ([SETUP, READY, WORDS, ("<", OVER | turn(10, 3)), WORDS], LIVE, (10 + 13, 3 + 3, "partial")),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_not_reported_is_estimated_and_never_free(name: str) -> None:
    steps, dialect, (read, written, source) = MISSING[name]
    entry = entry_of(steps, dialect)
    assert entry.source == source
    assert entry.input_tokens is not None
    assert entry.output_tokens is not None
    assert read <= entry.input_tokens <= read + 60
    assert written <= entry.output_tokens <= written + 12
    assert entry.output_low is not None
    assert entry.output_high is not None
    assert entry.output_low <= entry.output_tokens <= entry.output_high


@pytest.mark.parametrize(
    "outcome", [Outcome.CLIENT_GONE, Outcome.UPSTREAM_FAILED, Outcome.DRAINED, Outcome.GATEWAY_LOST]
)
def test_a_socket_that_breaks_off_is_partial_however_much_was_reported(outcome: Outcome) -> None:
    entry = entry_of([begun("a"), done("a", 30, 4)], REALTIME, outcome=outcome)
    assert (entry.input_tokens, entry.output_tokens, entry.source, entry.ended) == (30, 4, "partial", "cut")


def test_details_are_added_up_and_transcription_stands_apart() -> None:
    tokens = {"type": "tokens", "input_tokens": 17, "output_tokens": 4, "total_tokens": 21}
    steps = [
        ("<", {"type": TRANSCRIBED, "item_id": "i", "content_index": 0, "usage": tokens}),
        ("<", {"type": TRANSCRIBED, "item_id": "i", "content_index": 0, "usage": tokens}),
        ("<", {"type": TRANSCRIBED, "item_id": "j", "content_index": 0, "usage": {"type": "duration", "seconds": 2.5}}),
        begun("a"),
        done("a", 30, 4, cached=10),
        begun("b"),
        done("b", 40, 5, cached=20),
    ]
    entry = entry_of(steps, REALTIME)
    assert (entry.input_tokens, entry.output_tokens, entry.cache_read_tokens) == (87, 13, 30)
    assert entry.modalities == {
        "input_text": 70,
        "output_text": 2,
        "output_audio": 7,
        "transcription_input": 17,
        "transcription_output": 4,
    }
    assert entry.units == {"transcription_seconds": 2.5}


def test_models_are_named_by_the_messages() -> None:
    one = entry_of(RESPONSES, SOCKET, model="")
    assert (one.model, one.response_model, one.response_id) == ("gpt-5", "gpt-5-2026", "resp_2")
    live = entry_of([SETUP, READY, WORDS, ("<", OVER | turn(10, 3))], LIVE, model="")
    assert live.model == "gemini-live"


def test_several_models_have_no_price() -> None:
    other: Step = (">", {"type": "response.create", "model": "gpt-5-nano", "input": "x"})
    reading = read(tail_of([*RESPONSES, other], SOCKET), SOCKET)
    assert reading.several
    assert entry_of([*RESPONSES, other], SOCKET, model="").cost_nanousd is None


def read(body: bytes, dialect: Dialect) -> Reading:
    reader = SocketReader(dialect)
    reader.feed(body)
    return reader.close()


def test_thoughts_beside_a_total_that_leaves_them_out_are_added_and_marked() -> None:
    usage = turn(522, 42, thoughtsTokenCount=136)
    entry = entry_of([SETUP, WORDS, ("<", OVER | usage)], LIVE)
    assert (entry.input_tokens, entry.output_tokens, entry.reasoning_tokens) == (522, 178, 136)
    assert Mark.INCONSISTENT in entry.marks


def test_without_room_reports_are_copied_all_the_same() -> None:
    steps: list[Step] = []
    for number in range(20):
        id = f"r{number}"
        steps += [begun(id), *(said(id, f"word{at} " * 20) for at in range(10)), done(id, 30, 4, output=["x" * 900])]
    entry = entry_of(steps, REALTIME, room=5_000)
    assert (entry.input_tokens, entry.output_tokens, entry.source) == (600, 80, "reported")
    assert len(tail_of(steps, REALTIME, room=5_000)) < len(tail_of(steps, REALTIME)) / 2
    cut = entry_of(steps[:-1], REALTIME, room=5_000)
    assert cut.source == "partial"
    assert (cut.output_tokens or 0) >= 19 * 4 + 10  # the deltas that were not copied are counted by their number


def test_an_hour_of_speech_is_a_few_lines() -> None:
    append: Step = (">", {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(9600)).decode()})
    heard = [append] * 300  # a minute
    steps = [CREATED, *heard, begun("a"), *[spoken("a", 100)] * 100, done("a", 700, 200)]
    assert len(tail_of(steps, REALTIME)) < 16_000
    assert entry_of(steps, REALTIME).source == "reported"
    cut = entry_of(steps[:-1], REALTIME)
    assert 550 <= (cut.input_tokens or 0) <= 660  # a minute is 600 tokens
    assert 190 <= (cut.output_tokens or 0) <= 210  # ten seconds are 200


def test_speech_that_was_heard_stands_before_its_answer() -> None:
    speech = base64.b64encode(bytes(32_000)).decode()  # a second
    heard: Step = (">", {"realtimeInput": {"audio": {"data": speech, "mimeType": "audio/pcm;rate=16000"}}})
    entry = entry_of([SETUP, READY, *[heard] * 4, WORDS], LIVE)
    assert 100 <= (entry.input_tokens or 0) <= 110  # 25 a second, and the setup
    assert entry.source == "partial"


def test_a_report_that_cannot_be_true_is_quarantined() -> None:
    reading = read(tail_of([begun("a"), done("a", -5, 4)], REALTIME), REALTIME)
    assert "is -1" in reading.bad_usage


def test_bytes_in_which_nothing_can_be_read_are_not_free() -> None:
    opened = Open("k" * 64, REALTIME, "openai", "m", 1_700_000_000_000, True, "v1/realtime")
    body = encode(SocketMessage(False, 9000, b"", times=0))
    end = End(Outcome.COMPLETED, 101, "", "", 9000, 0, 1, 2, "", Packed.pack(body))
    entry = measure(Tail(ID, opened, [], end), WordEstimator()).entry
    assert (entry.input_tokens, entry.output_tokens, entry.ended) == (None, None, "unreadable")
    some = encode(SocketMessage(False, 30, b'{"type":"session.created"}    ')) + body
    later = measure(Tail(ID, opened, [], msgspec.structs.replace(end, body=Packed.pack(some))), WordEstimator()).entry
    assert (later.input_tokens, later.source) == (None, "partial")


def test_an_unknown_dialect_in_the_messages_is_unknown_and_not_free() -> None:
    entry = entry_of([("<", {"hello": "there"}), ("<", {"tokens": 5})], REALTIME)
    assert (entry.input_tokens, entry.output_tokens, entry.source) == (None, None, "partial")


def test_a_gap_makes_it_partial() -> None:
    first, second = tail_of([begun("a"), done("a", 30, 4)], REALTIME), tail_of([begun("b"), done("b", 40, 5)], REALTIME)
    reader = SocketReader(REALTIME)
    reader.feed(first)
    reader.gap()
    reader.feed(second)
    reading = reader.close()
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.provisional, reading.reported_last) == (70, True, False)


def test_any_split_is_read_alike() -> None:
    body = tail_of(RESPONSES, SOCKET)
    whole = read(body, SOCKET)
    for step in (1, 7, 100):
        reader = SocketReader(SOCKET)
        for at in range(0, len(body), step):
            reader.feed(body[at : at + step])
        assert reader.close() == whole


def test_no_bytes_raise() -> None:
    reading = read(b"\x00\x00\x00\x05hello" + b"\xff" * 100, REALTIME)
    assert reading.provisional
    assert reading.unread > 0


@pytest.mark.parametrize(
    "message",
    [
        SocketMessage(True, 5, b"hello"),
        SocketMessage(False, 90_000, b"the beginning", b'"usage":{}}'),
        SocketMessage(False, 5_000, b"the first", times=17),
    ],
)
def test_messages_are_read_as_they_were_written(message: SocketMessage) -> None:
    assert list(Messages().feed(encode(message))) == [message]
    assert message.whole == (message.times == 1 and not message.end)


def test_an_answer_that_is_no_switch_is_read_as_an_answer() -> None:
    opened = Open("k" * 64, REALTIME, "openai", "m", 1_700_000_000_000, True, "v1/realtime")
    body = b'{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}'
    end = End(Outcome.COMPLETED, 401, "application/json", "", len(body), 0, 1, 2, "", Packed.pack(body))
    entry = measure(Tail(ID, opened, [], end), WordEstimator()).entry
    assert (entry.input_tokens, entry.source, entry.ended) == (0, "reported", "error")
    assert entry.error == {"message": "Incorrect API key", "code": "invalid_api_key"}


def test_cheap_messages_do_not_take_the_room_of_reports() -> None:
    """Of thousands that are as good as empty the first are copied, and then that there were more."""
    update: Step = (">", {"type": "session.update", "session": {"instructions": "x" * 300}})
    answer: Step = ("<", {"type": "session.updated", "session": {"instructions": "x" * 300}})
    few, many = [update, answer] * 300, [update, answer] * 3000
    sizes = [len(tail_of([CREATED, *steps, done("a", 700, 200)], REALTIME, room=10_000)) for steps in (few, many)]
    assert sizes[1] < sizes[0] * 1.2
    entry = entry_of([CREATED, *many, done("a", 700, 200)], REALTIME, room=10_000)
    assert (entry.input_tokens, entry.output_tokens, entry.source) == (700, 200, "partial")
