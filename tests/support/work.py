"""Exchanges that have to do with work that ends elsewhere, as providers answer them. Made from their documentation."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from services.meter.measure import Measured, measure
from services.meter.prices import parse
from services.meter.pricing.book import PriceBook
from services.meter.tails import Tail
from services.meter.work import Note
from shared.contract import tail
from shared.contract.dialects import Dialect
from shared.contract.entry import Entry
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Fields, Open, Outcome, Packed
from tests.support.estimator import WordEstimator
from tests.support.tails import KEY, OPENED_MS

JSON, LINES = "application/json", "application/octet-stream"
USAGE = {"input_tokens": 70, "output_tokens": 25, "total_tokens": 95}


class Told(NamedTuple):
    """One answer to one request."""

    dialect: Dialect
    path: str
    body: bytes
    content_type: str = JSON
    provider: str = "openai"
    model: str = ""
    status: int = 200
    outcome: Outcome = Outcome.COMPLETED
    key: str = KEY

    def records(self) -> tuple[Open, End]:
        opened = Open(self.key, self.dialect, self.provider, self.model, OPENED_MS, False, self.path)
        size = len(self.body)
        end = End(self.outcome, self.status, self.content_type, "", size, 5, 1, 2, "req", Packed.pack(self.body))
        return opened, end

    def tail(self, id: ExchangeId) -> Tail:
        opened, end = self.records()
        return Tail(id, opened, [], end)

    def fields(self, id: ExchangeId) -> list[Fields]:
        opened, end = self.records()
        return [tail.encode(id, 0, opened), tail.encode(id, 1, end)]


def document(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def lines(*documents: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in documents)


def events(*documents: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in documents)


def response(status: str, **more: Any) -> dict[str, Any]:
    same = {"id": "resp_1", "object": "response", "model": "o4-mini-2025-04-16", "output": [], "service_tier": "flex"}
    return {**same, "status": status, "background": True, "usage": None, **more}


def begun(key: str = KEY) -> Told:
    """A response that has begun in the background."""
    return Told(Dialect.OPENAI_RESPONSES, "v1/responses", document(**response("queued")), model="o4-mini", key=key)


def fetched(status: str = "completed", *, key: str = KEY, **more: Any) -> Told:
    """The same once it has ended."""
    body = document(**response(status, **({"usage": USAGE} | more)))
    return Told(Dialect.METADATA, "v1/responses/resp_1", body, key=key)


def batch(status: str, **more: Any) -> dict[str, Any]:
    same = {"id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-in"}
    return {**same, "status": status, "output_file_id": None, **more}


def chat_line(number: int, *, model: str = "gpt-4o-2024-08-06", **usage: int) -> dict[str, Any]:
    """A line of the result of OpenAI's batches."""
    counts = usage or {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choice = {"index": 0, "message": {"role": "assistant", "content": "hey"}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "model": model, "choices": [choice], "usage": counts}
    return {
        "id": f"batch_req_{number}",
        "custom_id": f"r{number}",
        "response": {"status_code": 200, "request_id": "x", "body": body},
        "error": None,
    }


def failed_line() -> dict[str, Any]:
    body = {"error": {"message": "too long", "type": "invalid_request_error"}}
    return {"id": "batch_req_9", "custom_id": "r9", "response": {"status_code": 400, "body": body}, "error": None}


def message_line(number: int) -> dict[str, Any]:
    """A line of the results of Anthropic's batches."""
    usage = {"input_tokens": 10, "cache_read_input_tokens": 3, "output_tokens": 4, "service_tier": "batch"}
    message = {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    return {"custom_id": f"r{number}", "result": {"type": "succeeded", "message": message}}


def gemini_answer() -> dict[str, Any]:
    content = {"parts": [{"text": "hi"}], "role": "model"}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "modelVersion": "gemini-2.5-flash",
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 9},
    }


def gemini_batch(state: str, **more: Any) -> dict[str, Any]:
    about = {"model": "models/gemini-2.5-flash", "name": "batches/b1", "state": f"BATCH_STATE_{state}"}
    return {"name": "batches/b1", "metadata": about, **more}


def asynchronous(status: str, **more: Any) -> dict[str, Any]:
    """What Perplexity says of an asynchronous chat."""
    return {"id": "a1", "model": "sonar-deep-research", "created_at": 1, "status": status, "response": None, **more}


BACKGROUND_STREAM = events(
    {"type": "response.created", "response": response("queued")},
    {"type": "response.in_progress", "response": response("in_progress")},
)
COMPLETED = events({"type": "response.completed", "response": response("completed", usage=USAGE)})
DEFERRED = document(
    id="c",
    object="chat.completion",
    model="grok-4",
    choices=[{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
    usage={"prompt_tokens": 27, "completion_tokens": 48, "total_tokens": 75},
)


ID = ExchangeId(new_boot(), 0, 1)
PRICE = {"provider": "openai", "input": 1_000_000, "output": 2_000_000}
PRICES = parse({"version": "1", "prices": [PRICE | {"model": "o4-mini"}, PRICE | {"model": "*"}]})


def measured(told: Told, prices: PriceBook = PRICES) -> Measured:
    estimator = WordEstimator()
    estimator.prices = prices
    return measure(told.tail(ID), estimator)


def note(told: Told) -> Note:
    found = measured(told).note
    assert found is not None
    return found


def figures(booked: Entry) -> tuple[str, int | None, int | None]:
    return booked.source, booked.input_tokens, booked.output_tokens
