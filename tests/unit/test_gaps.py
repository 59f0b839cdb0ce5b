"""What is booked of an answer that was not copied whole: a report behind the gap counts, nothing is made up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.meter.measure import Measured, measure
from services.meter.tails import Tail
from shared.contract.dialects import Dialect
from shared.contract.entry import Entry
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Head, Open, Outcome, Packed, Segment
from shared.contract.usage import Source
from tests.support.estimator import WordEstimator

EVENTS, JSON, BINARY = "text/event-stream", "application/json", "application/octet-stream"
LOST = 70_000_000
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"one two "}}]}\n\n'
REPORT = (
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":900,"total_tokens":905}}\n\n'
    b"data: [DONE]\n\n"
)
USAGE = b'"usage":{"prompt_tokens":5,"total_tokens":5}'


def booked(dialect: Dialect, head: bytes, last: bytes, content_type: str = EVENTS, **end: Any) -> Entry:
    """The entry of an answer of which its beginning and its end were copied."""
    opened = Open("k", dialect, "p", "gpt-4o", 1_700_000_000_000, True, "/x")
    ending: dict[str, Any] = {
        "outcome": Outcome.COMPLETED,
        "status": 200,
        "content_type": content_type,
        "content_encoding": "",
        "response_bytes": len(head) + LOST + len(last),
        "request_bytes": 400,
        "first_byte_ms": 1,
        "duration_ms": 2,
        "request_id": "req",
        "body": Packed.pack(last),
        "lost_bytes": LOST,
        "gap": LOST,
    } | end
    segments = [Segment(Packed.pack(head), Head(200, content_type, ""))]
    return measure(Tail(ExchangeId(new_boot(), 0, 0), opened, segments, End(**ending)), WordEstimator()).entry


def figures(entry: Entry) -> tuple[str, int | None, int | None]:
    return entry.source, entry.input_tokens, entry.output_tokens


@pytest.mark.parametrize("cut", [0, 1, 40, len(CHUNK) - 1])
def test_a_report_at_the_end_of_a_stream_counts(cut: int) -> None:
    entry = booked(Dialect.OPENAI_CHAT, CHUNK * 3 + CHUNK[:cut], CHUNK[cut:] + CHUNK + REPORT)
    assert figures(entry) == (Source.REPORTED, 5, 900)
    assert (entry.ended, entry.complete, entry.lost_bytes) == ("whole", True, LOST)


def test_where_the_gap_is_not_known_the_report_counts_as_partial() -> None:
    """Gateways of earlier versions do not say."""
    assert figures(booked(Dialect.OPENAI_CHAT, CHUNK, CHUNK + REPORT, gap=0)) == (Source.PARTIAL, 5, 900)


def test_a_report_before_the_gap_is_a_snapshot() -> None:
    first = CHUNK[:-3] + b',"usage":{"prompt_tokens":5,"completion_tokens":1}}\n\n'
    source, asked, said = figures(booked(Dialect.OPENAI_CHAT, first, CHUNK * 4))
    assert (source, asked) == (Source.PARTIAL, 5)
    assert said is not None
    assert said > 1


def test_without_a_report_what_is_there_is_counted_as_partial() -> None:
    source, _, said = figures(booked(Dialect.OPENAI_CHAT, CHUNK * 4, CHUNK * 4 + b"data: [DONE]\n\n"))
    assert source == Source.PARTIAL
    assert said is not None
    assert said >= 14  # without the event that the gap has cut


def test_anthropics_two_reports_are_laid_over_each_other() -> None:
    start = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":50}}}\n\n'
    final = (
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"output_tokens":70}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    assert figures(booked(Dialect.ANTHROPIC_MESSAGES, start, b'xt":"a"}}\n\n' + final)) == (Source.REPORTED, 50, 70)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_what_is_compressed_cannot_be_read_behind_a_gap(encoding: str) -> None:
    entry = booked(Dialect.OPENAI_CHAT, b"", CHUNK + REPORT, content_encoding=encoding)
    assert figures(entry) == (Source.PARTIAL, None, None)
    assert entry.ended != "unreadable"  # reading it again would find no more


@pytest.mark.parametrize("space", [b"", b"\n"])
def test_a_document_that_ends_with_its_report(space: bytes) -> None:
    head = b'{"object":"list","data":[{"embedding":[1,2'
    last = b',3]}],"model":"text-embedding-3",' + USAGE + b"}" + space
    assert figures(booked(Dialect.OPENAI_EMBEDDINGS, head, last, JSON)) == (Source.REPORTED, 5, 0)
    picture = b'A=="}],"usage":{"input_tokens":3,"output_tokens":4000,"total_tokens":4003},"size":"1x1"}'
    assert figures(booked(Dialect.PASSTHROUGH, b'{"data":[{"b64_json":"iV', picture, JSON)) == (
        Source.REPORTED,
        3,
        4000,
    )


@pytest.mark.parametrize(
    "last",
    [
        b'1]}],"model":"m"}',  # no report
        b"1]}]," + USAGE,  # the document breaks off
        b"1]},{" + USAGE + b"}]}",  # one of many
        b'a \\"usage\\":{\\"prompt_tokens\\":5}}',  # inside a text
    ],
)
def test_what_a_document_does_not_say_at_its_end_is_unknown(last: bytes) -> None:
    source, asked, _ = figures(booked(Dialect.PASSTHROUGH, b'{"data":[{"x":[', last, JSON))
    assert (source, asked) == (Source.PARTIAL, None)


def test_a_batch_of_results_is_never_booked_as_its_last_line() -> None:
    line = b'{"custom_id":"a","response":{"body":{"usage":{"prompt_tokens":5,"completion_tokens":7}}}}\n'
    for content_type in ("application/jsonl", BINARY):
        source, *counts = figures(booked(Dialect.PASSTHROUGH, line * 3 + line[:9], line[9:] + line, content_type))
        assert source == Source.PARTIAL
        assert counts in ([None, None], [20, 28])  # no more than the lines that are here


@pytest.mark.parametrize("content_type", [BINARY, JSON, EVENTS, "video/mp4"])
def test_a_file_that_is_looked_up_buys_nothing(content_type: str) -> None:
    entry = booked(Dialect.METADATA, b"{" + b"\0" * 100, b"\0" * 100, content_type)
    assert figures(entry) == (Source.REPORTED, 0, 0)
    assert entry.ended == "whole"


def test_ollamas_lines() -> None:
    line = b'{"message":{"content":"one "},"done":false}\n'
    last = json.dumps({"done": True, "prompt_eval_count": 5, "eval_count": 900}).encode() + b"\n"
    entry = booked(Dialect.OLLAMA_CHAT, line * 2 + line[:20], line[20:] + line + last, "application/x-ndjson")
    assert figures(entry) == (Source.REPORTED, 5, 900)


def test_geminis_lines() -> None:
    document = {"candidates": [{"content": {"parts": [{"text": "one"}]}}]}
    report = {
        "candidates": [{"finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 9},
    }
    body = ("[" + ",\r\n".join(json.dumps(one, indent=2) for one in [document] * 6 + [report]) + "\n]").encode()
    entry = booked(Dialect.GEMINI, body[:600], body[700:], JSON)
    assert figures(entry) == (Source.REPORTED, 5, 9)


def test_the_result_of_a_batch_that_is_not_copied_whole_is_booked_as_partial_and_never_as_nothing() -> None:
    line = {"model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
    one = json.dumps({"custom_id": "c", "response": {"status_code": 200, "body": line}}).encode() + b"\n"
    opened = Open("k", Dialect.METADATA, "p", "", 1_700_000_000_000, False, "v1/files/file-1/content")

    def fetched(gap: int) -> Measured:
        body = Packed.pack(one[9:] + one * 2)
        end = End(Outcome.COMPLETED, 200, BINARY, "", LOST, 0, 1, 2, "req", body, lost_bytes=LOST, gap=gap)
        segment = Segment(Packed.pack(one * 3 + one[:30]), Head(200, BINARY, ""))
        return measure(Tail(ExchangeId(new_boot(), 0, 0), opened, [segment], end), WordEstimator())

    left_out = fetched(LOST)
    assert left_out.note is not None
    assert left_out.note.ends
    assert figures(left_out.entry) == (Source.PARTIAL, 25, 10)
    assert fetched(0).note is None  # lost on the way: another fetch may have all of it
