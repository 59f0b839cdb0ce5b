"""Log lines: as JSON, and without anything that looks like a credential."""

from __future__ import annotations

import json
import logging

import pytest

from shared.runtime.logs import JsonFormatter, TextFormatter, redacted


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "x", "levelname": "WARNING", "msg": message, "args": arguments, **extra})


@pytest.mark.parametrize(
    "secret",
    [
        "lr_live_0123456789abcdef0123456789abcdef0123456789abcdef",
        "lr_mgmt_0123456789abcdef0123456789abcdef0123456789abcdef",
        "sk-ant-REDACTED",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "gsk_1234567890abcdefghijkl",
        "xai-1234567890abcdefghijkl",
    ],
)
@pytest.mark.parametrize("around", ["{}", "Bearer {}", "GET /v1/models?key={}&alt=sse", "redis://:{}@host:6379/0"])
def test_credentials_are_struck_out(secret: str, around: str) -> None:
    said = redacted(around.format(secret))
    assert secret[12:] not in said
    assert "…" in said


@pytest.mark.parametrize("text", ["risk-averse people ask", "task-1 sk-", "http://127.0.0.1:8080/v1", "a key=value"])
def test_other_text_stays(text: str) -> None:
    assert redacted(text) == text


def test_json_lines_name_the_exchange() -> None:
    line = json.loads(JsonFormatter().format(record("it %s", "broke", exchange_id="B.1.2")))
    assert (line["level"], line["logger"], line["message"], line["exchange_id"]) == (
        "warning",
        "x",
        "it broke",
        "B.1.2",
    )
    assert line["time"].endswith("+00:00")


def test_json_lines_hold_the_exception() -> None:
    error = ValueError("sk-0123456789abcdef")
    line = json.loads(JsonFormatter().format(record("no", exc_info=(ValueError, error, None))))
    assert "ValueError" in line["exception"]
    assert "0123456789abcdef" not in line["exception"]


def test_a_message_is_one_line() -> None:
    """A model's name, say, is a caller's text, and must not make up lines of its own."""
    said = TextFormatter("%(message)s").format(record("model %s", "a\nINFO forged\u2028b\x00\x1b[2J"))
    assert said == "model a\\nINFO forged\\u2028b\\x00\\x1b[2J"
    broken = record("no", exc_info=(ValueError, ValueError("x"), None))
    assert "\nValueError: x" in TextFormatter("%(message)s").format(broken)
