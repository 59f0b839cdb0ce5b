"""What the demo provider says over WebSockets: OpenAI's realtime and responses, and Gemini Live. Pure.

Each conversation answers one message of the client's with pieces, each of which is the payload of one message.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qs

from services.demo import openai
from services.demo.scenario import Scenario, parse
from services.demo.script import Piece, Request, Script, compact, normal, words

_GEMINI = re.compile(r"/ws/google\.ai\.generativelanguage\.\w+\.GenerativeService[./]BidiGenerateContent")
_AUDIO_MS = 200  # of sound in one event
_PCM_BYTES_PER_MS = 48  # 24 kHz, 16 bits


class Conversation(Protocol):
    """One socket's dialect. `usage`: the sum of what was reported in it, in the normal form."""

    binary: bool
    dialect: str
    usage: dict[str, int | None] | None

    def greet(self) -> list[Piece]:
        """What comes first."""

    def answer(self, message: bytes) -> Script:
        """What a message is answered with."""


def conversation(target: str, headers: Mapping[str, str]) -> Conversation | None:
    """The conversation of a handshake; None where the path has none. ValueError where a directive is unknown."""
    path, _, query = target.partition("?")
    given = {name: values[0] for name, values in parse_qs(query).items()}
    model = given.get("model") or given.get("deployment", "")
    scenario = parse(headers.get("x-demo", ""), model)
    if path in ("/v1/realtime", "/openai/realtime", "/openai/v1/realtime"):
        return _Realtime(model, scenario)
    if path == "/v1/responses":
        return _Responses(headers.get("x-demo", ""))
    return _Live(headers.get("x-demo", "")) if _GEMINI.fullmatch(path) else None


class _Sums:
    """What was reported in one socket."""

    def __init__(self) -> None:
        self.usage: dict[str, int | None] | None = None

    def add(self, one: dict[str, int | None]) -> None:
        had = self.usage or dict.fromkeys(one)
        sums = {name: (had[name], value) for name, value in one.items()}
        self.usage = {name: None if a is b is None else (a or 0) + (b or 0) for name, (a, b) in sums.items()}


def _document(message: bytes) -> dict[str, Any]:
    try:
        document = json.loads(message)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


class _Realtime(_Sums):
    """OpenAI's realtime. Its answers are text, or sound where `output_modalities` ask for it."""

    binary = False
    dialect = "openai_realtime"

    def __init__(self, model: str, scenario: Scenario) -> None:
        super().__init__()
        self._model = model
        self._scenario = scenario
        self._context = 11  # tokens of the conversation so far
        self._number = 0
        self._modalities = ["text"]

    def greet(self) -> list[Piece]:
        return [self._event("session.created", session=self._session())]

    def answer(self, message: bytes) -> Script:
        document = _document(message)
        kind = document.get("type")
        script = Script(self.dialect, "", error=compact(self._error("server_error")))
        answers: Mapping[Any, Callable[[dict[str, Any], Script], None]] = {
            "session.update": self._update,
            "conversation.item.create": self._item,
            "input_audio_buffer.append": lambda _document, _script: None,
            "input_audio_buffer.commit": self._commit,
            "response.create": self._respond,
        }
        if kind in answers:
            answers[kind](document, script)
        else:
            script.pieces.append(Piece(compact(self._error("invalid_request_error"))))
        return script

    def _session(self) -> dict[str, Any]:
        audio = {"output": {"format": {"type": "audio/pcm", "rate": 24000}}}
        named = {"type": "realtime", "object": "realtime.session", "id": "sess_demo", "model": self._model}
        return named | {"output_modalities": self._modalities, "audio": audio}

    def _event(self, kind: str, *, tokens: int = 0, reports: bool = False, **members: Any) -> Piece:
        self._number += 1
        document = {"type": kind, "event_id": f"event_{self._number}", **members}
        return Piece(compact(document), tokens=tokens, usage=reports)

    def _error(self, kind: str) -> dict[str, Any]:
        return {"type": "error", "event_id": "event_error", "error": {"type": kind, "message": "demo error"}}

    def _update(self, document: dict[str, Any], script: Script) -> None:
        asked = document.get("session", {}).get("output_modalities")
        self._modalities = asked if isinstance(asked, list) else self._modalities
        script.pieces.append(self._event("session.updated", session=self._session()))

    def _item(self, document: dict[str, Any], script: Script) -> None:
        self._context += 3 + len(json.dumps(document.get("item"))) // 5
        script.pieces.append(self._event("conversation.item.added", item=document.get("item")))
        script.pieces.append(self._event("conversation.item.done", item=document.get("item")))

    def _commit(self, document: dict[str, Any], script: Script) -> None:
        """A piece of speech is complete, and is transcribed by a model of its own."""
        self._context += 40
        tokens = {"type": "tokens", "input_tokens": 17, "output_tokens": 4, "total_tokens": 21}
        self.add(normal(17, 4, None, None, None))
        place: dict[str, Any] = {"item_id": f"item_{self._number}", "content_index": 0, "transcript": "hello there"}
        done = "conversation.item.input_audio_transcription.completed"
        script.usage = self.usage
        script.pieces.append(self._event("input_audio_buffer.committed", item_id=place["item_id"]))
        script.pieces.append(self._event(done, **place, usage=tokens, reports=True))

    def _respond(self, document: dict[str, Any], script: Script) -> None:
        asked = document.get("response") or {}
        modalities = asked.get("output_modalities") or self._modalities
        id = f"resp_{self._number}"
        response: dict[str, Any] = {
            "object": "realtime.response",
            "id": id,
            "status": "in_progress",
            "output": [],
            "usage": None,
        }
        place: dict[str, Any] = {
            "response_id": id,
            "item_id": f"item_{self._number}",
            "output_index": 0,
            "content_index": 0,
        }
        script.pieces.append(self._event("response.created", response=response))
        said = words(self._scenario)
        for word in said:
            if "audio" in modalities:
                sound = base64.b64encode(bytes(_AUDIO_MS * _PCM_BYTES_PER_MS)).decode()
                script.pieces.append(self._event("response.output_audio.delta", **place, delta=sound))
                kind = "response.output_audio_transcript.delta"
            else:
                kind = "response.output_text.delta"
            script.pieces.append(self._event(kind, **place, delta=word, tokens=1))
        prompt, answer = self._context, self._scenario.tokens
        cached, spoken = prompt // 4, answer if "audio" in modalities else 0
        usage = {
            "total_tokens": prompt + answer,
            "input_tokens": prompt,
            "output_tokens": answer,
            "input_token_details": {"text_tokens": prompt, "audio_tokens": 0, "cached_tokens": cached},
            "output_token_details": {"text_tokens": answer - spoken, "audio_tokens": spoken},
        }
        done = response | {"status": "completed", "usage": None if self._scenario.no_usage else usage}
        if not self._scenario.no_usage:
            self.add(normal(prompt, answer, cached, None, None))
            script.usage = self.usage
        script.pieces.append(self._event("response.done", response=done, reports=not self._scenario.no_usage))
        self._context += answer


