"""What is known of each family of models' tokenizers, as data: how our count relates to the provider's. Pure.

Seeds: published figures and third-party measurements, and least-deviation fits on recorded answers (text-only and
tool-calling ones apart). They are where learning starts from (`calibration.py`), not where it ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """One family. Token counts of ours are by `encoding`."""

    encoding: str = "o200k_base"
    ratio: float = 1.0  # reported / observed
    per_answer: int = 1  # what an answer costs beyond its text, in our tokens
    per_call: int = 10  # what a tool call costs beyond its name and arguments
    spread: float = 0.25  # standard deviation of log(reported / expected) until there are reports to learn from


_OPENAI = Tokenizer(per_answer=0, per_call=6, spread=0.1)
# Its answers open a channel of their own, which costs four tokens; reasoning that is not shown costs anything.
_OPENAI_HARMONY = Tokenizer(per_answer=4, per_call=12, spread=0.5)
_CLAUDE = Tokenizer(ratio=1.15, per_answer=3, per_call=38, spread=0.2)
# From 4.7 on the tokenizer makes more tokens of the same text: x 1.35 of prose, less of code.
_CLAUDE_47 = Tokenizer(ratio=1.45, per_answer=3, per_call=38, spread=0.3)
_GEMINI = Tokenizer(ratio=1.03, per_answer=0, per_call=4)

# The first that matches a model's name, wherever it stands in it.
_FAMILIES: tuple[tuple[re.Pattern[str], Tokenizer], ...] = tuple(
    (re.compile(pattern), tokenizer)
    for pattern, tokenizer in (
        (r"claude-(?:opus|sonnet|haiku|mythos|fable)-(?:4-[789]|[5-9])", _CLAUDE_47),
        (r"claude", _CLAUDE),
        (r"gemini|gemma", _GEMINI),
        (r"gpt-4(?!o|\.1|\.5)|gpt-3\.5|text-embedding-|davinci", Tokenizer("cl100k_base", per_answer=0, spread=0.1)),
        (r"gpt-(?:[5-9]|oss)|\bo[1345](?:-|$)", _OPENAI_HARMONY),
        (r"gpt", _OPENAI),
        (r"grok", Tokenizer(per_answer=0, per_call=20)),
        (r"deepseek", Tokenizer(per_answer=0, per_call=40, spread=0.15)),
        (r"glm", Tokenizer(ratio=1.06, per_answer=0, per_call=4, spread=0.15)),
        (r"kimi|moonshot", Tokenizer(per_answer=2, per_call=8, spread=0.15)),
        (r"llama", Tokenizer(ratio=1.04, per_answer=1, per_call=8, spread=0.15)),
        (r"qwen|qwq", Tokenizer(ratio=1.04, per_answer=1, per_call=14, spread=0.15)),
        (r"command|aya", Tokenizer(ratio=1.1, per_answer=4, per_call=14)),
        (r"mi[sn]i?stral|magistral|codestral|pixtral|devstral", Tokenizer(ratio=1.02, per_answer=1, per_call=4)),
        (r"nova|titan", Tokenizer(per_answer=3)),
    )
)
_UNKNOWN = Tokenizer(ratio=1.05)


def tokenizer_of(model: str) -> Tokenizer:
    """The family of a model, by its name with or without a vendor in front; a cautious guess for unknown ones."""
    name = model.lower()
    return next((tokenizer for pattern, tokenizer in _FAMILIES if pattern.search(name)), _UNKNOWN)
