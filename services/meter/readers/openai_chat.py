"""OpenAI chat completions, legacy completions and embeddings, with the variations of everyone who copied them.

A usage object is a snapshot: the last one wins whole. Where it stands differs (see `_usage_of`), and so does what its
parts include (see `normal_form`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from services.meter.readers.reading import (
    CALL,
    REASONING,
    TEXT,
    Json,
    Marks,
    Reading,
    count,
    first_count,
    mapping,
    sequence,
    text,
)
from shared.contract.usage import Usage


class ChatReader:
    """Reads `chat.completion(.chunk)`, `text_completion` and embedding documents."""

    marks: ClassVar[Marks] = Marks(
        every=(b'finish_reason":"', b'finish_reason": "', b"[DONE]"), last=(b'"usage":{', b'"usage": {')
    )

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        reading.response_id = reading.response_id or text(document.get("id"))
        reading.model = text(document.get("model")) or reading.model
        reading.service_tier = text(document.get("service_tier")) or reading.service_tier
        usage = _usage_of(document)
        if usage:
            reading.raw_usage = dict(usage)
            reading.usage = normal_form(usage)
        self._read_error(event, document)
        # Perplexity's last document repeats the whole message; only deltas are new there.
        repeats = document.get("object") == "chat.completion.done"
        for choice in map(mapping, sequence(document.get("choices"))):
            if choice.get("finish_reason"):
                reading.finish.append(choice["finish_reason"])
            if observe and not repeats:
                index = choice.get("index")
                reading.say(TEXT, index, choice.get("text"))
                _observe(reading, index, mapping(choice.get("delta")) or mapping(choice.get("message")))
        if document.get("object") in ("chat.completion", "text_completion") and reading.finish:
            reading.complete = True

    def done(self) -> None:
        """`data: [DONE]` was seen."""
        self.reading.complete = True

    def _read_error(self, event: bytes, document: Json) -> None:
        error = document.get("error")
        if error is None and (event == b"error" or document.get("object") == "error"):
            error = dict(document)  # gpustack and vLLM put the error where the document should be
        if error:
            self.reading.error = error


def _usage_of(document: Json) -> Json | None:
    """Top level; else Groq's `x_groq`; else Moonshot's, in the choice that finishes."""
    places: list[Any] = [document.get("usage"), mapping(document.get("x_groq")).get("usage")]
    for choice in sequence(document.get("choices")):
        places.append(mapping(choice).get("usage"))
        places.append(mapping(mapping(choice).get("delta")).get("usage"))
    return next((place for place in places if isinstance(place, dict) and place), None)


def normal_form(usage: Json) -> Usage:
    """A chat, completions or embeddings usage object, inclusive.

    What the total has beyond prompt and completion is real: audio input with Mistral, reasoning with xAI and with
    Gemini's compatible endpoint.
    """
    details_in = mapping(usage.get("prompt_tokens_details"))
    details_out = mapping(usage.get("completion_tokens_details"))
    # Images and audio of OpenAI's report under the names of responses.
    prompt = first_count(count(usage, "prompt_tokens"), count(usage, "input_tokens"))
    completion = first_count(count(usage, "completion_tokens"), count(usage, "output_tokens"))
    total = count(usage, "total_tokens")
    reasoning = first_count(count(details_out, "reasoning_tokens"), count(usage, "reasoning_tokens"))
    if prompt is not None and completion is not None and total is not None and total > prompt + completion:
        gap = total - prompt - completion
        audio = first_count(count(details_in, "audio_tokens"), count(usage, "prompt_audio_tokens"))
        if gap == audio or "prompt_audio_seconds" in usage:
            prompt += gap
        else:
            completion += gap
    elif prompt is None and completion is None:
        prompt = total  # Voyage's embeddings report nothing else
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_tokens=first_count(
            count(details_in, "cached_tokens"),
            count(usage, "prompt_cache_hit_tokens"),
            count(usage, "cached_tokens"),
            count(usage, "num_cached_tokens"),
            count(usage, "cache_read_input_tokens"),
        ),
        cache_write_tokens=first_count(
            count(details_in, "cache_write_tokens"), count(usage, "cache_creation_input_tokens")
        ),
        reasoning_tokens=reasoning,
        total_tokens=total,
    ).completed()


def _observe(reading: Reading, index: Any, part: Json) -> None:
    """What a delta or message says, each thing once."""
    content = part.get("content")
    reading.say(TEXT, index, content, part.get("refusal"))
    for piece in map(mapping, sequence(content)):  # Mistral: [{"type": "thinking", "thinking": [{"text": …}]}, …]
        reading.say(TEXT, index, piece.get("text"))
        reading.say(REASONING, index, *(mapping(thought).get("text") for thought in sequence(piece.get("thinking"))))
    reading.say(REASONING, index, _reasoning_of(part))
    for call in map(mapping, sequence(part.get("tool_calls"))):
        function = mapping(call.get("function"))
        reading.say(CALL, f"{index} {call.get('index')}", function.get("name"), function.get("arguments"))
    function = mapping(part.get("function_call"))
    reading.say(CALL, index, function.get("name"), function.get("arguments"))


def _reasoning_of(part: Json) -> str:
    """Reasoning text; OpenRouter sends the same text in two fields."""
    plain = text(part.get("reasoning_content")) or text(part.get("reasoning"))
    if plain:
        return plain
    details = (mapping(detail) for detail in sequence(part.get("reasoning_details")))
    return "".join(text(detail.get("text")) or text(detail.get("summary")) for detail in details)
