"""OpenAI responses. Usage is in the last event only; text comes as deltas and is then repeated four times over."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from services.meter.readers import openai_usage
from services.meter.readers.reading import (
    CALL,
    REASONING,
    TEXT,
    Json,
    Marks,
    Reading,
    Report,
    amounts,
    count,
    mapping,
    sequence,
    text,
    total,
)
from services.meter.readers.work import of_response
from shared.contract.entry import Mark
from shared.contract.work import WorkKind

ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done")
_STATUSES = ("completed", "incomplete", "failed", "cancelled")

_SEARCHES = {"web_search_call": "web_search_calls", "file_search_call": "file_search_calls"}

# What is new in a stream, by kind; `.done` events and the final response repeat it.
DELTAS = {
    "response.output_text.delta": TEXT,
    "response.refusal.delta": TEXT,
    "response.reasoning_text.delta": REASONING,
    "response.reasoning_summary_text.delta": REASONING,
    "response.function_call_arguments.delta": CALL,
    "response.custom_tool_call_input.delta": CALL,
    "response.mcp_call_arguments.delta": CALL,
    "response.code_interpreter_call_code.delta": CALL,
}


class ResponsesReader:
    """Reads response events, and a response as one document."""

    marks: ClassVar[Marks] = Marks(every=(b'"response"',), final=(b"[DONE]",))

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        kind = text(document.get("type"))
        if kind.startswith("response.") or "response" in document:
            response = mapping(document.get("response"))
            if response:
                self._read_response(response)
                if not response.get("usage") and "usage" in document:  # some relays put it beside
                    self._read_usage(mapping(document["usage"]), response)
                self.reading.work = of_response(WorkKind.RESPONSE, response, _STATUSES, alone=False)
            if kind in ENDS:
                self.reading.finish = [kind]
                self.reading.complete = True
            if observe and kind in DELTAS:
                self.reading.say(DELTAS[kind], document.get("output_index"), document.get("delta"))
            elif observe and kind == "response.output_item.added":
                self.reading.say(CALL, document.get("output_index"), mapping(document.get("item")).get("name"))
        elif text(document.get("object")).startswith("response"):
            self._read_response(document)
            status = text(document.get("status"))
            if status in _STATUSES:
                self.reading.finish = [status]
                self.reading.complete = True
            self.reading.work = of_response(WorkKind.RESPONSE, document, _STATUSES, alone=True)
            if self.reading.work is not None and not self.reading.work.ended:
                self.reading.marks.add(Mark.OPEN_WORK)
            if observe:
                self._observe_output(document)
        if kind == "error" or event == b"error" or document.get("error"):
            self.reading.error = document.get("error") or dict(document)

    def done(self) -> None:
        """`data: [DONE]`, as OpenRouter ends its responses too."""
        self.reading.complete = True

    def close(self) -> None:
        """Nothing is left to tell."""

    def _read_response(self, response: Json) -> None:
        reading = self.reading
        reading.response_id = reading.response_id or text(response.get("id"))
        reading.model = text(response.get("model")) or reading.model
        reading.service_tier = text(response.get("service_tier")) or reading.service_tier
        if response.get("error"):
            reading.error = response["error"]
        self._read_usage(mapping(response.get("usage")), response)

    def _read_usage(self, usage: Json, response: Json) -> None:
        if usage:
            report = openai_usage.report(usage, model=self.reading.model)
            if "server_side_tool_usage_details" not in usage and "tool_usage" not in response:
                report = report._replace(units={**report.units, **_calls(response)})
            self.reading.report(usage, with_tools(report, mapping(response.get("tool_usage"))))

    def _observe_output(self, response: Json) -> None:
        for index, item in enumerate(map(mapping, sequence(response.get("output")))):
            self.reading.say(CALL, index, item.get("name"), item.get("arguments"), item.get("input"))
            for part in map(mapping, sequence(item.get("content"))):
                kind = REASONING if part.get("type") == "reasoning_text" else TEXT
                self.reading.say(kind, index, part.get("text"), part.get("refusal"))
            self.reading.say(REASONING, index, *(mapping(part).get("text") for part in sequence(item.get("summary"))))


def _calls(response: Json) -> dict[str, float]:
    """Searches among the output, where no count of them is stated. To open a page that was found is none."""
    found: dict[str, float] = {}
    for item in map(mapping, sequence(response.get("output"))):
        name = _SEARCHES.get(text(item.get("type")))
        if name is not None and text(mapping(item.get("action")).get("type")) in ("", "search"):
            found[name] = found.get(name, 0) + 1
    return found


def with_tools(report: Report, tools: Json) -> Report:
    """What hosted tools used is billed too, and stands outside the usage: an image's tokens are another model's."""
    images = mapping(tools.get("image_gen"))
    read, written = count(images, "input_tokens"), count(images, "output_tokens")
    searches = amounts(mapping(tools.get("web_search")), "num_requests")
    if not read and not written and not searches:
        return report
    usage = report.usage
    summed = replace(
        usage,
        input_tokens=total(usage.input_tokens, read),
        output_tokens=total(usage.output_tokens, written),
        total_tokens=total(usage.total_tokens, read, written),
    )
    tokens = {"tool_input_image": read, "tool_output_image": written}
    shares = dict(report.modalities) | {name: value for name, value in tokens.items() if value}
    units = dict(report.units) | {f"web_search_{name}": value for name, value in searches.items()}
    return report._replace(usage=summed, modalities=shares, units=units)