class _Responses(_Sums):
    """OpenAI's responses over a socket: the events of the streams, one a message."""

    binary = False
    dialect = "openai_responses_socket"

    def __init__(self, directives: str) -> None:
        super().__init__()
        self._directives = directives
        self._number = 0

    def greet(self) -> list[Piece]:
        return []

    def answer(self, message: bytes) -> Script:
        document = _document(message)
        model = str(document.get("model", ""))
        self._number += 1
        request = Request("POST", "/v1/responses", model, True, False, message, parse(self._directives, model))
        streamed = openai.responses(request)
        if streamed.usage is not None:
            self.add(streamed.usage)
        script = Script(self.dialect, "", usage=self.usage if streamed.usage is not None else None)
        for piece in streamed.pieces:
            script.pieces.append(Piece(self._payload(piece.data), piece.tokens, piece.usage))
        script.error = self._payload(streamed.error)
        return script

    def _payload(self, event: bytes) -> bytes:
        data = event.partition(b"data: ")[2].partition(b"\n")[0]
        return data.replace(b'"resp_demo"', b'"resp_demo_%d"' % self._number)


class _Live(_Sums):
    """Gemini Live: JSON in binary frames, and the usage of each turn with its end."""

    binary = True
    dialect = "gemini_live"

    def __init__(self, directives: str) -> None:
        super().__init__()
        self._directives = directives
        self._scenario = Scenario()
        self._context = 9

    def greet(self) -> list[Piece]:
        return []

    def answer(self, message: bytes) -> Script:
        document = _document(message)
        script = Script(self.dialect, "")
        if "setup" in document:
            model = str(document["setup"].get("model", "")).removeprefix("models/")
            self._scenario = parse(self._directives, model)
            script.pieces.append(Piece(_pretty({"setupComplete": {}})))
        content = document.get("client_content") or document.get("clientContent") or {}
        if content.get("turn_complete") or content.get("turnComplete"):
            self._turn(len(message), script)
        return script

    def _turn(self, size: int, script: Script) -> None:
        self._context += size // 5
        for word in words(self._scenario):
            part = {"serverContent": {"modelTurn": {"parts": [{"text": word}]}}}
            script.pieces.append(Piece(_pretty(part), tokens=1))
        script.pieces.append(Piece(_pretty({"serverContent": {"generationComplete": True}})))
        prompt, answer = self._context, self._scenario.tokens
        last: dict[str, Any] = {"serverContent": {"turnComplete": True}}
        if not self._scenario.no_usage:
            last["usageMetadata"] = {
                "promptTokenCount": prompt,
                "responseTokenCount": answer,
                "totalTokenCount": prompt + answer,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
                "responseTokensDetails": [{"modality": "TEXT", "tokenCount": answer}],
            }
            self.add(normal(prompt, answer, None, None, None))
            script.usage = self.usage
        script.pieces.append(Piece(_pretty(last), usage=not self._scenario.no_usage))
        self._context += answer


def _pretty(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"
