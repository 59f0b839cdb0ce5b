"""`arouter inspect` on bodies of its own."""

from __future__ import annotations

import json
from pathlib import Path

from services.cli import inspect
from services.meter.estimate import tokens
from shared.contract.dialects import Dialect
from shared.contract.usage import COUNTERS

BODY = b'data: {"id":"c1","model":"gpt-4o","choices":[{"delta":{"content":"hello world"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\ndata: [DONE]\n\n'


def test_one_body(tmp_path: Path) -> None:
    tokens.load(tmp_path / "ranks")
    path, request = tmp_path / "body", tmp_path / "request"
    path.write_bytes(BODY)
    request.write_text(json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}))
    found = inspect.inspect(path, Dialect.OPENAI_CHAT, "text/event-stream", request)
    assert (found["reported"], found["observed_output_tokens"], found["model"]) == (False, 2, "gpt-4o")
    assert found["usage"] == dict.fromkeys(COUNTERS)
    assert found["estimated"]["output_tokens"] == 2
    assert found["estimated"]["input_tokens"] == 3 + 4 + 1
    path.write_bytes(BODY + USAGE)
    found = inspect.inspect(path, Dialect.OPENAI_CHAT, "", None)
    assert (found["reported"], found["usage"]["total_tokens"], found["complete"]) == (True, 7, True)
    assert (found["booked"], found["reported_cost_nanousd"]) == (found["usage"], None)


def test_a_batch_answers_every_line_in_order(tmp_path: Path) -> None:
    tokens.load(tmp_path / "ranks")
    path = tmp_path / "body"
    path.write_bytes(BODY + USAGE)
    good = json.dumps({"path": str(path), "dialect": "openai_chat", "content_type": None})
    lines = [good, "", "garbage", "[1]", '"x"', '{"path": "/nowhere", "dialect": "gemini"}', '{"path": 5}', good]
    answers = list(inspect.batch(lines))
    assert len(answers) == len(lines)
    assert [answer["reported"] for answer in answers] == [True, *[False] * 6, True]
    assert answers[5]["path"] == "/nowhere"
    for answer in answers:
        assert list(answer) == list(answers[0])
        assert list(answer["usage"]) == list(COUNTERS)
    assert all(answer["error"] for answer in answers[1:-1])


def test_the_report_in_an_answer_that_is_looked_up_is_shown(tmp_path: Path) -> None:
    tokens.load(tmp_path / "ranks")
    path = tmp_path / "body"
    usage = {"input_tokens": 70, "output_tokens": 25, "total_tokens": 95}
    path.write_text(json.dumps({"id": "r", "object": "response", "status": "completed", "usage": usage}))
    found = inspect.inspect(path, Dialect.METADATA, "", None)
    assert (found["reported"], found["usage"]["total_tokens"]) == (True, 95)


def test_what_is_marked_is_shown(tmp_path: Path) -> None:
    tokens.load(tmp_path / "ranks")
    path = tmp_path / "body"
    path.write_bytes(b"<html></html>")
    found = inspect.inspect(path, Dialect.OPENAI_CHAT, "text/html", None)
    assert (found["reported"], found["error"], found["estimated"]["output_high"]) == (False, "unreadable", None)
    usage = {
        "billed_units": {"input_tokens": 4, "output_tokens": 6},
        "tokens": {"input_tokens": 190, "output_tokens": 6},
    }
    path.write_text(json.dumps({"id": "c", "usage": usage}))
    found = inspect.inspect(path, Dialect.COHERE_V2_CHAT, "", None)
    counted = {"input_tokens": 190, "output_tokens": 6, "total_tokens": 196}
    assert found["usage"] == dict.fromkeys(COUNTERS) | counted
    assert found["booked"] == dict.fromkeys(COUNTERS) | {"input_tokens": 4, "output_tokens": 6, "total_tokens": 10}
    assert found["marks"] == ["billed_units"]
