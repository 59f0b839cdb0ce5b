"""A request body taken apart by what its pieces cost, whatever its dialect. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.meter.estimate.blobs import Blob, Kind, blob_of, blob_of_text, text_of


@dataclass(slots=True)
class Request:
    """What a request asks a model to read."""

    texts: list[str] = field(default_factory=list)  # said in messages and instructions
    thoughts: list[str] = field(default_factory=list)  # earlier reasoning, which some providers drop
    schemas: list[str] = field(default_factory=list)  # of the answer, as JSON
    tools: list[str] = field(default_factory=list)  # the caller's own, as JSON
    blobs: list[Blob] = field(default_factory=list)
    messages: int = 0  # instructions among them
    token_ids: int = 0
    opaque: int = 0  # characters of the running turn's reasoning that only the provider can read
    opaque_past: int = 0  # the same of earlier turns, which most providers drop
    builtin: list[str] = field(default_factory=list)  # tools the provider runs itself, as JSON
    documents: int = 0
    calls: int = 0  # earlier tool calls and their results
    choice: str = ""  # of tools: "forced", "none", or nothing of the kind
    thinking: bool = False  # switched on, in Anthropic's way
    thinks: bool | None = None  # what is said of reasoning, in anybody's: on, off, or nothing
    cited: bool = False  # a document may be quoted
    chat: bool = False  # `messages`, as on OpenAI's chat path
    stored: bool = False  # an earlier conversation, kept by the provider, comes before it


_MESSAGES = ("messages", "input", "contents", "content", "requests", "prompt", "message", "chat_history", "inputText")
_INSTRUCTIONS = ("system", "instructions", "systemInstruction", "system_instruction", "preamble")
_SCHEMAS = (
    "response_format",
    "text",
    "format",
    "output_format",
    "responseSchema",
    "response_schema",
    "responseJsonSchema",
)
_STORED = ("previous_response_id", "conversation", "previous_interaction_id", "cachedContent", "conversation_id")
# Names whose values are identifiers or settings, not text the model reads.
_NOT_TEXT = frozenset(
    {"role", "type", "id", "status", "model", "detail", "format", "index", "phase", "annotations", "logprobs"}
    | {"tool_call_id", "tool_use_id", "toolUseId", "call_id", "generation_id", "cache_control"}
    | {"mimeType", "mime_type", "media_type"}
)
_OPAQUE = frozenset(["signature", "thoughtSignature", "thought_signature", "encrypted_content", "encrypted_index"])
_THOUGHTS = frozenset(["reasoning_content", "reasoning", "thinking", "reasoning_details", "summary", "reasoningText"])
_VALUES = frozenset(
    ["args", "arguments", "response", "json", "parameters", "outputs"]
)  # of a call: objects, read as JSON
_FILES_OF_TEXT = 2_000_000  # bytes: no more of a file is counted exactly
_FUNCTION_TYPES = ("function", "custom", None)
_FORCED = ("any", "tool", "required", "function", "REQUIRED")
_DEEP = 64
_KEPT_REASONING = 4_000  # characters: reasoning the provider has kept, and is only named here


def take_apart(document: dict[str, Any]) -> Request:
    """The pieces of a decoded request."""
    request = Request()
    for name in _MESSAGES:
        _take_messages(request, document.get(name))
    for name in _INSTRUCTIONS:
        if document.get(name):
            request.messages += 1
            _walk(request, document[name], "", 0)
    _take_documents(request, document.get("documents"))
    _walk(request, document.get("tool_results"), "", 0)
    _take_tools(request, document)
    _take_schemas(request, document)
    request.chat = "messages" in document
    request.stored = any(document.get(name) for name in _STORED)
    thinking = document.get("thinking")
    request.thinking = isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")
    request.thinks = _thinks(document)
    return request


# Where dialects say how much to think, and the words, numbers and values that mean not at all.
_EFFORTS = (
    ("thinking", "type"),
    ("reasoning", "effort"),
    ("reasoning", "enabled"),
    ("reasoning_effort",),
    ("output_config", "effort"),
    ("generationConfig", "thinkingConfig", "thinkingBudget"),
    ("generationConfig", "thinkingConfig", "thinkingLevel"),
    ("generation_config", "thinking_level"),
    ("chat_template_kwargs", "enable_thinking"),
    ("enable_thinking",),
    ("think",),
)
_NO_EFFORT = ("none", "minimal", "disabled", 0, False)


def _thinks(document: dict[str, Any]) -> bool | None:
    for path in _EFFORTS:
        value: Any = document
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, (dict, list)):
            return (value.lower() if isinstance(value, str) else value) not in _NO_EFFORT
    return None


def _take_messages(request: Request, value: Any) -> None:
    for message in value if isinstance(value, list) else [value]:
        if message is None:
            continue
        if isinstance(message, (int, list)):
            request.token_ids += _ints(message)
            if isinstance(message, int):
                continue
        else:
            request.messages += 1
        if _begins_turn(message):
            request.opaque_past, request.opaque = request.opaque_past + request.opaque, 0
        _walk(request, message, "", 0)


def _begins_turn(message: Any) -> bool:
    """Whether a person speaks: results of tools are said in their name, too."""
    if not isinstance(message, dict) or message.get("role") not in ("user", "USER"):
        return False
    content = message.get("content") or message.get("parts")
    parts = content if isinstance(content, list) else [content]
    return any(
        isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str)) for part in parts
    )


def _ints(value: Any) -> int:
    return sum(isinstance(item, int) for item in value) if isinstance(value, list) else 1


def _take_documents(request: Request, documents: Any) -> None:
    """Cohere's: strings, or objects with the text in `data`, of which title and text are read."""
    for document in documents if isinstance(documents, list) else ():
        request.documents += 1
        request.texts.append(document if isinstance(document, str) else _json(document))


