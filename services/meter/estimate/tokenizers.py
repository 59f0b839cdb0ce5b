"""What is known of each family of models' tokenizers, as data: how our count relates to the provider's. Pure.

Seeds: published figures and third-party measurements, and least-deviation fits on recorded answers. They are where
learning starts from (`calibration.py`), not where it ends. What prompts gain is in `framing.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from services.meter.estimate.families import first_match


class Hides(StrEnum):
    """Whether models of a family reason unseen, or show no more than a summary of it."""

    NEVER = "never"
    ASKED = "asked"  # where the request asks them to think
    USUALLY = "usually"  # unless the request asks them not to


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """One family. Token counts of ours are by `encoding`; what answers cost beyond their text is in the family's."""

    encoding: str = "o200k_base"
    ratio: float = 1.0  # reported / observed, of text
    per_start: int = 0  # of any answer
    per_end: int = 1  # of one that came to its own end
    per_call: int = 10  # beyond a tool call's name and arguments
    per_thought: int = 0  # where reasoning is shown before an answer
    spread: float = 0.15  # standard deviation of log(reported / expected) until there are reports to learn from
    hides: Hides = Hides.NEVER


_OPENAI = Tokenizer(per_call=7, spread=0.08)
_OPENAI_REASONS = Tokenizer(per_start=3, per_call=7, spread=0.12, hides=Hides.USUALLY)
# Its answers open a channel, and another one behind their reasoning.
_GPT_OSS = Tokenizer(per_start=3, per_end=0, per_call=9, per_thought=7, spread=0.08)
_CLAUDE = Tokenizer(ratio=1.16, per_end=3, per_call=38, per_thought=3, spread=0.13, hides=Hides.ASKED)
# From 4.7 on the tokenizer makes more tokens of the same text: x 1.4 of prose, less of code.
_CLAUDE_47 = replace(_CLAUDE, ratio=1.42, per_call=34, spread=0.2, hides=Hides.USUALLY)
_GEMINI = Tokenizer(ratio=1.08, per_end=0, per_call=6, spread=0.15, hides=Hides.USUALLY)
_QWEN = Tokenizer(ratio=1.02, per_end=2, per_call=14)

# The first that matches a model's name, wherever it stands in it.
_FAMILIES = (
    (r"claude-(?:opus|sonnet|haiku|mythos|fable)-(?:4[.-][789]|[5-9])", _CLAUDE_47),
    (r"claude", _CLAUDE),
    (r"gemini", _GEMINI),
    (r"gemma", Tokenizer(ratio=1.04, per_call=6, per_thought=3)),
    (r"gpt-4(?!o|\.1|\.5)|gpt-3\.5|text-embedding-|davinci", replace(_OPENAI, encoding="cl100k_base", per_end=0)),
    (r"gpt-oss", _GPT_OSS),
    (r"gpt-[5-9]|\bo[1345](?:-|$)", _OPENAI_REASONS),
    (r"gpt", _OPENAI),
    (r"grok", Tokenizer(per_end=0, per_call=14, hides=Hides.USUALLY)),
    (r"deepseek", Tokenizer(ratio=1.01, per_end=0, per_call=42, spread=0.1)),
    (r"glm", Tokenizer(ratio=1.06, per_end=0, per_call=4, spread=0.1)),
    (r"kimi|moonshot", Tokenizer(per_end=2, per_call=9, spread=0.1)),
    (r"llama", Tokenizer(ratio=1.02, per_call=8)),
    (r"qwen-?3[._-]?[5-9]", Tokenizer(ratio=1.06, per_call=20)),
    (r"qwen|qwq", _QWEN),
    (r"command|aya", Tokenizer(ratio=1.02, per_end=2, per_call=24, per_thought=4, spread=0.25)),
    (r"mistral|ministral|magistral|codestral|pixtral|devstral|voxtral", Tokenizer(per_call=3, spread=0.1)),
    (r"mimo", Tokenizer(ratio=1.03, per_call=3)),
    (r"sonar", Tokenizer(per_end=0)),
    (r"nova|titan", Tokenizer(per_start=3, per_end=0, spread=0.25)),
)
_UNKNOWN = Tokenizer(ratio=1.03, spread=0.25)

tokenizer_of = first_match(_FAMILIES, _UNKNOWN)
