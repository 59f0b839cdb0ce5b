"""Frameworks as their users write them, with the base URL and the key changed. Run by tests/system/test_frameworks.py
in an environment of its own, against the gateway that AROUTER_TEST_URL and AROUTER_TEST_KEY name.

Each prints one line of JSON: its name, what it streamed, what it got at once, and the output tokens it was told.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

URL, KEY = os.environ["AROUTER_TEST_URL"], os.environ["AROUTER_TEST_KEY"]  # noqa: TID251  # no settings class here
ASK = "Tell me a story."

Found = tuple[str, str, int | None]


def langchain() -> Found:
    from langchain_openai import ChatOpenAI  # noqa: PLC0415

    model = ChatOpenAI(model="gpt-4o", base_url=f"{URL}/v1", api_key=KEY, stream_usage=True, max_retries=0)
    pieces = list(model.stream(ASK))
    told = [piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata]
    return "".join(str(piece.content) for piece in pieces), str(model.invoke(ASK).content), told[-1]


def llama_index() -> Found:
    from llama_index.core.llms import ChatMessage  # noqa: PLC0415
    from llama_index.llms.openai import OpenAI  # noqa: PLC0415

    model = OpenAI(model="gpt-4o", api_base=f"{URL}/v1", api_key=KEY, max_retries=0)
    asked = [ChatMessage(role="user", content=ASK)]
    return (
        "".join(piece.delta or "" for piece in model.stream_chat(asked)),
        model.chat(asked).message.content or "",
        None,
    )


def litellm_openai() -> Found:
    return _litellm("openai/gpt-4o", f"{URL}/v1")


def litellm_anthropic() -> Found:
    return _litellm("anthropic/claude-haiku-4-5", URL)


def _litellm(model: str, base: str) -> Found:
    import litellm  # noqa: PLC0415

    asked = {"model": model, "api_base": base, "api_key": KEY, "messages": [{"role": "user", "content": ASK}]}
    pieces = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}, num_retries=0))
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    usage = [piece.usage for piece in pieces if getattr(piece, "usage", None)]
    whole = litellm.completion(**asked, num_retries=0)
    return streamed, whole.choices[0].message.content, usage[-1].completion_tokens if usage else None


FRAMEWORKS: tuple[Callable[[], Found], ...] = (langchain, llama_index, litellm_openai, litellm_anthropic)

if __name__ == "__main__":
    for framework in FRAMEWORKS:
        streamed, whole, told = framework()
        print(json.dumps({"name": framework.__name__, "streamed": streamed, "whole": whole, "told": told}))
