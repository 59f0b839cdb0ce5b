"""What SDKs ask for with their documented base URL, one case for each row of the table at least."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.configured import upstreams
from services.gateway.routing.roots import GEMINI_ROOTS, ROOTS, root_of
from services.gateway.routing.routes import choose, family_of, match
from services.gateway.settings import GatewaySettings
from shared.contract.dialects import Dialect
from shared.runtime.errors import Refused

SETTINGS = {
    "openai": {},
    "anthropic": {},
    "gemini": {},
    "groq": {},
    "azure": {"base_url": "https://mine.openai.azure.com"},
}
BLOCKS = {name: ProviderSettings.model_validate({"api_key": "k"} | given) for name, given in SETTINGS.items()}
ALL = upstreams(GatewaySettings(providers=BLOCKS))
NO_OPENAI = upstreams(GatewaySettings(providers={name: block for name, block in BLOCKS.items() if name != "openai"}))
PLACES = {"o": "https://api.openai.com", "a": "https://api.anthropic.com", "z": "https://mine.openai.azure.com"}
PLACES["g"] = "https://generativelanguage.googleapis.com"
ANTHROPIC = {b"anthropic-version": b"2023-06-01"}
GOOGLE = {b"x-goog-api-key": b"k"}
FREE, BOUGHT = Dialect.METADATA, Dialect.PASSTHROUGH


class Row(NamedTuple):
    """A request, where it goes, and as what."""

    asked: str
    place: str  # o, a, g or z, with the path
    dialect: Dialect
    headers: dict[bytes, bytes] = {}  # noqa: RUF012  # nobody changes it


TABLE = [
    Row("GET /v1/models", "o/v1/models", FREE),
    Row("DELETE /v1/models/ft:gpt-4o:me", "o/v1/models/ft:gpt-4o:me", FREE),
    Row("GET /v1/chat/completions", "o/v1/chat/completions", FREE),
    Row("GET /v1/chat/completions/c", "o/v1/chat/completions/c", FREE),
    Row("POST /v1/chat/completions/c", "o/v1/chat/completions/c", FREE),
    Row("DELETE /v1/chat/completions/c", "o/v1/chat/completions/c", FREE),
    Row("GET /v1/chat/completions/c/messages", "o/v1/chat/completions/c/messages", FREE),
    Row("GET /v1/responses/r/input_items", "o/v1/responses/r/input_items", FREE),
    Row("POST /v1/responses/r/cancel", "o/v1/responses/r/cancel", FREE),
    Row("POST /v1/responses/compact", "o/v1/responses/compact", BOUGHT),
    Row("POST /v1/conversations", "o/v1/conversations", BOUGHT),
    Row("GET /v1/conversations/c/items", "o/v1/conversations/c/items", FREE),
    Row("POST /v1/images/generations", "o/v1/images/generations", BOUGHT),
    Row("POST /v1/images/edits", "o/v1/images/edits", BOUGHT),
    Row("POST /v1/audio/speech", "o/v1/audio/speech", BOUGHT),
    Row("POST /v1/audio/transcriptions", "o/v1/audio/transcriptions", BOUGHT),
    Row("POST /v1/audio/translations", "o/v1/audio/translations", BOUGHT),
    Row("GET /v1/videos/v/content", "o/v1/videos/v/content", FREE),
    Row("POST /v1/moderations", "o/v1/moderations", BOUGHT),
    Row("POST /v1/files", "o/v1/files", BOUGHT),
    Row("GET /v1/files/f/content", "o/v1/files/f/content", FREE),
    Row("DELETE /v1/files/f", "o/v1/files/f", FREE),
    Row("POST /v1/uploads/u/parts", "o/v1/uploads/u/parts", BOUGHT),
    Row("POST /v1/batches", "o/v1/batches", BOUGHT),
    Row("POST /v1/batches/b/cancel", "o/v1/batches/b/cancel", FREE),
    Row("POST /v1/vector_stores/v/search", "o/v1/vector_stores/v/search", BOUGHT),
    Row("POST /v1/fine_tuning/jobs", "o/v1/fine_tuning/jobs", BOUGHT),
    Row("GET /v1/evals/e/runs", "o/v1/evals/e/runs", FREE),
    Row("POST /v1/containers", "o/v1/containers", BOUGHT),
    Row("GET /v1/skills", "o/v1/skills", FREE),
    Row("POST /v1/assistants", "o/v1/assistants", BOUGHT),
    Row("POST /v1/threads/t/runs", "o/v1/threads/t/runs", BOUGHT),
    Row("POST /v1/realtime/client_secrets", "o/v1/realtime/client_secrets", BOUGHT),
    Row("POST /v1/messages/batches", "a/v1/messages/batches", BOUGHT),
    Row("GET /v1/messages/batches/b/results", "a/v1/messages/batches/b/results", FREE),
    Row("POST /v1/files", "a/v1/files", BOUGHT, ANTHROPIC),
    Row("GET /v1/skills/s", "a/v1/skills/s", FREE, ANTHROPIC),
    Row("GET /v1/models", "a/v1/models", FREE, ANTHROPIC),
    Row("GET /v1beta/models/m", "g/v1beta/models/m", FREE),
    Row("GET /v1/models", "g/v1/models", FREE, GOOGLE),
    Row("GET /v1beta/files", "g/v1beta/files", FREE),
    Row("DELETE /v1beta/files/f", "g/v1beta/files/f", FREE),
    Row("POST /v1beta/cachedContents", "g/v1beta/cachedContents", BOUGHT),
    Row("PATCH /v1beta/cachedContents/c", "g/v1beta/cachedContents/c", FREE),
    Row("DELETE /v1beta/cachedcontents/c", "g/v1beta/cachedcontents/c", FREE),
    Row("GET /v1beta/batches/b", "g/v1beta/batches/b", FREE),
    Row("POST /v1beta/batches/b:cancel", "g/v1beta/batches/b:cancel", FREE),
    Row("POST /v1beta/fileSearchStores", "g/v1beta/fileSearchStores", BOUGHT),
    Row("GET /v1beta/tunedModels", "g/v1beta/tunedModels", FREE),
    Row("GET /v1beta/corpora/c", "g/v1beta/corpora/c", FREE),
    Row("GET /v1beta/operations/o", "g/v1beta/operations/o", FREE),
    Row("GET /v1beta/interactions/i", "g/v1beta/interactions/i", FREE),
    Row("POST /upload/v1beta/files", "g/upload/v1beta/files", BOUGHT),
    Row("PUT /upload/v1beta/files", "g/upload/v1beta/files", FREE),
    Row(
        "POST /upload/v1beta/fileSearchStores/s:uploadToFileSearchStore",
        "g/upload/v1beta/fileSearchStores/s:uploadToFileSearchStore",
        BOUGHT,
    ),
    # Gemini's endpoint of OpenAI's dialects
    Row("POST /v1beta/openai/chat/completions", "g/v1beta/openai/chat/completions", Dialect.OPENAI_CHAT),
    Row("POST /v1beta/openai/embeddings", "g/v1beta/openai/embeddings", Dialect.OPENAI_EMBEDDINGS),
    Row("GET /v1beta/openai/models", "g/v1beta/openai/models", FREE),
    Row("POST /v1beta/openai/images/generations", "g/v1beta/openai/images/generations", BOUGHT),
    # base URLs without a version, and OpenRouter's
    Row("POST /chat/completions", "o/v1/chat/completions", Dialect.OPENAI_CHAT),
    Row("POST /completions", "o/v1/completions", Dialect.OPENAI_COMPLETIONS),
    Row("POST /responses", "o/v1/responses", Dialect.OPENAI_RESPONSES),
    Row("POST /embeddings", "o/v1/embeddings", Dialect.OPENAI_EMBEDDINGS),
    Row("GET /models", "o/v1/models", FREE),
    Row("POST /images/generations", "o/v1/images/generations", BOUGHT),
    Row("POST /messages", "a/v1/messages", Dialect.ANTHROPIC_MESSAGES),
    Row("POST /models/m:generateContent", "g/v1beta/models/m:generateContent", Dialect.GEMINI, GOOGLE),
    Row("POST /api/v1/chat/completions", "o/v1/chat/completions", Dialect.OPENAI_CHAT),
    # Azure's SDK, by its api-version
    Row("POST /openai/responses?api-version=2025-04-01-preview", "z/openai/responses", Dialect.OPENAI_RESPONSES),
    Row("GET /openai/responses/r?api-version=2025-04-01-preview", "z/openai/responses/r", FREE),
    Row("POST /openai/files?api-version=2024-10-21", "z/openai/files", BOUGHT),
    Row("POST /openai/v1/responses?api-version=preview", "z/openai/v1/responses", Dialect.OPENAI_RESPONSES),
    Row("POST /azure/openai/responses?api-version=2025-04-01", "z/openai/responses", Dialect.OPENAI_RESPONSES),
    Row("POST /azure/openai/v1/responses", "z/openai/v1/responses", Dialect.OPENAI_RESPONSES),
    Row("POST /openai/responses", "o/v1/responses", Dialect.OPENAI_RESPONSES),
]


def routed(row: Row, model: str = "m", known: object = ALL) -> tuple[str, str, Dialect]:
    """Provider, URL and dialect."""
    configured = NO_OPENAI if known is NO_OPENAI else ALL
    method, _, target = row.asked.partition(" ")
    path, _, query = target.partition("?")
    family = family_of(path, row.headers, query.encode())
    matched = match(method, path, family, configured, dated="api-version=" in query)
    chosen = choose(matched, model, configured)
    return chosen.upstream.provider, chosen.url, matched.dialect


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.asked} {row.place[0]}")
def test_it_goes_to_the_provider_of_its_family(row: Row) -> None:
    provider = {"o": "openai", "a": "anthropic", "g": "gemini", "z": "azure"}[row.place[0]]
    assert routed(row) == (provider, PLACES[row.place[0]] + row.place[1:], row.dialect)


def test_every_row_of_the_table_has_a_case() -> None:
    found = set()
    for row in TABLE:
        method, _, path = row.asked.removesuffix("?").partition(" ")
        version, _, rest = path.removeprefix("/upload").lstrip("/").partition("/")
        found.add(root_of(method, rest, version, family_of(path, row.headers, b"")))
    assert found >= {*ROOTS, *GEMINI_ROOTS}


def test_a_prefix_names_another_provider_here_too() -> None:
    row = Row("POST /v1/audio/transcriptions", "", BOUGHT)
    assert routed(row, "groq/whisper") == ("groq", "https://api.groq.com/openai/v1/audio/transcriptions", BOUGHT)


def test_without_openai_azure_has_its_sdks_paths() -> None:
    row = Row("POST /openai/responses", "", BOUGHT)
    expected = ("azure", "https://mine.openai.azure.com/openai/responses", Dialect.OPENAI_RESPONSES)
    assert routed(row, known=NO_OPENAI) == expected


@pytest.mark.parametrize(
    "asked",
    [
        "POST /v1/nothing",
        "POST /nothing",
        "POST /upload/v1beta/nothing",
        "POST /upload/v1/images",
        "POST /upload",
        "DELETE /v1/images2",
        "GET /v1/embeddings",
        "POST /v1/models",
    ],
)
def test_what_no_sdk_asks_for_is_not_found(asked: str) -> None:
    with pytest.raises(Refused) as refused:
        routed(Row(asked, "", BOUGHT))
    assert refused.value.status == 404
