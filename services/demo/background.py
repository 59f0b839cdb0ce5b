"""OpenAI's responses in the background. All there is to know of one stands in its id: the provider keeps nothing."""

from __future__ import annotations

import json
import re
import secrets
import time
from typing import Any

from services.demo.scenario import Scenario
from services.demo.script import Piece, Request, Script, compact, normal, words

_ID = re.compile(r"/v1/responses/(resp_([0-9a-f]+)_(\d+)_(\d+)_([0-9a-f]*)_[0-9a-f]+)")


def asked(request: Request) -> bool:
    """Whether a request for a response asks for one in the background."""
    try:
        return bool(json.loads(request.body).get("background"))
    except (ValueError, AttributeError):
        return False


def begin(request: Request) -> Script:
    """The answer to such a request: it is queued, and ready after as long as the directive `work` says."""
    ready = int(time.time() * 1000) + request.scenario.work
    figures = f"{ready:x}_{request.input_tokens}_{request.scenario.tokens}"
    id = f"resp_{figures}_{request.model.encode().hex()}_{secrets.token_hex(4)}"
    return Script("openai_responses", "application/json", [Piece(compact(_response(id, request.model, "queued")))])


def fetch(path: str) -> Script | None:
    """The answer to a look at one; None where the path is not that of one."""
    found = _ID.fullmatch(path)
    if found is None:
        return None
    id, ready, prompt, answer, model = found.groups()
    script = Script("openai_responses", "application/json")
    response = _response(id, bytes.fromhex(model).decode(), "in_progress")
    if time.time() * 1000 >= int(ready, 16):
        script.usage = normal(int(prompt), int(answer), 0, None, 0)
        said = "".join(words(Scenario(tokens=int(answer))))
        content = [{"type": "output_text", "text": said, "annotations": []}]
        item = {"id": "msg_demo", "type": "message", "role": "assistant", "status": "completed", "content": content}
        response |= {"status": "completed", "output": [item], "usage": _usage(int(prompt), int(answer))}
    script.pieces.append(Piece(compact(response), usage=script.usage is not None))
    return script


def _response(id: str, model: str, status: str) -> dict[str, Any]:
    return {
        "id": id,
        "object": "response",
        "created_at": 1700000000,
        "background": True,
        "status": status,
        "model": f"{model}-2026-01-01",
        "output": [],
        "parallel_tool_calls": True,
        "service_tier": "flex",
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "usage": None,
    }


def _usage(prompt: int, answer: int) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answer,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + answer,
    }
