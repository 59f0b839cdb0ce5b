"""What each family's providers put around the words of a request, as data: templates, tool prompts, hidden ones. Pure.

Tool prompts of Claude are published by model and tool choice; templates of open models are in their tokenizer files;
the rest are fits on recorded requests that say what they cost. All figures are tokens of the family.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.meter.estimate.families import first_match


@dataclass(frozen=True, slots=True)
class Framing:
    """How a family's prompt is made of a request. Our own counts are multiplied by the ratios."""

    ratio: float = 1.0  # of text
    base: int = 3
    per_message: int = 4
    tools: int = 12  # once, where there are tools
    tools_forced: int = 0  # the same where one has to be called; 0: no different
    tools_in_chat: int = 0  # more of it on OpenAI's chat path
    per_tool: int = 0
    tool_ratio: float = 1.0  # of the JSON of the tools
    dropped_if_none: bool = False  # tools are left out where the tool choice is "none"
    per_call: int = 6  # an earlier call, or its result
    schema: int = 0  # once, where the answer has a schema
    schema_ratio: float = 0.5
    thinking: int = 0  # where thinking is switched on
    per_document: int = 0
    citations: int = 0  # where a document may be quoted
    builtin: float = 1.0  # how much of what a tool of the provider's reads in is counted as input
    opaque: float = 0.0  # per character of reasoning that only the provider can read
    spread: float = 0.12  # relative error of the counts above, either way: nine of ten are within
    billed: bool = True  # the constants: Cohere counts its own prompts, and does not bill them
    hidden: int = 20  # what a provider may add unseen, or what of the constants it may leave out


_OPENAI = Framing(tools=10, tool_ratio=0.7, schema_ratio=0.6, hidden=15)
_OPENAI_REASONS = replace(_OPENAI, per_message=3, tool_ratio=0.65, schema_ratio=0.45, opaque=0.03)
_EMBEDDING = Framing(base=0, per_message=0, hidden=5)
_CLAUDE = Framing(
    ratio=1.08,
    base=7,
    per_message=0,
    tools=346,
    tools_forced=313,
    per_tool=9,
    tool_ratio=1.12,
    per_call=20,
    schema=150,
    schema_ratio=1.0,
    thinking=29,
    citations=550,
    spread=0.15,
    hidden=25,
)
_CLAUDE_45 = replace(_CLAUDE, tools=496, tools_forced=588)
_CLAUDE_47 = replace(
    _CLAUDE, ratio=1.37, tools=358, tools_forced=416, tool_ratio=1.5, per_call=28, citations=780, spread=0.2
)
_GEMINI = Framing(
    base=0,
    per_message=0,
    tools=5,
    tool_ratio=0.95,
    per_call=8,
    schema_ratio=0.0,
    builtin=0.05,
    opaque=0.08,
    spread=0.2,
    hidden=10,
)
_QWEN = Framing(
    base=4, per_message=5, tools=100, per_tool=8, dropped_if_none=True, per_call=14, schema_ratio=0.0, hidden=80
)
_GROK = Framing(base=150, per_message=2, tools=150, schema_ratio=0.4, opaque=0.03, hidden=250)
_COMMAND = Framing(billed=False, base=488, per_message=4, tools=900, schema_ratio=0.0, per_document=150, hidden=900)

# The first that matches a model's name, wherever it stands in it.
_FAMILIES = (
    (r"embed|voyage", _EMBEDDING),
    (r"claude-3-opus", replace(_CLAUDE, tools=530, tools_forced=281)),
    (r"claude-3-sonnet", replace(_CLAUDE, tools=159, tools_forced=235)),
    (r"claude-3-(?:5-)?haiku", replace(_CLAUDE, tools=264, tools_forced=340)),
    (r"claude-3-5-sonnet-20240620", replace(_CLAUDE, tools=294, tools_forced=261)),
    (r"claude-opus-5", replace(_CLAUDE_47, tools=290)),
    (r"claude-opus-4[.-][78]", replace(_CLAUDE_47, tools=340)),
    (r"claude-(?:opus|sonnet|haiku|mythos|fable)-(?:4[.-][789]|[5-9])", _CLAUDE_47),
    (r"claude-(?:opus|sonnet|haiku)-4[.-][56]", _CLAUDE_45),
    (r"claude", _CLAUDE),
    (r"gemma", Framing(base=4, per_message=7, schema_ratio=0.0, spread=0.15)),
    (r"gemini", _GEMINI),
    (r"gpt-oss", Framing(base=65, per_message=4, schema_ratio=0.5, hidden=60)),
    (r"gpt-5(?:-mini|-nano)?(?:-2025.*)?$", replace(_OPENAI_REASONS, tools_in_chat=82)),
    (r"gpt-[5-9]|\bo[1345](?:-|$)", _OPENAI_REASONS),
    (r"gpt|davinci", _OPENAI),
    (r"grok", _GROK),
    (
        r"deepseek",
        Framing(base=4, per_message=0, tools=240, dropped_if_none=True, per_call=25, schema_ratio=0.0, hidden=100),
    ),
    (r"glm", Framing(base=2, per_message=2, tools=110, tool_ratio=1.2, schema_ratio=0.0)),
    (r"kimi|moonshot", Framing(base=2, per_message=4, tools=20, tool_ratio=1.15, schema_ratio=0.0)),
    (r"llama-?3(?!\.\d|-[123]-)", Framing(base=5, per_message=5, tools=110, tool_ratio=1.1, schema_ratio=0.0)),
    (r"llama", Framing(base=30, per_message=5, tools=110, tool_ratio=1.1, schema_ratio=0.0, hidden=40)),
    (r"qwen-?3[._-]?[5-9]", replace(_QWEN, tools=215, tool_ratio=1.35)),
    (r"qwen|qwq", _QWEN),
    (r"command-r(?!7)", replace(_COMMAND, base=75, tools=750)),
    (r"command-a-reasoning", replace(_COMMAND, base=1380, tools=30)),
    (r"command|aya", _COMMAND),
    (
        r"mistral|ministral|magistral|codestral|pixtral|devstral|voxtral",
        Framing(base=3, per_message=1, tools=17, tool_ratio=1.25, per_call=10, schema_ratio=0.0),
    ),
    (r"sonar", Framing(base=0, per_message=0, tools=0, schema_ratio=0.0)),
    (r"mimo", Framing(base=247, per_message=4, tools=205, tool_ratio=1.05, schema_ratio=0.0)),
    (r"nova", Framing(base=0, per_message=2, tools=400, schema_ratio=0.0, spread=0.4)),
    (r"titan", Framing(base=0, per_message=0, schema_ratio=0.0)),
)
_UNKNOWN = Framing(base=4, per_message=4, tools=40, schema_ratio=0.0, spread=0.3, hidden=80)

framing_of = first_match(_FAMILIES, _UNKNOWN)
