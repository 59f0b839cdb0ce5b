"""Tails as a gateway writes them, made by hand."""

from __future__ import annotations

import json

from shared.contract import names, tail
from shared.contract.dialects import Dialect
from shared.contract.ids import ExchangeId
from shared.contract.tail import End, Fields, Open, Outcome, Packed, Record, Segment
from shared.runtime.store import Store

KEY = "a" * 64
OPENED_MS = 1_700_000_000_000  # 2023-11-14 22:13 UTC


def records(
    id: ExchangeId, *, prompt: int = 10, answer: int = 20, key: str = KEY, segments: int = 1, team: str = ""
) -> list[Fields]:
    """The records of one completed chat exchange that reports these counts."""
    usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    body = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n"
    opened = Open(key, Dialect.OPENAI_CHAT, "openai", "gpt-4o", OPENED_MS, True, "/v1/chat/completions", team=team)
    pieces = [Segment(Packed.pack(b": part\n\n")) for _ in range(segments)]
    end = End(Outcome.COMPLETED, 200, "text/event-stream", "", len(body), 5, 1, 2, "req", Packed.pack(body))
    whole: list[Record] = [opened, *pieces, end]
    return [tail.encode(id, seq, record) for seq, record in enumerate(whole)]


async def send(store: Store, id: ExchangeId, fields: list[Fields]) -> None:
    """Append records to the shard's stream."""
    for record in fields:
        await store.xadd(names.tail(id.shard), record)  # type: ignore[arg-type]
