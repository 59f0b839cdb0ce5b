"""The known providers: base URLs, endpoints by family, credentials, and the variables of their own SDKs. Pure.

A provider's rules stand here, so that no other code spells its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shared.contract.dialects import Family


class Auth(StrEnum):
    """How requests are authenticated with the credentials that a machine has, where no API key is given."""

    AWS = "aws"  # signatures (SigV4) with keys of AWS's credential chain
    GOOGLE = "google"  # OAuth tokens: a credentials file, or Google's default credentials
    ENTRA = "entra"  # tokens of Microsoft's Entra ID, with Azure's default credential


@dataclass(frozen=True, slots=True)
class Provider:
    """A known provider. `base_url`: as its own SDK takes it; `{region}`, `{project}` and `{location}` are settings.

    `endpoints`: the URL of each family; `{base}` is the base URL, `{root}` the same without a final `/v1`. OpenAI
    endpoints and those in a scope hold the version segment, the others do not.
    """

    name: str
    base_url: str | None  # None: the operator must give it
    variables: tuple[str, ...]  # environment variables from which its own SDK reads the credential
    endpoints: Mapping[Family, str]
    credential_header: str = "authorization"  # of the OpenAI family; the other two have their own
    auth: Auth | None = None  # without an API key
    place: str = ""  # the setting that says where it is; a base URL without it makes a provider of the operator's own
    base_urls: Mapping[str, str] = field(default_factory=dict)  # of locations that have others
    scope: str = ""  # what stands behind the version in its own paths, whatever the caller writes there
    deployments: str = ""  # folder of its SDK's own paths, which are at the root, too: /FOLDER/deployments/NAME/…
    beside: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # variables of settings that go with `variables`
    takes_models: bool = False  # it tries the models of a request one after another: `models`, `route: "fallback"`
    service: str = "bedrock"  # AWS's name for it, in signatures
    # What its answer 400 to a key that it does not know says, where it has no 401 for that: the beginning of a text, by
    # the members that lead to it.
    bad_key: Mapping[str, str] = field(default_factory=dict)
    forbids: Mapping[str, str] = field(default_factory=dict)  # the same of a 401 to what a good key may not do
    check: str = ""  # a URL that needs a credential and costs nothing to read; "": its family's list of models


# Folders in which providers serve a family beside their own. Callers may repeat them, as the providers' documents do.
FOLDERS: Mapping[Family, str] = {Family.OPENAI: "openai", Family.ANTHROPIC: "anthropic"}

_OPENAI = {Family.OPENAI: "{base}"}
_ANTHROPIC_TOO = {Family.OPENAI: "{base}", Family.ANTHROPIC: "{root}"}
_ANTHROPIC_ASIDE = {Family.OPENAI: "{base}", Family.ANTHROPIC: "{root}/anthropic"}

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            "openai",
            "https://api.openai.com/v1",
            ("OPENAI_API_KEY",),
            _OPENAI,
            # Of keys that are restricted to some endpoints.
            forbids={
                "error.message": "You have insufficient permissions",
                "error": "You have insufficient permissions",
            },
        ),
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
            bad_key={"error.details.reason": "API_KEY_INVALID"},
        ),
        Provider("deepseek", "https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",), _ANTHROPIC_ASIDE),
        Provider("mistral", "https://api.mistral.ai/v1", ("MISTRAL_API_KEY",), _OPENAI),
        Provider("groq", "https://api.groq.com/openai/v1", ("GROQ_API_KEY",), _OPENAI),
        Provider(
            "xai",
            "https://api.x.ai/v1",
            ("XAI_API_KEY",),
            _ANTHROPIC_TOO,
            bad_key=dict.fromkeys(("error.message", "error"), "Incorrect API key provided"),
        ),
        Provider("together", "https://api.together.xyz/v1", ("TOGETHER_API_KEY",), _OPENAI),
        Provider("fireworks", "https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",), _ANTHROPIC_TOO),
        Provider(
            "openrouter",
            "https://openrouter.ai/api/v1",
            ("OPENROUTER_API_KEY",),
            _ANTHROPIC_TOO,
            takes_models=True,
            check="{base}/key",  # its list of models is public
        ),
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
            deployments="openai",
            forbids={"error.code": "PermissionDenied"},  # of Entra's tokens, whose role lacks an action
            beside={"base_url": ("AZURE_OPENAI_ENDPOINT",)},
        ),
        Provider(
            "bedrock",
            "https://bedrock-runtime.{region}.amazonaws.com",
            ("AWS_BEARER_TOKEN_BEDROCK",),
            {Family.BEDROCK: "{base}", Family.OPENAI: "{base}/openai/v1"},
            auth=Auth.AWS,
            place="region",
            check="{base}/async-invoke",
            beside={"region": ("AWS_REGION", "AWS_DEFAULT_REGION")},
        ),
        Provider(
            "vertex",
            "https://{location}-aiplatform.googleapis.com",
            (),
            {
                Family.GEMINI: "{root}/v1beta1/{scope}/publishers/google",
                Family.OPENAI: "{root}/v1/{scope}/endpoints/openapi",
            },
            auth=Auth.GOOGLE,
            place="project",
            base_urls={
                "global": "https://aiplatform.googleapis.com",
                "us": "https://aiplatform.us.rep.googleapis.com",
                "eu": "https://aiplatform.eu.rep.googleapis.com",
            },
            scope="projects/{project}/locations/{location}",
            check="{root}/v1/{scope}/models",
        ),
    )
}

# The providers of models without a provider prefix (decision 4).
DEFAULTS: Mapping[Family, str] = {
    Family.OPENAI: "openai",
    Family.ANTHROPIC: "anthropic",
    Family.GEMINI: "gemini",
}


def known(name: str, given: Mapping[str, object]) -> Provider | None:
    """The row of a provider, by the settings that are `given`; None for one of the operator's own."""
    row = PROVIDERS.get(name)
    own = row is not None and row.place and given.get("base_url") and not given.get(row.place)
    return None if own else row


def missing(row: Provider | None, given: Mapping[str, object]) -> str | None:
    """The setting that a provider needs, and that is not `given`."""
    if given.get("base_url"):
        return "region" if given.get("auth") is Auth.AWS and not given.get("region") else None
    if row is None or row.base_url is None:
        return "base_url"
    return row.place if row.place and not given.get(row.place) else None
