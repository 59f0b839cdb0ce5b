"""Dialects: the wire shapes a client can speak, named as everywhere else in the project."""

from __future__ import annotations

from enum import StrEnum


class Family(StrEnum):
    """Whose conventions a dialect follows: its credential header, error envelope and default provider."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


class Dialect(StrEnum):
    """The wire shape of one exchange; it decides how its tail is read."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_COMPLETIONS = "openai_completions"
    OPENAI_RESPONSES = "openai_responses"
    OPENAI_EMBEDDINGS = "openai_embeddings"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    GEMINI = "gemini"
    GEMINI_INTERACTIONS = "gemini_interactions"
    COHERE_V1_CHAT = "cohere_v1_chat"
    COHERE_V2_CHAT = "cohere_v2_chat"
    OLLAMA_CHAT = "ollama_chat"
    # Read, not routed: Bedrock wants requests signed for its own host.
    BEDROCK_CONVERSE = "bedrock_converse"
    BEDROCK_CONVERSE_STREAM = "bedrock_converse_stream"
    BEDROCK_INVOKE = "bedrock_invoke"
    BEDROCK_INVOKE_STREAM = "bedrock_invoke_stream"
    # Exchanges that buy no tokens: they are booked as requests with zero counters.
    COUNT_TOKENS = "count_tokens"
    METADATA = "metadata"  # lists, look-ups, deletions
    # A path of a provider that no reader knows: usage is booked where the answer states it, zero otherwise.
    PASSTHROUGH = "passthrough"


# Reported or not, these have no tokens to estimate.
TOKENLESS = frozenset({Dialect.COUNT_TOKENS, Dialect.METADATA, Dialect.PASSTHROUGH})
