"""How every answer ended, why, and what is booked then."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from services.meter.measure import measure
from services.meter.prices import parse
from services.meter.tails import Tail
from shared.contract.dialects import TOKENLESS, Dialect
from shared.contract.entry import Ended, Entry, Mark
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Open, Outcome, Packed
from shared.contract.usage import Source
from tests.support.answers import chat, events, message
from tests.support.estimator import WordEstimator

REQUEST = json.dumps({"model": "asked", "messages": [{"role": "user", "content": "one two three"}]}).encode()


def entry(
    body: bytes, dialect: Dialect = Dialect.OPENAI_CHAT, model: str = "m", prices: Any = None, **end: Any
) -> Entry:
    opened = Open("k", dialect, "p", model, 1_700_000_000_000, True, "/x")
    ending: dict[str, Any] = {
        "outcome": Outcome.COMPLETED,
        "status": 200,
        "content_type": "text/event-stream",
        "content_encoding": "",
        "response_bytes": len(body),
        "request_bytes": len(REQUEST),
        "first_byte_ms": 1,
        "duration_ms": 2,
        "request_id": "req",
        "body": Packed.pack(body),
        "request": Packed.pack(REQUEST),
    } | end
    estimator = WordEstimator()
    estimator.prices = prices or estimator.prices
    return measure(Tail(ExchangeId(new_boot(), 0, 0), opened, [], End(**ending)), estimator).entry


def chunk(**more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": "one two three "}, "finish_reason": None}]} | more


REAL = {"prompt_tokens": 8, "completion_tokens": 9, "total_tokens": 17}
FINISH = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
DONE = b"data: [DONE]\n\n"
RUNNING = {"promptTokenCount": 8, "candidatesTokenCount": 1, "totalTokenCount": 9}


def part(**more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": "one two three "}]}}]} | more


BROKEN = {"error": {"message": "overloaded", "code": 503}}
# The dialect, the stream's documents and what follows them, how it ended, why, whose word it is, the output.
ENDINGS: list[tuple[Dialect, bytes, Ended, str, Source, int]] = [
    (
        Dialect.OPENAI_CHAT,
        events(chunk(), FINISH, chunk(choices=[], usage=REAL)) + DONE,
        Ended.WHOLE,
        "",
        Source.REPORTED,
        9,
    ),
    (Dialect.OPENAI_CHAT, events(chunk(), FINISH | {"usage": REAL}), Ended.WHOLE, "", Source.REPORTED, 9),
    (Dialect.OPENAI_CHAT, events(chunk(), FINISH) + DONE, Ended.WHOLE, "", Source.ESTIMATED, 3),
    (Dialect.OPENAI_CHAT, events(chunk()), Ended.TRUNCATED, "no_end", Source.PARTIAL, 3),
    (
        Dialect.OPENAI_CHAT,
        events(chunk(usage=REAL), *[chunk()] * 9, FINISH) + DONE,
        Ended.WHOLE,
        "",
        Source.PARTIAL,
        30,
    ),
    (
        Dialect.OPENAI_CHAT,
        events(*[chunk()] * 9, chunk(usage=REAL), {"response": "one"}, FINISH) + DONE,
        Ended.WHOLE,
        "",
        Source.PARTIAL,
        31,
    ),
    (Dialect.OPENAI_CHAT, events(chunk(), BROKEN) + DONE, Ended.ERROR, "provider_error_event", Source.PARTIAL, 3),
    (Dialect.OPENAI_CHAT, json.dumps(BROKEN).encode(), Ended.ERROR, "provider_error_event", Source.PARTIAL, 0),
    (
        Dialect.OPENAI_CHAT,
        events(chunk(), {"id": "c", "choices": [], "x_groq": {"error": BROKEN["error"]}}) + DONE,
        Ended.ERROR,
        "provider_error_event",
        Source.PARTIAL,
        3,
    ),
    (Dialect.OPENAI_CHAT, events(chunk(usage=REAL)), Ended.TRUNCATED, "no_end", Source.PARTIAL, 9),
    (Dialect.OPENAI_CHAT, events(chunk(), BROKEN), Ended.ERROR, "provider_error_event", Source.PARTIAL, 3),
    (
        Dialect.OPENAI_CHAT,
        events(chunk(), BROKEN | {"usage": REAL}) + DONE,
        Ended.ERROR,
        "provider_error_event",
        Source.REPORTED,
        9,
    ),
    (Dialect.GEMINI, events(part(usageMetadata=RUNNING)), Ended.TRUNCATED, "no_end", Source.PARTIAL, 1),
    (Dialect.GEMINI, events(part(usageMetadata=RUNNING), part()), Ended.TRUNCATED, "no_end", Source.PARTIAL, 6),
    (Dialect.GEMINI, events(part(), BROKEN), Ended.ERROR, "provider_error_event", Source.PARTIAL, 3),
    (
        Dialect.OPENAI_RESPONSES,
        events({"type": "response.output_text.delta", "delta": "one two"}),
        Ended.TRUNCATED,
        "no_end",
        Source.PARTIAL,
        2,
    ),
    (
        Dialect.OLLAMA_CHAT,
        b'{"model":"m","message":{"content":"one two"},"done":false}\n',
        Ended.TRUNCATED,
        "no_end",
        Source.PARTIAL,
        2,
    ),
    (
        Dialect.COHERE_V2_CHAT,
        events({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "one two"}}}}),
        Ended.TRUNCATED,
        "no_end",
        Source.PARTIAL,
        2,
    ),
    (
        Dialect.ANTHROPIC_MESSAGES,
        events({"type": "message_start", "message": {"usage": {"input_tokens": 8, "output_tokens": 1}}}),
        Ended.TRUNCATED,
        "no_end",
        Source.PARTIAL,
        1,
    ),
    (Dialect.OPENAI_CHAT, json.dumps(chat(REAL)).encode(), Ended.WHOLE, "", Source.REPORTED, 9),
    (Dialect.OPENAI_CHAT, json.dumps(chat(REAL)).encode()[:-20], Ended.TRUNCATED, "no_end", Source.PARTIAL, 3),
]


@pytest.mark.parametrize(("dialect", "body", "how", "why", "source", "output"), ENDINGS)
def test_endings(dialect: Dialect, body: bytes, how: Ended, why: str, source: Source, output: int) -> None:
    booked = entry(
        body, dialect, model="gpt-4o", content_type="application/x-ndjson" if dialect is Dialect.OLLAMA_CHAT else ""
    )
    assert (booked.ended, booked.cause, booked.source) == (how, why, source)
    low, high = (booked.output_low, booked.output_high) if booked.output_low is not None else (output, output)
    assert low <= output <= (high or 0)
    assert booked.error == (BROKEN["error"] if how is Ended.ERROR else None)


@pytest.mark.parametrize(
    ("outcome", "status", "cause", "how", "why"),
    [
        (Outcome.COMPLETED, 429, "", Ended.ERROR, ""),
        (Outcome.COMPLETED, 500, "", Ended.ERROR, ""),
        (Outcome.CLIENT_GONE, 200, "client_gone", Ended.CUT, "client_gone"),
        (Outcome.UPSTREAM_FAILED, None, "tls", Ended.CUT, "tls"),
        (Outcome.UPSTREAM_FAILED, 200, "", Ended.CUT, ""),
        (Outcome.GATEWAY_LOST, None, "", Ended.CUT, ""),
        (Outcome.COMPLETED, 302, "", Ended.WHOLE, ""),
    ],
)
def test_endings_that_the_gateway_saw(outcome: Outcome, status: int | None, cause: str, how: Ended, why: str) -> None:
    booked = entry(events(chunk()), outcome=outcome, status=status, cause=cause)
    assert (booked.ended, booked.cause) == (how, why)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"<html>Sign in</html>", {"content_type": "text/html"}),
        (b"data: hello\n\n" * 500, {}),
        (b"data: hello\n\n" * 500, {"outcome": Outcome.CLIENT_GONE}),
        (b"\x1f\x8bnot gzip at all", {"content_encoding": "gzip"}),
        (json.dumps(chat(REAL)).encode(), {"content_encoding": "snappy"}),
    ],
)
def test_what_cannot_be_read_is_unknown_and_never_free(body: bytes, more: dict[str, Any]) -> None:
    free = parse({"version": "1", "prices": [{"provider": "p", "model": "*", "input": 0, "output": 0}]})
    booked = entry(body, prices=free, **more)
    assert (booked.ended, booked.cause, booked.source) == (Ended.UNREADABLE, "unreadable", Source.PARTIAL)
    assert (booked.input_tokens, booked.output_tokens, booked.total_tokens) == (None, None, None)
    assert (booked.cost_microusd, booked.output_low, booked.output_high) == (None, None, None)
    assert booked.marks == (Mark.UNPRICED, Mark.UNREADABLE)


def test_a_hole_that_swallowed_everything_is_unknown() -> None:
    booked = entry(b"", lost_bytes=90_000, response_bytes=90_000)
    assert (booked.source, booked.input_tokens, booked.output_tokens) == (Source.PARTIAL, None, None)
    assert (booked.output_high, booked.marks) == (None, (Mark.UNPRICED,))


def test_files_are_not_expected_to_be_documents() -> None:
    for dialect in (Dialect.PASSTHROUGH, Dialect.METADATA):
        assert entry(b"\xff\xf3\x00\x01" * 2000, dialect, content_type="audio/mpeg").ended is Ended.WHOLE
    assert entry(b"oops", Dialect.PASSTHROUGH, content_type="application/json").ended is Ended.UNREADABLE


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"id": "x", "choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
            {"status_code": 1008, "status_msg": "insufficient balance"},
        ),
        ({"success": False, "errors": [{"code": 7}], "result": None}, [{"code": 7}]),
        ({"error_code": 17, "error_msg": "limit reached"}, {"error_code": 17, "error_msg": "limit reached"}),
    ],
)
def test_errors_that_vendors_send_with_status_200(body: dict[str, Any], error: Any) -> None:
    for dialect in (Dialect.OPENAI_CHAT, Dialect.PASSTHROUGH):
        booked = entry(json.dumps(body).encode(), dialect, content_type="application/json")
        assert (booked.ended, booked.error, booked.source) == (Ended.ERROR, error, Source.PARTIAL)
    fine = chat(REAL, base_resp={"status_code": 0, "status_msg": ""})
    assert entry(json.dumps(fine).encode()).ended is Ended.WHOLE


@pytest.mark.parametrize(
    "dialect", [d for d in Dialect if d not in TOKENLESS and d not in (Dialect.OLLAMA_CHAT, Dialect.OPENAI_EMBEDDINGS)]
)
def test_an_event_named_error_is_one_in_every_dialect(dialect: Dialect) -> None:
    booked = entry(b'event: error\ndata: {"message": "Too many requests"}\n\n', dialect)
    assert (booked.ended, booked.cause, booked.source) == (Ended.ERROR, "provider_error_event", Source.PARTIAL)
    assert "Too many requests" in str(booked.error)


def test_no_call_of_a_model_answers_with_a_page() -> None:
    page = b"<!DOCTYPE html><html><body>Sign in</body></html>"
    assert entry(page, Dialect.PASSTHROUGH, content_type="text/html; charset=utf-8").ended is Ended.UNREADABLE
    assert entry(page, Dialect.METADATA, content_type="text/html").ended is Ended.WHOLE  # a file that is fetched


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"message": "Unauthorized"}',
        DONE,
        b"data: {}\n\n",
        b"[]",
    ],
)
@pytest.mark.parametrize("dialect", [Dialect.OPENAI_RESPONSES, Dialect.OPENAI_CHAT, Dialect.GEMINI])
def test_an_answer_that_says_nothing_known_is_unknown(dialect: Dialect, body: bytes) -> None:
    booked = entry(body, dialect, content_type="")
    assert (booked.source, booked.input_tokens, booked.output_tokens) == (Source.PARTIAL, None, None)
    assert (booked.cost_microusd, booked.output_high, booked.marks) == (None, None, (Mark.UNPRICED,))


def test_a_few_bytes_of_a_cut_answer_are_cut() -> None:
    booked = entry(b"dat", outcome=Outcome.CLIENT_GONE)
    assert (booked.ended, booked.output_tokens) == (Ended.CUT, 0)


def test_an_unknown_call_is_unknown() -> None:
    booked = entry(b'{"text":"hm","usage":{"type":"duration","seconds":7}}', Dialect.PASSTHROUGH)
    assert (booked.source, booked.input_tokens, booked.cost_microusd) == (Source.PARTIAL, None, None)
    assert (booked.units, booked.marks) == ({"seconds": 7}, (Mark.UNPRICED,))
    assert entry(b'{"error":"x"}', Dialect.PASSTHROUGH, status=400).input_tokens == 0


def test_a_call_of_no_known_path_carries_the_model_it_names() -> None:
    body = json.dumps({"model": "answered", "usage": REAL}).encode()
    assert entry(body, Dialect.PASSTHROUGH, model="").model == "asked"
    assert entry(body, Dialect.PASSTHROUGH, model="", request=None).model == "answered"
    assert entry(body, Dialect.PASSTHROUGH, model="planned").model == "planned"


def test_half_a_report_is_completed_by_our_count() -> None:
    half = entry(
        json.dumps(chat({"prompt_tokens": 0, "completion_tokens": 9, "total_tokens": 9})).encode(), model="gpt-4o"
    )
    assert (half.source, half.output_tokens, half.output_low) == (Source.ESTIMATED, 9, None)
    assert half.input_tokens == half.observed_input_tokens
    assert half.input_low is not None
    assert half.total_tokens == (half.input_tokens or 0) + 9
    assert half.marks == (Mark.HALF_REPORT,)
    silent = events(
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 40, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"text": "one two three four five six"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    )
    other = entry(silent, Dialect.ANTHROPIC_MESSAGES, model="gpt-4o")
    assert (other.source, other.input_tokens, other.output_tokens) == (Source.ESTIMATED, 40, 7)  # six words and an end
    assert other.marks == (Mark.HALF_REPORT,)


def test_an_estimated_input_is_no_less_than_what_was_cached() -> None:
    usage = {"input_tokens": None, "cache_read_input_tokens": 900, "output_tokens": 3}
    booked = entry(json.dumps(message(usage)).encode(), Dialect.ANTHROPIC_MESSAGES, content_type="application/json")
    assert (booked.source, booked.input_tokens, booked.input_low, booked.input_high) == (
        Source.ESTIMATED,
        900,
        900,
        900,
    )


def test_placeholders_are_estimated() -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    for outcome, source in ((Outcome.COMPLETED, Source.ESTIMATED), (Outcome.CLIENT_GONE, Source.PARTIAL)):
        booked = entry(events(chunk(usage=zeros), FINISH) + DONE, model="gpt-4o", outcome=outcome)
        assert (booked.source, booked.output_tokens) == (source, 4)  # three words and an end
        assert booked.input_tokens
        assert booked.marks == (Mark.PLACEHOLDER,)


def test_what_cohere_bills_is_booked_and_the_rest_is_kept() -> None:
    usage = {
        "billed_units": {"input_tokens": 4, "output_tokens": 6},
        "tokens": {"input_tokens": 190, "output_tokens": 7},
    }
    body = json.dumps({"id": "c", "finish_reason": "COMPLETE", "usage": usage}).encode()
    booked = entry(body, Dialect.COHERE_V2_CHAT)
    assert (booked.source, booked.input_tokens, booked.output_tokens, booked.total_tokens) == (
        Source.REPORTED,
        4,
        6,
        10,
    )
    assert (booked.model_input_tokens, booked.model_output_tokens) == (190, 7)
    assert (booked.raw_usage, booked.marks) == (usage, (Mark.BILLED_UNITS,))


def test_nothing_is_learned_from_contradictions() -> None:
    def learned(usage: dict[str, int]) -> int | None:
        opened = Open("k", Dialect.ANTHROPIC_MESSAGES, "p", "m", 1_700_000_000_000, False, "/x")
        body = json.dumps(message(usage)).encode()
        end = End(Outcome.COMPLETED, 200, "application/json", "", len(body), 1, 1, 1, "", Packed.pack(body))
        lesson = measure(Tail(ExchangeId(new_boot(), 0, 0), opened, [], end), WordEstimator(sample=1.0)).lesson
        return lesson.shown if lesson is not None else None

    assert learned({"input_tokens": 5, "output_tokens": 6}) == 6
    assert learned({"input_tokens": 0, "output_tokens": 6}) is None


@pytest.mark.parametrize(
    ("dialect", "document"),
    [
        (Dialect.OPENAI_RESPONSES, {"object": "response", "status": "queued", "background": True, "usage": None}),
        (Dialect.OPENAI_RESPONSES, {"object": "response", "status": "in_progress"}),
        (Dialect.GEMINI_INTERACTIONS, {"object": "interaction", "status": "in_progress"}),
    ],
)
def test_work_that_has_only_begun_is_unknown(dialect: Dialect, document: dict[str, Any]) -> None:
    booked = entry(json.dumps(document).encode(), dialect)
    assert (booked.source, booked.output_tokens, booked.cost_microusd) == (Source.PARTIAL, None, None)
    assert booked.marks == (Mark.OPEN_WORK, Mark.UNPRICED)
    polled = entry(json.dumps(document).encode(), Dialect.METADATA)
    assert (polled.source, polled.output_tokens, polled.marks) == (Source.REPORTED, 0, ())


def test_a_stream_that_begins_in_progress_is_no_open_work() -> None:
    usage = {"input_tokens": 4, "output_tokens": 3, "total_tokens": 7}
    body = events(
        {"type": "response.created", "response": {"object": "response", "status": "in_progress"}},
        {"type": "response.completed", "response": {"object": "response", "status": "completed", "usage": usage}},
    )
    assert entry(body, Dialect.OPENAI_RESPONSES).marks == ()


def test_an_embedding_of_nothing_is_estimated() -> None:
    body = b'{"object":"list","data":[],"usage":{"prompt_tokens":0,"total_tokens":0}}'
    booked = entry(body, Dialect.OPENAI_EMBEDDINGS, model="gpt-4o")
    assert (booked.source, booked.output_tokens) == (Source.ESTIMATED, 0)
    assert booked.input_tokens


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        *((said, sent) for said in ("gzip", "", "identity") for sent in (gzip.compress, bytes)),
        *((said, bytes) for said in ("deflate", "br", "zstd", "gzip, br")),
        *((said, zstandard.compress) for said in ("", "zstd")),
    ],
)
def test_an_encoding_is_believed_by_its_bytes(said: str, sent: Callable[[bytes], bytes]) -> None:
    booked = entry(sent(events(chunk(), FINISH | {"usage": REAL})), content_encoding=said)
    assert (booked.ended, booked.output_tokens) == (Ended.WHOLE, 9)


def test_an_encoding_is_undone_before_it_is_called_unreadable() -> None:
    assert entry(gzip.compress(events(chunk(), FINISH | {"usage": REAL})), content_encoding="gzip").ended is Ended.WHOLE
