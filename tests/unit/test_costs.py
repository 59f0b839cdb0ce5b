"""What providers say that an answer has cost."""

from __future__ import annotations

import math
from typing import Any

import pytest

from services.meter.readers.costs import cost_of
from services.meter.readers.reader import read
from shared.contract.dialects import Dialect
from tests.support.answers import events

COUNTS = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        ({"cost": 0.0076509169000000005, "is_byok": False}, 7_650_917),
        ({"cost": 1.4e-7}, 140),
        ({"cost": 0.0000000005}, 1),  # half up
        ({"cost": 0}, 0),
        ({"cost": 1_000_000}, 10**15),
        ({"cost": {"input_tokens_cost": 0.001, "request_cost": 0.005, "total_cost": 0.006}}, 6_000_000),
        ({"cost_in_usd_ticks": 37_756_000}, 3_775_600),  # a dollar has 10^10
        ({"cost_in_usd_ticks": 5}, 1),
        ({"cost_in_usd_ticks": 4}, 0),
        ({}, None),
        ({"cost": None}, None),
        ({"cost": {}}, None),
        ({"cost": -0.1}, None),
        ({"cost": "0.1"}, None),
        ({"cost": True}, None),
        ({"cost": math.nan}, None),
        ({"cost": math.inf}, None),
        ({"cost": 10**400}, None),
        ({"cost_in_usd_ticks": 10**17}, None),
    ],
)
def test_it_is_rounded_half_up_to_a_nano_dollar(usage: dict[str, Any], nano: int | None) -> None:
    assert cost_of(usage) == nano


CHAT, RESPONSES, MESSAGES = Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.ANTHROPIC_MESSAGES


def chat(*usages: Any) -> bytes:
    delta = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    return events(*({"id": "c", **delta, "usage": usage} for usage in usages)) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize(
    ("dialect", "body", "nano"),
    [
        (CHAT, chat(None, COUNTS | {"cost": 0.00005}), 50_000),
        (CHAT, chat(None, COUNTS), None),
        (CHAT, chat(COUNTS | {"cost": 0.5}, {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0}), 500_000_000),
        (CHAT, chat({"prompt_tokens": 0, "completion_tokens": 0, "cost": 0}), None),  # a placeholder is no fact
        (CHAT, chat({"cost": 0.5}), 500_000_000),  # no tokens are reported, and a cost is
        (
            RESPONSES,
            events(
                {"type": "response.completed", "response": {"id": "r", "usage": COUNTS | {"cost_in_usd_ticks": 90}}}
            ),
            9,
        ),
        (
            MESSAGES,
            events(
                {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}},
                {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9, "cost": 0.002}},
                {"type": "message_stop"},
            ),
            2_000_000,
        ),
    ],
)
def test_it_is_read_wherever_usage_is(dialect: Dialect, body: bytes, nano: int | None, observe: bool) -> None:
    assert read(dialect, body, "text/event-stream", observe=observe).cost_nanousd == nano
