"""The words of OpenTelemetry's conventions for generative AI (1.37 and later, in development), in one table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shared.contract.dialects import TOKENLESS, Dialect
from shared.contract.entry import Ended, Entry
from shared.contract.tail import Outcome

Value = str | int | bool | list[str]

# gen_ai.provider.name; a provider that is not here has its own name.
PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
# gen_ai.operation.name, by the wire shape; the other shapes are chats, and what is no call of a model has its own name.
OPERATIONS: Mapping[str, str] = {
    **{dialect: str(dialect) for dialect in TOKENLESS},
    Dialect.OPENAI_COMPLETIONS: "text_completion",
    Dialect.OPENAI_EMBEDDINGS: "embeddings",
    Dialect.GEMINI: "generate_content",
}


def operation(entry: Entry) -> str:
    """gen_ai.operation.name of an exchange."""
    return OPERATIONS.get(entry.dialect, "chat")


def error_type(entry: Entry) -> str:
    """error.type: the cause as the ledger has it, or the status; "" for an exchange that is no error. A client that has
    left is none."""
    if entry.outcome == Outcome.CLIENT_GONE:
        return ""
    if entry.cause or entry.outcome != Outcome.COMPLETED:
        return entry.cause or entry.outcome
    if entry.ended == Ended.ERROR:
        return str(entry.status or Ended.ERROR)
    return entry.ended if entry.ended in (Ended.TRUNCATED, Ended.CUT, Ended.UNREADABLE) else ""


# Attributes of a span, by what they have of an entry. What is unknown, or not there, has no attribute.
ATTRIBUTES: Mapping[str, Callable[[Entry], Value | None]] = {
    "gen_ai.operation.name": operation,
    "gen_ai.provider.name": lambda e: PROVIDERS.get(e.provider, e.provider),
    "gen_ai.request.model": lambda e: e.model,
    "gen_ai.response.model": lambda e: e.response_model,
    "gen_ai.response.id": lambda e: e.response_id,
    "gen_ai.response.finish_reasons": lambda e: [one for one in e.finish if isinstance(one, str)][:16],
    "gen_ai.conversation.id": lambda e: e.session,
    "gen_ai.usage.input_tokens": lambda e: e.input_tokens,
    "gen_ai.usage.output_tokens": lambda e: e.output_tokens,
    "gen_ai.usage.cache_read.input_tokens": lambda e: e.cache_read_tokens,
    "gen_ai.usage.cache_creation.input_tokens": lambda e: e.cache_write_tokens,
    "gen_ai.usage.reasoning.output_tokens": lambda e: e.reasoning_tokens,
    "http.response.status_code": lambda e: e.status,
    "error.type": error_type,
    # No convention has a word for these.
    "arouter.exchange.id": lambda e: e.exchange_id,
    "arouter.key": lambda e: e.key,
    "arouter.team": lambda e: e.team,
    "arouter.user": lambda e: e.user,
    "arouter.tags": lambda e: list(e.tags),
    "arouter.credential": lambda e: e.credential,
    "arouter.requested_model": lambda e: e.requested_model,
    "arouter.attempts": lambda e: len(e.attempts) or None,
    "arouter.outcome": lambda e: e.outcome,
    "arouter.usage.source": lambda e: e.source,
    "arouter.cost_nanousd": lambda e: e.cost_nanousd,
    "arouter.streamed": lambda e: e.streamed,
    "arouter.first_byte_ms": lambda e: e.first_byte_ms,
}

TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105  # tokens of a model
DURATION = "gen_ai.client.operation.duration"
# As the conventions want their buckets.
TOKEN_BOUNDS = tuple(4.0**power for power in range(14))
SECOND_BOUNDS = tuple(0.01 * 2**power for power in range(14))


def attributes(entry: Entry) -> Iterator[tuple[str, Value]]:
    """The attributes of an exchange's span."""
    for name, of in ATTRIBUTES.items():
        value: Any = of(entry)
        if value is not None and value not in ("", []):
            yield name, value
