"""The known providers: base URL, endpoints by family, and the variables with their credential. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.contract.dialects import Family


@dataclass(frozen=True, slots=True)
class Provider:
    """A known provider. `base_url`: as its own SDK takes it.

    `endpoints`: the URL of each family; `{base}` is the base URL, `{root}` the same without a final `/v1`. OpenAI
    endpoints hold the version segment, Anthropic and Gemini endpoints do not.
    """

    name: str
    base_url: str | None  # None: the operator must give it
    variables: tuple[str, ...]  # environment variables from which its own SDK reads the credential
    endpoints: Mapping[Family, str]
    credential_header: str = "authorization"  # of the OpenAI family; the other two have their own


_OPENAI = {Family.OPENAI: "{base}"}
_ANTHROPIC_TOO = {Family.OPENAI: "{base}", Family.ANTHROPIC: "{root}"}
_ANTHROPIC_ASIDE = {Family.OPENAI: "{base}", Family.ANTHROPIC: "{root}/anthropic"}

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider("openai", "https://api.openai.com/v1", ("OPENAI_API_KEY",), _OPENAI),
        Provider(
            "anthropic",
            "https://api.anthropic.com",
            ("ANTHROPIC_API_KEY",),
            {Family.ANTHROPIC: "{base}", Family.OPENAI: "{base}/v1"},
        ),
        Provider(
            "gemini",
            "https://generativelanguage.googleapis.com",
            ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            {Family.GEMINI: "{base}", Family.OPENAI: "{base}/v1beta/openai"},
        ),
        Provider("deepseek", "https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",), _ANTHROPIC_ASIDE),
        Provider("mistral", "https://api.mistral.ai/v1", ("MISTRAL_API_KEY",), _OPENAI),
        Provider("groq", "https://api.groq.com/openai/v1", ("GROQ_API_KEY",), _OPENAI),
        Provider("xai", "https://api.x.ai/v1", ("XAI_API_KEY",), _ANTHROPIC_TOO),
        Provider("together", "https://api.together.xyz/v1", ("TOGETHER_API_KEY",), _OPENAI),
        Provider("fireworks", "https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",), _ANTHROPIC_TOO),
        Provider("openrouter", "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",), _ANTHROPIC_TOO),
        Provider("moonshot", "https://api.moonshot.ai/v1", ("MOONSHOT_API_KEY",), _ANTHROPIC_ASIDE),
        Provider("qwen", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", ("DASHSCOPE_API_KEY",), _OPENAI),
        Provider("zhipu", "https://open.bigmodel.cn/api/paas/v4", ("ZHIPUAI_API_KEY", "ZAI_API_KEY"), _OPENAI),
        Provider("minimax", "https://api.minimax.io/v1", ("MINIMAX_API_KEY",), _ANTHROPIC_ASIDE),
        Provider(
            "azure",
            None,
            ("AZURE_OPENAI_API_KEY",),
            {Family.OPENAI: "{base}/openai/v1"},
            credential_header="api-key",
        ),
    )
}

# The providers of models without a provider prefix (decision 4).
DEFAULTS: Mapping[Family, str] = {
    Family.OPENAI: "openai",
    Family.ANTHROPIC: "anthropic",
    Family.GEMINI: "gemini",
}
