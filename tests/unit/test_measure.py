"""From a tail to a ledger entry: every outcome, with and without a report."""

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.meter.estimate import prompt, tokens
from services.meter.estimate.calibration import Estimate
from services.meter.estimate.lesson import Lesson
from services.meter.estimator import TokenEstimator
from services.meter.measure import Measured, measure
from services.meter.prices import parse
from services.meter.reconcile import Observed, reconcile
from services.meter.settings import MeterSettings
from services.meter.tails import Tail
from shared.contract.dialects import Dialect
from shared.contract.entry import CostSource, Entry, encode
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import Attempt, End, Open, Outcome, Packed, Segment
from shared.contract.usage import Source, Usage
from tests.support.answers import chat, events
from tests.support.estimator import WordEstimator

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg","model":"claude-x",'
    b'"usage":{"input_tokens":50,"output_tokens":1}}}\n\n'
)
TEXT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta",'
    b'"delta":{"type":"text_delta","text":"one two three four five "}}\n\n'
)
FINAL = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":70}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def entry(
    body: bytes, dialect: Dialect = Dialect.ANTHROPIC_MESSAGES, estimator: WordEstimator | None = None, **end: Any
) -> Entry:
    opened = Open("k", dialect, "p", "gpt-4o", 1_700_000_000_000, True, "/x")
    ending: dict[str, Any] = {
        "outcome": Outcome.COMPLETED,
        "status": 200,
        "content_type": "text/event-stream",
        "content_encoding": "",
        "response_bytes": len(body),
        "request_bytes": 400,
        "first_byte_ms": 1,
        "duration_ms": 2,
        "request_id": "req",
        "body": Packed.pack(body[10:]),
    } | end
    return measure(
        Tail(ExchangeId(new_boot(), 0, 0), opened, [Segment(Packed.pack(body[:10]))], End(**ending)),
        estimator or WordEstimator(),
    ).entry


def figures(booked: Entry) -> tuple[str, int | None, int | None, int | None]:
    return booked.source, booked.input_tokens, booked.output_tokens, booked.total_tokens


def test_a_report_is_booked_as_it_is() -> None:
    booked = entry(START + TEXT + FINAL)
    assert figures(booked) == (Source.REPORTED, 50, 70, 120)
    assert (booked.response_id, booked.response_model, booked.finish, booked.complete) == (
        "msg",
        "claude-x",
        ["end_turn"],
        True,
    )
    assert booked.raw_usage == {"input_tokens": 50, "output_tokens": 70}


@pytest.mark.parametrize("outcome", [Outcome.CLIENT_GONE, Outcome.UPSTREAM_FAILED, Outcome.TIMED_OUT, Outcome.DRAINED])
def test_a_broken_stream_keeps_its_input_and_counts_what_came(outcome: Outcome) -> None:
    assert figures(entry(START + TEXT, outcome=outcome)) == (Source.PARTIAL, 50, 5, 55)
    assert figures(entry(START + TEXT + FINAL, outcome=outcome)) == (Source.PARTIAL, 50, 70, 120)


def test_a_start_value_is_no_final_report() -> None:
    booked = entry(START + TEXT)
    assert figures(booked) == (Source.PARTIAL, 50, 5, 55)
    assert not booked.complete


def test_what_an_answer_says_is_bounded_in_the_ledger() -> None:
    usage = (
        b'{"prompt_tokens":5,"completion_tokens":6,"x":' + b"[" * 300 + b"]" * 300 + b',"y":"' + b"y" * 20_000 + b'"}'
    )
    long = b"n" * 1_000_000
    choices = b",".join([b'{"index":0,"finish_reason":"' + b"f" * 1000 + b'"}'] * 1000)
    body = (
        b'{"id":"%b","model":"%b","service_tier":"%b","object":"chat.completion","choices":[%b],"usage":%b,"error":%b}'
    )
    body %= (long, long, long, choices, usage, b"[" * 300 + b"]" * 300)
    booked = entry(body, Dialect.OPENAI_CHAT, content_type="application/json")
    assert figures(booked)[1:3] == (5, 6)
    assert booked.raw_usage == {"prompt_tokens": 5, "completion_tokens": 6}
    assert len(encode(booked)) < 100_000


def test_nothing_reported_is_estimated() -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"one two three "}}]}\n\ndata: [DONE]\n\n'
    body = json.dumps({"messages": [{"role": "user", "content": "a b c d"}]}).encode()
    estimated = entry(chunk, Dialect.OPENAI_CHAT, request=Packed.pack(body))
    source, asked, said, total = figures(estimated)
    assert (source, said) == (Source.ESTIMATED, 4)  # three words and an end
    assert asked == prompt.asked(body, "gpt-4o", lambda text: len(text.split())).tokens
    assert (estimated.input_low or 0) <= asked <= (estimated.input_high or 0)
    assert total == (asked or 0) + 4
    assert figures(entry(chunk, Dialect.OPENAI_CHAT))[:3] == (Source.ESTIMATED, 100, 4)  # by its length


