"""OpenAI's usage objects, under the names of chat and of responses, as everyone who copied them sends them. Pure.

A gap between the total and its parts is explained before it is booked: it is cached input behind gateways that kept
Bedrock's meaning, reasoning with xAI and with Gemini's compatible endpoint, audio and connectors with Mistral. What
stays unexplained is booked as reported, and marked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.meter.readers.reading import Json, Report, amounts, count, mapping, most, total
from shared.contract.entry import Mark
from shared.contract.usage import Usage

_DETAILS_IN = (
    "prompt_tokens_details",
    "prompt_token_details",
    "input_tokens_details",
    "input_token_details",
    "promptTokensDetails",
    "inputTokensDetails",
)
_DETAILS_OUT = (
    "completion_tokens_details",
    "completion_token_details",
    "output_tokens_details",
    "output_token_details",
)
_WRITTEN = (
    "cache_write_tokens",
    "cache_creation_tokens",
    "cache_creation_input_tokens",
    "cache_write_input_tokens",
    "cached_creation_tokens",  # new-api
    "cacheWriteInputTokens",
    "cacheCreationInputTokens",
)
_TOOLS = ("web_search_calls", "x_search_calls", "code_interpreter_calls", "file_search_calls", "document_search_calls")
_UNITS = ("seconds", "prompt_audio_seconds", "num_search_queries", "num_sources_used", "total_characters")


def _by_name(**names: tuple[str, ...]) -> dict[str, str]:
    """Which count is meant, by the names that somebody has for it."""
    return {name: meant for meant, all_ in names.items() for name in all_}


_SHARES = {kind: (f"{kind}_tokens",) for kind in ("text", "audio", "image", "video")}
_TOP = _by_name(
    prompt=("prompt_tokens", "input_tokens", "promptTokens", "inputTokens"),
    completion=("completion_tokens", "output_tokens", "completionTokens", "outputTokens"),
    total=("total_tokens", "totalTokens"),
    read=(
        "prompt_cache_hit_tokens",
        "cached_tokens",
        "num_cached_tokens",
        "cache_read_input_tokens",
        "cache_read_tokens",
        "cached_input_tokens",
        "cached_prompt_tokens",
        "prompt_cached_tokens",
        "input_cached_tokens",
        "cache_hit_tokens",
        "cachedTokens",
        "cachedInputTokens",
        "cachedPromptTokens",
        "cacheReadInputTokens",
    ),
    written=_WRITTEN,
    reasoning=("reasoning_tokens",),
)
_INSIDE = _by_name(
    read=("cached_tokens", "cache_read_tokens", "cache_read_input_tokens", "cached_input_tokens", "cachedTokens"),
    written=_WRITTEN,
    **_SHARES,
)
_SHARED = _by_name(**_SHARES)
_OUTSIDE = _by_name(reasoning=("reasoning_tokens",), **_SHARES)
_AGES = _by_name(
    minutes=("ephemeral_5m_input_tokens", "claude_cache_creation_5_m_tokens"),  # the second is new-api's, beside all
    hour=("ephemeral_1h_input_tokens", "claude_cache_creation_1_h_tokens"),
)


@dataclass(slots=True)
class _Parts:
    """The counts of one object, on their way to the normal form."""

    prompt: int | None
    completion: int | None
    total: int | None
    read: int | None
    written: int | None
    reasoning: int | None
    marks: set[Mark] = field(default_factory=set)

    @property
    def gap(self) -> int:
        """What the total has beyond its parts; negative where it is smaller."""
        if self.prompt is None or self.completion is None or self.total is None:
            return 0
        return self.total - self.prompt - self.completion


def report(usage: Json, *, model: str = "", cached: int | None = None) -> Report:
    """A usage object, inclusive. `cached`: a count of cached input that stands elsewhere in the answer."""
    inputs = [mapping(usage[name]) for name in _DETAILS_IN if name in usage]
    top, inside = _counts([usage], _TOP), _counts(inputs, _INSIDE)
    outside = _counts([mapping(usage[name]) for name in _DETAILS_OUT if name in usage], _OUTSIDE)
    split = [mapping(one["cache_creation"]) for one in (usage, *inputs) if "cache_creation" in one]
    ages = _counts([usage, *split], _AGES)
    parts = _Parts(
        prompt=top.get("prompt"),
        completion=top.get("completion"),
        total=top.get("total"),
        read=most(cached, top.get("read"), inside.get("read")),
        written=most(top.get("written"), inside.get("written"), total(*ages.values())),
        reasoning=most(top.get("reasoning"), outside.get("reasoning")),
    )
    _fill(parts)
    _add_what_is_billed_beside(parts, usage)
    _explain_gap(parts, usage, inside, outside, model)
    _check(parts, model)
    return Report(
        Usage(parts.prompt, parts.completion, parts.read, parts.written, parts.reasoning, parts.total).completed(),
        units=_units(usage),
        modalities=_modalities(inside, outside, ages) | _cached(inputs) | _citations(usage),
        marks=frozenset(parts.marks),
    )


def _counts(holders: Iterable[Json], meant: Mapping[str, str]) -> dict[str, int]:
    """Every count there is, the largest where it has several names."""
    found: dict[str, int] = {}
    for holder in holders:
        for name in holder:
            if name in meant:
                value = count(holder, name)
                if value is not None and value >= found.get(meant[name], 0):
                    found[meant[name]] = value
    return found


def _fill(parts: _Parts) -> None:
    """What the other counts imply."""
    if parts.completion is None and parts.reasoning:
        known = parts.total - parts.prompt if parts.total is not None and parts.prompt is not None else 0
        parts.completion = max(parts.reasoning, known)
    if parts.prompt is None and parts.completion is None:
        parts.prompt = parts.total  # Voyage's embeddings report nothing else
    elif parts.prompt is None and parts.completion is not None and (parts.total or 0) > parts.completion:
        parts.prompt = (parts.total or 0) - parts.completion


def _add_what_is_billed_beside(parts: _Parts, usage: Json) -> None:
    """Perplexity's deep research bills the pages it read and its reasoning beside the totals."""
    citations = count(usage, "citation_tokens")
    if citations is None or parts.gap > 0:
        return
    parts.prompt = total(parts.prompt, citations)
    parts.completion = total(parts.completion, parts.reasoning)
    parts.total = None


