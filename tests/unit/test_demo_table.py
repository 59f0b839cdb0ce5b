"""The demo's verdict: what it takes for 'Every count agrees.'"""

import json
from typing import Any

import pytest

from services.cli import demo_requests, demo_table
from shared.books.totals import Row
from shared.contract.booked import BOOKED

USAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12, "reasoning_tokens": 1}
COUNTS = dict.fromkeys(BOOKED, 0) | USAGE | {"requests": 1}


def row(provider: str, model: str, **changes: int) -> Row:
    return {"provider": provider, "model": model, **COUNTS, **changes}


def line(dialect: str, model: str, ended: str = "complete", **changes: Any) -> str:
    usage = None if ended == "cut" else {"cache_read_tokens": None, "cache_write_tokens": None, **USAGE}
    return json.dumps({"dialect": dialect, "model": model, "ended": ended, "tokens": 3, "usage": usage, **changes})


EMITTED = [
    line("openai_chat", "gpt"),
    line("anthropic_messages", "claude", ended="cut"),
    line("metadata", "", usage=None),
]
BOOKS = [row("openai", "gpt"), row("anthropic", "claude", partial_requests=1)]


@pytest.mark.parametrize(
    ("booked", "agreed"),
    [
        (BOOKS, True),
        (BOOKS[:1], False),
        ([*BOOKS, row("gemini", "g")], False),
        ([row("openai", "gpt", output_tokens=6), BOOKS[1]], False),
        ([row("openai", "gpt", requests=2), BOOKS[1]], False),
        ([BOOKS[0], row("anthropic", "claude")], False),
        ([BOOKS[0], row("anthropic", "claude", partial_requests=1, output_tokens=0)], False),
    ],
)
def test_every_count_must_agree(booked: list[Row], agreed: bool) -> None:
    asked = demo_requests.all_requests([])
    assert demo_table.compare(booked, demo_table.emitted(EMITTED, asked), [])[1] is agreed


def test_each_row_says_where_its_figures_come_from() -> None:
    booked = [*BOOKS, row("gemini", "g")]
    asked = demo_requests.all_requests(["gemini"])
    lines, agreed = demo_table.compare(booked, demo_table.emitted(EMITTED, asked), ["gemini"])
    assert agreed
    assert [text.split()[-1] for text in lines[1::2]] == ["reported", "partial", "reported"]
    assert lines[2].split() == ["the", "provider", "reported", "1", "7", "5", "0", "0", "1", "12"]
    assert lines[4] == "  the provider broke off after 3 words"
    assert not demo_table.compare(
        [row("gemini", "g", estimated_requests=1)], demo_table.emitted([], asked), ["gemini"]
    )[1]


def test_a_real_provider_is_not_asked_to_break_off() -> None:
    assert [request.title for request in demo_requests.all_requests([]) if request.cut] == ["Anthropic, cut off"]
    assert not any(request.cut for request in demo_requests.all_requests(["anthropic"]))
    assert "OpenAI completions" not in [request.title for request in demo_requests.all_requests(["openai"])]