@pytest.mark.parametrize("status", [None, 400, 429, 500])
def test_an_error_costs_what_was_reported_or_nothing(status: int | None) -> None:
    body = b'{"error":{"message":"many words that are no output at all","type":"x"}}'
    outcome = Outcome.UPSTREAM_FAILED if status is None else Outcome.COMPLETED
    booked = entry(body, Dialect.OPENAI_CHAT, status=status, outcome=outcome, content_type="application/json")
    assert figures(booked)[1:] == (0, 0, 0)
    assert booked.source == (Source.PARTIAL if status is None else Source.REPORTED)
    assert booked.error["type"] == "x"


def test_a_hole_in_the_tail_is_partial() -> None:
    assert figures(entry(START + TEXT + FINAL, lost_bytes=9))[0] == Source.PARTIAL


def test_tokenless_exchanges_book_a_request_and_no_tokens() -> None:
    for dialect in (Dialect.COUNT_TOKENS, Dialect.METADATA):
        assert figures(entry(b'{"input_tokens": 12}', dialect)) == (Source.REPORTED, 0, 0, 0)
    listed = b'{"usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}}'
    assert figures(entry(listed, Dialect.METADATA))[1:] == (0, 0, 0)
    assert figures(entry(listed, Dialect.PASSTHROUGH))[1:] == (5, 5, 10)


def test_an_encoded_tail_is_decoded() -> None:
    assert figures(entry(gzip.compress(START + TEXT + FINAL), content_encoding="gzip")) == (
        Source.REPORTED,
        50,
        70,
        120,
    )
    cut = entry(gzip.compress(START + TEXT + FINAL)[:-30], content_encoding="gzip", outcome=Outcome.CLIENT_GONE)
    assert cut.source == Source.PARTIAL


def test_counts_that_cannot_be_true_are_a_bad_record() -> None:
    with pytest.raises(BadRecord, match="usage cannot be true"):
        entry(b'data: {"choices":[],"usage":{"prompt_tokens":-5}}\n\n', Dialect.OPENAI_CHAT)


def test_reported_wins() -> None:
    report = Usage(10, 20, None, None, None, 30)
    much, little = Estimate(99, 1.0, 90, 110), Estimate(5, 1.0, 4, 6)
    assert reconcile(True, report, Observed(1, 99, much)).usage == report
    assert reconcile(False, report, Observed(1, 99, much)).usage == report
    raised = reconcile(False, report, Observed(1, 99, much, beyond_report=True))
    assert (raised.usage, raised.estimate) == (Usage(10, 99, None, None, None, 109), much)
    assert reconcile(False, report, Observed(1, 5, little, beyond_report=True)).usage == report


def test_tokens_are_counted_from_files_on_disk(tmp_path: Path) -> None:
    tokens.load(tmp_path)
    assert tokens.count("hello world", "gpt-4o") == 2
    assert tokens.count("こんにちは世界", "gpt-4") != tokens.count("こんにちは世界", "gpt-4o")
    assert tokens.count("<|endoftext|>", "gpt-4o") > 1
    assert tokens.count("a " * 1_500_000, "gpt-4o") > 1_000_000
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) == 2
    (tmp_path / files[0]).write_bytes(b"damaged")
    tokens.load(tmp_path)
    assert (tmp_path / files[0]).stat().st_size > 1_000_000


def test_an_estimate_carries_its_ratio_and_interval() -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"one two three "}}]}\n\n'
    booked = entry(chunk, Dialect.OPENAI_CHAT)
    assert (booked.observed_output_tokens, booked.output_tokens, booked.ratio) == (3, 3, 1.0)
    assert booked.output_low is not None
    assert booked.output_high is not None
    assert booked.output_low <= 3 <= booked.output_high
    assert (booked.input_tokens, booked.input_low, booked.input_high) == (100, 1, 800)
    reported = entry(START + TEXT + FINAL)
    assert (reported.ratio, reported.observed_output_tokens, reported.output_low) == (None, None, None)
    assert (reported.input_low, reported.input_high) == (None, None)


def test_a_sample_of_the_reported_is_observed_too() -> None:
    booked = entry(START + TEXT + FINAL, estimator=WordEstimator(sample=1.0))
    assert figures(booked) == (Source.REPORTED, 50, 70, 120)
    assert booked.observed_output_tokens == 5
    assert booked.drift  # 70 reported where 5 went by


