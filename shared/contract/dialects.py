"""Dialects: the forms of requests and answers."""

from __future__ import annotations

from enum import StrEnum


class Family(StrEnum):
    """The dialects of one SDK: they share a credential header, an error envelope and a default provider."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    BEDROCK = "bedrock"


class Dialect(StrEnum):
    """The form of an exchange; it decides how the meter reads its tail."""

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
    # WebSockets; what is in their tails is told by `messages.py`.
    OPENAI_REALTIME = "openai_realtime"
    OPENAI_RESPONSES_SOCKET = "openai_responses_socket"
    GEMINI_LIVE = "gemini_live"
    # Meters read them, and gateways do not route them: Bedrock's requests are signed for its own host.
    BEDROCK_CONVERSE = "bedrock_converse"
    BEDROCK_CONVERSE_STREAM = "bedrock_converse_stream"
    BEDROCK_INVOKE = "bedrock_invoke"
    BEDROCK_INVOKE_STREAM = "bedrock_invoke_stream"
    # Exchanges that buy no tokens: they are booked as requests with zero counters.
    COUNT_TOKENS = "count_tokens"
    METADATA = "metadata"  # lists, look-ups, deletions
    # Any other path of a provider: usage is booked where the answer states it, zero otherwise.
    PASSTHROUGH = "passthrough"


# Usage of these is never estimated.
TOKENLESS = frozenset({Dialect.COUNT_TOKENS, Dialect.METADATA, Dialect.PASSTHROUGH})

SOCKETS = frozenset({Dialect.OPENAI_REALTIME, Dialect.OPENAI_RESPONSES_SOCKET, Dialect.GEMINI_LIVE})
# Those whose messages name the model, and not their handshake.
LATE_MODELS = frozenset({Dialect.OPENAI_RESPONSES_SOCKET, Dialect.GEMINI_LIVE})
