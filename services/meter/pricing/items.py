"""What can have a price, and how much of it an exchange used. Pure.

The counters of an entry include each other; the quantities here do not: each token is in exactly one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Final, NamedTuple

from shared.contract.usage import Usage

_NONE: Mapping[str, float] = MappingProxyType({})
_KINDS: Final = ("audio", "image", "video")

# Prices of a million tokens, each with the prices that stand in for it where a book does not name it, in order. The
# input's items come as a prompt does: what is cached is its beginning.
INPUT: Final[Mapping[str, tuple[str, ...]]] = {
    "cached_audio": ("cached_input", "input_audio", "input"),
    "cached_image": ("cached_input", "input_image", "input"),
    "cached_video": ("cached_input", "input_video", "input"),
    "cached_explicit": ("cached_input", "input"),  # Qwen's, which its caller has ordered
    "cached_input": ("input",),
    "cache_write": ("input",),
    "cache_write_1h": ("cache_write", "input"),
    "input_audio": ("input",),
    "input_image": ("input",),
    "input_video": ("input",),
    "citation": ("input",),  # of pages that a search has read
    "tool_image_input": ("input_image", "input"),  # of an image model that was called as a tool
    "input": (),
}
OUTPUT: Final[Mapping[str, tuple[str, ...]]] = {
    "output": (),
    "reasoning": ("output",),
    "output_audio": ("output",),
    "output_image": ("output",),
    "output_video": ("output",),
    "tool_image_output": ("output_image", "output"),
}
TOKENS: Final[Mapping[str, tuple[str, ...]]] = {**INPUT, **OUTPUT}

# Prices of a single one of something, by the names that providers have for it.
_NAMES: Final = {
    "request": (),
    "web_search": ("web_search_requests", "web_search_num_requests", "num_search_queries", "web_search_calls"),
    "grounded_request": (),  # one that searched at all: Gemini 2.5 bills these, and Gemini 3 each search
    "web_fetch": ("web_fetch_requests",),
    "x_search": ("x_search_calls",),
    "file_search": ("file_search_calls",),
    "document_search": ("document_search_calls",),
    "code_execution": ("code_execution_requests", "code_interpreter_calls"),
    "search_unit": ("search_units",),
    "classification": ("classifications",),
    "source": ("num_sources_used",),
    "image": ("images",),
    "second": ("seconds", "prompt_audio_seconds", "audio_seconds"),
    "minute": (),
    "hour": (),
    "character": ("total_characters", "usage_characters"),
    "page": ("pages", "pages_processed"),
    "cache_token_hour": ("cache_token_hours",),  # a token that is kept in a cache for an hour
}
EACH: Final = frozenset(_NAMES)
UNITS: Final = {name: unit for unit, names in _NAMES.items() for name in (unit, *names)}
LENGTHS: Final = {"second": 1, "minute": 60, "hour": 3600}  # of a recording, in seconds
# Those that providers bill wherever they are counted; the others are facts beside the tokens, unless they have a price.
BILLED: Final = frozenset({"web_search", "x_search", "file_search", "search_unit", "image", "cache_token_hour"})


class Bill(NamedTuple):
    """What is known of an exchange that has to do with its price."""

    provider: str
    model: str  # as it was asked for
    answered: str  # as the provider names it
    opened_ms: int
    usage: Usage
    modalities: Mapping[str, int] | None = None
    units: Mapping[str, float] | None = None
    tier: str = ""
    region: str = ""
    search_context: str = ""  # how much a search reads: low, medium, high
    summed: bool = False  # it is the sum of several requests, of which each may be below a limit

    @property
    def known(self) -> bool:
        """Whether both sides of its tokens are known."""
        return self.usage.input_tokens is not None and self.usage.output_tokens is not None


def units_of(bill: Bill) -> dict[str, Fraction]:
    """How many of each unit that is not a token. Two names of one unit are one count: the larger."""
    found: dict[str, Fraction] = {}
    for name, amount in (bill.units or _NONE).items():
        unit = UNITS.get(name)
        if unit is not None and amount > 0:
            found[unit] = max(found.get(unit, Fraction(0)), Fraction(Decimal(repr(amount))))
    if "second" in found:
        found |= {unit: found["second"] / seconds for unit, seconds in LENGTHS.items()}
    return found


def tokens_of(bill: Bill, *, reasoning_beside: bool = False) -> dict[str, int]:
    """How many tokens of each item; what is unknown is none. `reasoning_beside`: the output does not hold it."""
    usage = bill.usage
    read, write = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    thought, said = usage.reasoning_tokens or 0, usage.output_tokens or 0
    found = {"cached_input": read, "cache_write": write, "reasoning": thought}
    fresh = max(0, (usage.input_tokens or 0) - read - write)
    said = said if reasoning_beside else max(0, said - thought)
    if bill.modalities:
        fresh, said = _shares(found, bill.modalities, fresh, said)
    found["input"], found["output"] = fresh, said
    return found


def _shares(found: dict[str, int], shares: Mapping[str, int], fresh: int, said: int) -> tuple[int, int]:
    """Move tokens to the items of their modality. Returns what is left of input and output.

    A share is never more than there is to share, so that no token has two prices though the report contradicts itself.
    """
    hour = min(shares.get("cache_write_1h", 0), found["cache_write"])
    found["cache_write"] -= hour
    found["cache_write_1h"] = hour
    for kind in _KINDS:
        cached = min(shares.get(f"cache_read_{kind}", 0), found["cached_input"])
        found["cached_input"] -= cached
        found[f"cached_{kind}"] = cached
        asked = shares.get(f"input_{kind}", 0) + shares.get(f"input_tools_{kind}", 0)
        if kind == "image":
            asked += shares.get("input_document", 0)  # its pages are images
        own = min(max(0, asked - cached), fresh)
        answered = min(shares.get(f"output_{kind}", 0), said)
        fresh, said = fresh - own, said - answered
        found[f"input_{kind}"], found[f"output_{kind}"] = own, answered
    found["cached_explicit"] = min(shares.get("cache_read_explicit", 0), found["cached_input"])
    found["cached_input"] -= found["cached_explicit"]
    for item, share in (("citation", "input_citation"), ("tool_image_input", "tool_input_image")):
        found[item] = min(shares.get(share, 0), fresh)
        fresh -= found[item]
    found["tool_image_output"] = min(shares.get("tool_output_image", 0), said)
    return fresh, said - found["tool_image_output"]
