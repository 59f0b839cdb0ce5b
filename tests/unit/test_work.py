"""What an answer says of work that ends elsewhere, and what is booked of it, without Redis."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.dialects import Dialect
from shared.contract.entry import Mark
from shared.contract.tail import Outcome
from shared.contract.usage import Source
from shared.contract.work import WorkKind
from tests.support.work import (
    BACKGROUND_STREAM,
    COMPLETED,
    DEFERRED,
    JSON,
    LINES,
    USAGE,
    Told,
    asynchronous,
    batch,
    begun,
    chat_line,
    document,
    failed_line,
    fetched,
    figures,
    gemini_answer,
    gemini_batch,
    lines,
    measured,
    message_line,
    note,
    response,
)

LOOK, PASS = Dialect.METADATA, Dialect.PASSTHROUGH
GEMINI_LINES = lines(*({"key": f"r{n}", "response": gemini_answer()} for n in range(3)))
INLINED = {"inlinedResponses": {"inlinedResponses": [{"response": gemini_answer()}, {"error": {"code": 3}}]}}
STARTS = {
    "a response in the background": (begun(), WorkKind.RESPONSE, "resp_1"),
    "one that streams, and was left": (
        Told(
            Dialect.OPENAI_RESPONSES,
            "v1/responses",
            BACKGROUND_STREAM,
            "text/event-stream",
            outcome=Outcome.CLIENT_GONE,
        ),
        WorkKind.RESPONSE,
        "resp_1",
    ),
    "an interaction in the background": (
        Told(
            Dialect.GEMINI_INTERACTIONS,
            "v1beta/interactions",
            document(id="i1", object="interaction", status="in_progress", agent="deep-research"),
        ),
        WorkKind.INTERACTION,
        "i1",
    ),
    "a batch": (Told(PASS, "v1/batches", document(**batch("validating"))), WorkKind.BATCH, "batch_1"),
    "a batch with a usage of zeros": (
        Told(PASS, "v1/batches", document(**batch("validating", usage=dict.fromkeys(USAGE, 0)))),
        WorkKind.BATCH,
        "batch_1",
    ),
    "Mistral's": (
        Told(PASS, "v1/batch/jobs", document(id="b-1", object="batch", status="QUEUED", output_file=None)),
        WorkKind.BATCH,
        "b-1",
    ),
    "Anthropic's": (
        Told(
            PASS,
            "v1/messages/batches",
            document(id="msgbatch_1", type="message_batch", processing_status="in_progress", results_url=None),
        ),
        WorkKind.BATCH,
        "msgbatch_1",
    ),
    "Google's": (
        Told(PASS, "v1beta/models/gemini-2.5-flash:batchGenerateContent", document(**gemini_batch("PENDING"))),
        WorkKind.BATCH,
        "batches/b1",
    ),
    "a deferred completion": (
        Told(Dialect.OPENAI_CHAT, "v1/chat/completions", document(request_id="f15c"), model="grok-4"),
        WorkKind.DEFERRED,
        "f15c",
    ),
    "an asynchronous chat": (
        Told(PASS, "async/chat/completions", document(**asynchronous("CREATED")), provider="perplexity"),
        WorkKind.ASYNC,
        "a1",
    ),
}


@pytest.mark.parametrize("what", STARTS)
def test_a_start_is_unknown_and_open(what: str) -> None:
    told, kind, name = STARTS[what]
    found = measured(told)
    assert found.note == note(told)
    assert (note(told).kind, note(told).names, note(told).begins, note(told).ends) == (kind, (name,), True, False)
    assert figures(found.entry) == (Source.PARTIAL, None, None)
    assert found.entry.cost_microusd is None
    assert found.entry.marks == (Mark.OPEN_WORK, Mark.UNPRICED)
    assert found.entry.observed_output_tokens is None


RESULTS = {
    "a response": (fetched(), ("resp_1",), (Source.REPORTED, 70, 25), "flex"),
    "an incomplete one": (fetched("incomplete"), ("resp_1",), (Source.REPORTED, 70, 25), "flex"),
    "a failed one that says what it cost": (fetched("failed"), ("resp_1",), (Source.REPORTED, 70, 25), "flex"),
    "a failed one that says it cost nothing": (
        fetched("failed", usage=dict.fromkeys(USAGE, 0)),
        ("resp_1",),
        (Source.REPORTED, 0, 0),
        "flex",
    ),
    "a cancelled one": (fetched("cancelled", usage=None), ("resp_1",), (Source.PARTIAL, None, None), "flex"),
    "a resumed stream": (
        Told(LOOK, "v1/responses/resp_1", COMPLETED, "text/event-stream"),
        ("resp_1",),
        (Source.REPORTED, 70, 25),
        "flex",
    ),
    "an interaction": (
        Told(
            LOOK,
            "v1beta/interactions/i1",
            document(
                id="i1",
                object="interaction",
                status="completed",
                usage={"total_input_tokens": 7, "total_output_tokens": 2, "total_tokens": 9},
            ),
        ),
        ("i1",),
        (Source.REPORTED, 7, 2),
        "",
    ),
    "a batch that states its usage": (
        Told(LOOK, "v1/batches/batch_1", document(**batch("completed", output_file_id="file-1", usage=USAGE))),
        ("batch_1", "file-1"),
        (Source.REPORTED, 70, 25),
        "batch",
    ),
    "the file of a batch": (
        Told(LOOK, "v1/files/file-1/content", lines(*map(chat_line, range(30)), failed_line()), LINES),
        ("file-1",),
        (Source.REPORTED, 300, 150),
        "batch",
    ),
    "the same as JSON, and as text": (
        Told(LOOK, "v1/files/file-1/content", lines(chat_line(0), chat_line(1)), JSON),
        ("file-1",),
        (Source.REPORTED, 20, 10),
        "batch",
    ),
    "a file of embeddings": (
        Told(
            LOOK,
            "v1/files/file-1/content",
            lines(
                {
                    "custom_id": "r",
                    "response": {
                        "status_code": 200,
                        "body": {"object": "list", "data": [], "usage": {"prompt_tokens": 4, "total_tokens": 4}},
                    },
                }
            ),
            LINES,
        ),
        ("file-1",),
        (Source.REPORTED, 4, 0),
        "batch",
    ),
    "one that nobody answered": (
        Told(LOOK, "v1/batches/batch_1", document(**batch("failed", usage=dict.fromkeys(USAGE, 0)))),
        ("batch_1",),
        (Source.REPORTED, 0, 0),
        "batch",
    ),
    "an expired one of which nothing is said": (
        Told(LOOK, "v1/batches/batch_1", document(**batch("expired"))),
        ("batch_1",),
        (Source.PARTIAL, None, None),
        "batch",
    ),
    "Anthropic's results": (
        Told(
            LOOK,
            "v1/messages/batches/msgbatch_1/results",
            lines(message_line(0), message_line(1), {"custom_id": "r2", "result": {"type": "expired"}}),
            "application/x-jsonl",
        ),
        ("msgbatch_1",),
        (Source.REPORTED, 26, 8),
        "batch",
    ),
    "Anthropic's batch without a success": (
        Told(
            LOOK,
            "v1/messages/batches/msgbatch_1",
            document(id="msgbatch_1", type="message_batch", processing_status="ended", request_counts={"succeeded": 0}),
        ),
        ("msgbatch_1",),
        (Source.PARTIAL, None, None),
        "batch",
    ),
    "Google's, in the batch": (
        Told(LOOK, "v1beta/batches/b1", document(**gemini_batch("SUCCEEDED", done=True, response=INLINED))),
        ("batches/b1",),
        (Source.REPORTED, 7, 2),
        "batch",
    ),
    "Google's file": (
        Told(LOOK, "download/v1beta/files/batch-b1:download", GEMINI_LINES, LINES),
        ("files/batch-b1",),
        (Source.REPORTED, 21, 6),
        "batch",
    ),
    "a deferred completion": (
        Told(LOOK, "v1/chat/deferred-completion/f15c", DEFERRED),
        ("f15c",),
        (Source.REPORTED, 27, 48),
        "",
    ),
    "an asynchronous chat": (
        Told(LOOK, "async/chat/completions/a1", document(**asynchronous("COMPLETED", response=json.loads(DEFERRED)))),
        ("a1",),
        (Source.REPORTED, 27, 48),
        "",
    ),
    "OpenRouter's results": (
        Told(LOOK, "api/v1/batches/batch_1/results", lines(chat_line(0)), "application/x-ndjson"),
        ("batch_1",),
        (Source.REPORTED, 10, 5),
        "batch",
    ),
}


@pytest.mark.parametrize("what", RESULTS)
def test_a_result_is_booked_as_it_is_reported(what: str) -> None:
    told, names, booked, tier = RESULTS[what]
    found = measured(told)
    assert (note(told).names, note(told).begins, note(told).ends) == (names, False, True)
    assert figures(found.entry) == booked
    assert found.entry.service_tier == tier
    assert Mark.OPEN_WORK not in found.entry.marks
    assert (Mark.UNPRICED in found.entry.marks) == (found.entry.cost_microusd is None)


NEITHER = {
    "an ordinary answer": Told(
        Dialect.OPENAI_RESPONSES, "v1/responses", document(**response("completed", background=False, usage=USAGE))
    ),
    "one that does not say": Told(
        Dialect.OPENAI_RESPONSES, "v1/responses", document(**response("completed", background=None, usage=USAGE))
    ),
    "an ordinary answer, fetched again": fetched(background=False),
    "a look at what runs": fetched("in_progress", usage=None),
    "a look at a batch": Told(LOOK, "v1/batches/batch_1", document(**batch("in_progress"))),
    "a deferred completion that is not ready": Told(LOOK, "v1/chat/deferred-completion/f15c", b"", "", status=202),
    "a list of batches": Told(LOOK, "v1/batches", document(object="list", data=[batch("completed", usage=USAGE)])),
    "what went into a batch": Told(
        LOOK,
        "v1/files/file-in/content",
        lines({"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o"}}),
        LINES,
    ),
    "a file of errors": Told(LOOK, "v1/files/file-err/content", lines(failed_line()), LINES),
    "a video's receipt": Told(PASS, "v1/videos/generations", document(request_id="v1")),
    "a refusal": Told(LOOK, "v1/responses/resp_1", fetched().body, status=404),
    "half of a file": Told(
        LOOK, "v1/files/file-1/content", lines(*map(chat_line, range(9))), LINES, outcome=Outcome.CLIENT_GONE
    ),
    "a name without end": Told(LOOK, "v1/responses/x", document(**response("completed", id="x" * 300, usage=USAGE))),
    "a stored chat": Told(LOOK, "v1/chat/completions/c", DEFERRED),
}


@pytest.mark.parametrize("what", NEITHER)
def test_what_is_neither_costs_no_call_to_redis(what: str) -> None:
    found = measured(NEITHER[what]).note
    assert found is None or not found.matters


def test_half_of_a_file_and_a_look_book_nothing() -> None:
    for what in ("half of a file", "a look at what runs", "an ordinary answer, fetched again"):
        assert figures(measured(NEITHER[what]).entry)[1:] == (0, 0)


@pytest.mark.parametrize("content_type", [LINES, JSON, ""])
def test_half_of_a_line_is_half_of_a_file(content_type: str) -> None:
    whole = lines(chat_line(0), chat_line(1))
    for body in (whole[:-30], whole[: len(whole) // 2 + 9], lines(chat_line(0))[:-30]):
        told = Told(LOOK, "v1/files/file-1/content", body, content_type)
        assert measured(told).note is None
        assert figures(measured(told).entry) == (Source.PARTIAL, 0, 0)


def test_a_deferred_completion_without_a_report_closes_its_work_as_unknown() -> None:
    answer = document(id="c", object="chat.completion", choices=[{"index": 0, "finish_reason": "stop"}])
    told = Told(LOOK, "v1/chat/deferred-completion/d1", answer)
    assert note(told).ends
    assert figures(measured(told).entry) == (Source.PARTIAL, None, None)


@pytest.mark.parametrize("id", ["1", "batch", "es"])
def test_a_short_id_is_not_taken_for_a_part_of_the_path(id: str) -> None:
    assert note(Told(PASS, "v1/batches", document(**batch("validating", id=id)))).begins
    assert not note(Told(PASS, f"v1/batches/{id}/cancel", document(**batch("cancelling", id=id)))).begins
    assert not note(Told(PASS, f"v1/batches/{id}:cancel", document(**batch("cancelling", id=id)))).begins


def test_to_cancel_work_is_to_look_at_it() -> None:
    told = Told(PASS, "v1/batches/batch_1/cancel", document(**batch("cancelling")))
    assert (note(told).begins, note(told).ends, note(told).matters) == (False, False, False)
    assert figures(measured(told).entry) == (Source.REPORTED, 0, 0)
    ended = Told(PASS, "v1/responses/resp_1/cancel", document(**response("cancelled")))
    assert (note(ended).begins, note(ended).ends) == (False, True)


@pytest.mark.parametrize("usage", [None, dict.fromkeys(USAGE, 0)])
def test_a_batch_whose_file_has_its_usage_is_only_looked_at(usage: Any) -> None:
    for counts in ({"total": 3, "completed": 3, "failed": 0}, None):
        body = document(**batch("completed", output_file_id="file-1", usage=usage, request_counts=counts))
        found = note(Told(LOOK, "v1/batches/batch_1", body))
        assert (found.names, found.ends, found.matters) == (("batch_1", "file-1"), False, True)


def test_a_background_stream_that_is_read_to_its_end_begins_and_ends_its_work() -> None:
    told = Told(Dialect.OPENAI_RESPONSES, "v1/responses", BACKGROUND_STREAM + COMPLETED, "text/event-stream")
    assert (note(told).begins, note(told).ends) == (True, True)
    assert figures(measured(told).entry) == (Source.REPORTED, 70, 25)


def test_an_answer_in_a_batch_without_a_report_makes_the_sum_partial() -> None:
    silent = chat_line(1)
    del silent["response"]["body"]["usage"]
    told = Told(LOOK, "v1/files/file-1/content", lines(chat_line(0), silent), LINES)
    assert figures(measured(told).entry) == (Source.PARTIAL, 10, 5)
    zeros = chat_line(1, prompt_tokens=0, completion_tokens=0)
    told = Told(LOOK, "v1/files/file-1/content", lines(chat_line(0), zeros), LINES)
    assert figures(measured(told).entry) == (Source.PARTIAL, 10, 5)
    torn = Told(LOOK, "v1/files/file-1/content", lines(chat_line(0)) + b"{torn\n", LINES)
    assert figures(measured(torn).entry) == (Source.PARTIAL, 10, 5)


def test_a_count_in_a_batch_that_cannot_be_true_is_not_booked() -> None:
    bad = chat_line(1, prompt_tokens=-3, completion_tokens=5)
    told = Told(LOOK, "v1/files/file-1/content", lines(chat_line(0), bad, chat_line(2)), LINES)
    with pytest.raises(Exception, match="prompt_tokens is -3"):
        measured(told)