def _explain_gap(parts: _Parts, usage: Json, inside: Json, outside: Json, model: str) -> None:
    gap = parts.gap
    if gap < 0:
        parts.marks.add(Mark.INCONSISTENT)
        parts.total = None  # a sum is never less than its parts
    if gap <= 0 or parts.prompt is None or parts.completion is None:
        return
    spoken = most(inside.get("audio"), count(usage, "prompt_audio_tokens"))
    fed = (count(usage, "connector_tokens"), count(usage, "citation_tokens"))
    split = _split(
        gap,
        [parts.reasoning, outside.get("audio"), outside.get("image")],
        [parts.read, parts.written, spoken, inside.get("image"), *fed],
    )
    if split is not None:
        parts.prompt += split[0]
        parts.completion += split[1]
    elif usage.get("prompt_audio_seconds") is not None:
        parts.prompt += gap
    elif "gemini" in model:
        parts.completion += gap  # thoughts, which its compatible endpoint has no name for
    else:
        parts.marks.add(Mark.INCONSISTENT)
        if parts.completion < (parts.reasoning or 0) <= gap:
            parts.completion += parts.reasoning or 0


def _split(gap: int, output: list[int | None], beside: list[int | None]) -> tuple[int, int] | None:
    """Input and output that make up the gap, of as few counts as possible; None where nothing reported does."""
    known = [(0, value) for value in output if value] + [(value, 0) for value in beside if value]
    for size in range(1, len(known) + 1):
        for some in itertools.combinations(known, size):
            asked, answered = sum(part[0] for part in some), sum(part[1] for part in some)
            if asked + answered == gap:
                return asked, answered
    return None


def _check(parts: _Parts, model: str) -> None:
    """Sums that cannot be true."""
    cache = (parts.read or 0) + (parts.written or 0)
    if parts.prompt is not None and cache > parts.prompt:
        parts.marks.add(Mark.INCONSISTENT)
        if "claude" in model:  # a relay has kept Anthropic's count, which leaves the cache out
            parts.prompt += cache
            parts.total = None
    if parts.completion is not None and (parts.reasoning or 0) > parts.completion:
        parts.marks.add(Mark.INCONSISTENT)
    if parts.completion and not parts.prompt:
        parts.marks.add(Mark.HALF_REPORT)  # no prompt has 0 tokens
        parts.prompt = parts.total = None


def _units(usage: Json) -> dict[str, float]:
    found = amounts(usage, *_UNITS)
    if "server_tool_use" in usage:
        found |= amounts(mapping(usage["server_tool_use"]), "web_search_requests")
    if "server_side_tool_usage_details" in usage:  # xAI
        found |= amounts(mapping(usage["server_side_tool_usage_details"]), *_TOOLS)
    return found


def _cached(inputs: Sequence[Json]) -> dict[str, int]:
    """What was cached, by its modality; and all of it, where its caller has ordered the cache (Qwen)."""
    details = [mapping(one["cached_tokens_details"]) for one in inputs if "cached_tokens_details" in one]
    found = _counts(details, _SHARED) if details else {}
    ordered = [count(one, "cached_tokens") for one in inputs if one.get("cache_type") == "ephemeral"]
    if most(*ordered):
        found["explicit"] = most(*ordered) or 0
    return {f"cache_read_{kind}": tokens for kind, tokens in found.items() if tokens}


def _citations(usage: Json) -> dict[str, int]:
    """Perplexity's, which are booked as input."""
    tokens = count(usage, "citation_tokens") if "citation_tokens" in usage else None
    return {"input_citation": tokens} if tokens else {}


def _modalities(inside: Json, outside: Json, ages: Json) -> dict[str, int]:
    found = {
        f"{side}_{kind}": tokens
        for side, shares in (("input", inside), ("output", outside))
        for kind, tokens in shares.items()
        if tokens and kind in _SHARES
    }
    return found | {"cache_write_1h": ages["hour"]} if ages.get("hour") else found