def test_what_drifts_teaches_nothing() -> None:
    estimator = TokenEstimator(MeterSettings())
    booked, lesson = entry(START + TEXT + FINAL), Lesson(5.0, 70)
    estimator.learn(Measured(msgspec.structs.replace(booked, drift=True), lesson))
    assert estimator.calibration("p", "gpt-4o").shown.count == 0
    estimator.learn(Measured(booked, None))
    assert estimator.calibration("p", "gpt-4o").shown.count == 0
    estimator.learn(Measured(booked, lesson))
    assert estimator.calibration("p", "gpt-4o").shown.count == 1


def test_observed_output_is_per_choice_and_padding_is_none() -> None:
    def chunk(index: int, text: str) -> bytes:
        return json.dumps({"choices": [{"index": index, "delta": {"content": text}}], "obfuscation": "x y z"}).encode()

    body = b"".join(
        b"data: " + chunk(index, word) + b"\n\n" for index, word in [(0, "on"), (1, "tw"), (0, "e"), (1, "o")]
    )
    assert entry(body, Dialect.OPENAI_CHAT).observed_output_tokens == 2


def test_nothing_is_owed_where_nothing_came() -> None:
    booked = entry(b"", Dialect.OPENAI_CHAT, outcome=Outcome.UPSTREAM_FAILED, first_byte_ms=None)
    assert figures(booked) == (Source.PARTIAL, 0, 0, 0)
    moved = entry(b"moved", Dialect.OPENAI_CHAT, status=301)
    assert figures(moved) == (Source.REPORTED, 0, 0, 0)


def test_a_body_that_does_not_decode_is_partial() -> None:
    damaged = gzip.compress(START + TEXT)[:60] + b"\xff" * 40
    assert entry(damaged, content_encoding="gzip").source == Source.PARTIAL
    assert entry(START, content_encoding="snappy").source == Source.PARTIAL


def test_what_strict_json_forbids_is_read_and_written() -> None:
    usage = '"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'
    body = (
        '\ufeff{"choices":[{"message":{"content":"\\ud83d"},"finish_reason":"a\\ud83d","x":-Infinity}],' + usage + "}"
    )
    booked = entry(body.encode(), Dialect.OPENAI_CHAT, content_type="application/json")
    assert figures(booked) == (Source.REPORTED, 1, 2, 3)
    assert msgspec.json.encode(booked)


def test_a_number_that_is_not_a_time_is_a_bad_record() -> None:
    opened = Open("k", Dialect.OPENAI_CHAT, "p", "m", 10**18, True, "/")
    ending = End(Outcome.COMPLETED, 200, "", "", 0, 0, None, 0, "", Packed(b""))
    with pytest.raises(BadRecord, match="not a time"):
        measure(Tail(ExchangeId(new_boot(), 0, 0), opened, [], ending), WordEstimator())


def test_no_text_can_stop_the_counting(tmp_path: Path) -> None:
    tokens.load(tmp_path)
    spaces = " " * 1_000_001  # more than tiktoken takes at once
    assert tokens.count(spaces, "gpt-4o") > 0
    assert tokens.count(spaces, "gpt-4") > 0


def test_it_is_booked_on_who_answered() -> None:
    estimator = WordEstimator()
    price = {"provider": "q", "model": "claude-x", "input": 1_000_000, "output": 1_000_000}
    estimator.prices = parse({"version": "1", "prices": [price]})
    attempts = (Attempt("p", "gpt-4o", "main", 503, "", 9), Attempt("q", "claude-x", "spare", 200, "", 5))
    found = entry(
        START + TEXT + FINAL, estimator=estimator, provider="q", model="claude-x", credential="spare", attempts=attempts
    )
    assert (found.provider, found.model, found.credential, found.attempts) == ("q", "claude-x", "spare", attempts)
    assert found.cost_microusd == found.total_tokens
    assert (found.cost_nanousd, found.cost_source) == (1000 * (found.total_tokens or 0), CostSource.BOOK)
    planned = entry(START + TEXT + FINAL, estimator=estimator)
    assert (planned.provider, planned.model, planned.cost_nanousd) == ("p", "gpt-4o", None)
    assert planned.cost_source == CostSource.UNPRICED


def test_the_providers_own_figure_is_kept_beside_the_cost() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "cost": 0.0025}
    body = events(chat(usage)) + b"data: [DONE]\n\n"
    estimator = WordEstimator()
    price = {"provider": "p", "model": "*", "input": 1_000_000, "output": 1_000_000}
    estimator.prices = parse({"version": "1", "prices": [price]})
    booked = entry(body, Dialect.OPENAI_CHAT, estimator)
    assert (booked.cost_nanousd, booked.reported_cost_nanousd, booked.cost_source) == (12_000, 2_500_000, "book")
    assert entry(body, Dialect.METADATA, estimator).reported_cost_nanousd is None  # looked up, and not bought