def _take_tools(request: Request, document: dict[str, Any]) -> None:
    settings = document.get("toolConfig")
    tools = document.get("tools") or (settings.get("tools") if isinstance(settings, dict) else None)
    for tool in tools if isinstance(tools, list) else ():
        _take_tool(request, tool)
    functions = document.get("functions")
    request.tools += [_json(function) for function in functions] if isinstance(functions, list) else []
    for name in ("plugins", "web_search_options", "mcp_servers", "connectors"):
        if document.get(name):
            request.builtin.append(name + _json(document[name]))
    choice = document.get("tool_choice")
    choice = choice.get("type") if isinstance(choice, dict) else choice
    request.choice = "none" if choice == "none" else "forced" if choice in _FORCED else ""


def _take_tool(request: Request, tool: Any) -> None:
    if not isinstance(tool, dict):
        return
    declared = tool.get("functionDeclarations") or tool.get("function_declarations")
    if isinstance(tool.get("tools"), list):  # a namespace
        request.tools += [_json(inner) for inner in tool["tools"]]
    elif isinstance(declared, list):
        request.tools += [_json(function) for function in declared]
    elif "input_schema" in tool or "parameter_definitions" in tool or "toolSpec" in tool or "function" in tool:
        request.tools.append(_json(next((tool[k] for k in ("toolSpec", "function") if k in tool), tool)))
    elif "name" in tool and tool.get("type") in _FUNCTION_TYPES:
        request.tools.append(_json(tool))
    else:
        request.builtin.append(_json(tool))


def _take_schemas(request: Request, document: dict[str, Any]) -> None:
    places = [document, document.get("generationConfig"), document.get("output_config")]
    for place in places:
        for name in _SCHEMAS:
            value = place.get(name) if isinstance(place, dict) else None
            text = _json(value) if isinstance(value, dict) else ""
            if "schema" in text or "properties" in text:
                request.schemas.append(text)


def _walk(request: Request, value: Any, name: str, depth: int) -> None:
    """Everything in a value that a model reads; `name` is the field it stands in."""
    if depth > _DEEP or value is None:
        return
    if isinstance(value, str):
        _take_text(request, value, name)
    elif isinstance(value, list):
        for item in value:
            _walk(request, item, name, depth + 1)
    elif isinstance(value, dict):
        _walk_part(request, value, depth)


def _take_text(request: Request, text: str, name: str) -> None:
    if name in _OPAQUE:
        request.opaque += len(text)
    elif name == "images":
        request.blobs.append(blob_of_text(text, Kind.IMAGE))
    elif name not in _NOT_TEXT:
        (request.thoughts if name in _THOUGHTS else request.texts).append(text)


def _walk_part(request: Request, part: dict[str, Any], depth: int) -> None:
    kind = part.get("type")
    if kind in ("reasoning", "redacted_thinking", "reasoning.encrypted"):
        opaque = str(part.get("encrypted_content") or part.get("data") or "")
        request.opaque += len(opaque) or (_KEPT_REASONING if part.get("id") else 0)
        return
    if kind == "item_reference":
        request.stored = True
        return
    if _take_blob(request, part, depth):
        return
    if part.get("tool_calls") or kind in ("tool_use", "tool_result", "function_call", "function_call_output"):
        request.calls += 1
    for name, item in part.items():
        if (name in _VALUES or (name == "input" and kind == "tool_use")) and isinstance(item, (dict, list)):
            request.texts.append(_json(item))
        elif name in _NOT_TEXT or isinstance(item, int):
            continue
        elif name in _THOUGHTS:
            _walk_thoughts(request, item, depth)
        else:
            _walk(request, item, name, depth + 1)


def _walk_thoughts(request: Request, value: Any, depth: int) -> None:
    inner = Request()
    _walk(inner, value, "", depth + 1)
    request.thoughts += inner.texts + inner.thoughts
    request.opaque += inner.opaque


def _take_blob(request: Request, part: dict[str, Any], depth: int) -> bool:
    """Take a part that is media; whether it was."""
    blob = blob_of(part)
    if blob is None:
        return False
    citations = part.get("citations")
    request.cited = request.cited or (isinstance(citations, dict) and citations.get("enabled") is True)
    source = part.get("source") or part.get("document")
    if isinstance(source, dict) and (source.get("type") in ("text", "content") or "content" in source):
        for name in ("data", "content"):  # Anthropic's documents of text, and of blocks
            _walk(request, source.get(name), "text", depth + 1)
    elif isinstance(source, dict) and isinstance(source.get("data"), dict):
        request.texts.append(_json(source["data"]))  # Cohere's documents in tool results
    elif blob.kind is Kind.TEXT and blob.data is not None:
        request.texts.append(text_of(blob, _FILES_OF_TEXT))
    else:
        request.blobs.append(blob)
    for name in ("title", "context", "text"):
        if isinstance(part.get(name), str):
            request.texts.append(part[name])
    return True


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
