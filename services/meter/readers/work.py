"""Work that ends elsewhere, as an answer tells of it: what runs in the background, and batches. Pure.

The result of a batch is a document of lines, each with a request's whole answer, and is booked as their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import fields
from typing import ClassVar

from services.meter.readers import openai_usage
from services.meter.readers.reading import BadUsage, Json, Marks, Reading, Work, mapping, sequence, text, total
from shared.contract.entry import Mark
from shared.contract.usage import Usage
from shared.contract.work import WorkKind

_RUNNING = ("queued", "in_progress")
# What a batch's status is once it does nothing more: OpenAI's, Mistral's and Google's words.
_ENDED = frozenset({"completed", "failed", "expired", "cancelled", "success", "timeout_exceeded", "succeeded"})
_DEFERRED = {"request_id"}  # all that xAI answers
_ASYNC = ("CREATED", "IN_PROGRESS", "COMPLETED", "FAILED")  # of Perplexity's asynchronous chats
TIER = "batch"  # batches have prices of their own

ReadBody = Callable[[Json], Reading]


def of_response(kind: WorkKind, response: Json, ends: Collection[str], *, alone: bool) -> Work | None:
    """What a response or an interaction says. `alone`: it is the whole answer; the beginning of a stream is in progress
    whether it goes on elsewhere or not."""
    background, status = response.get("background"), text(response.get("status"))
    names = tuple(filter(None, [text(response.get("id"))]))
    if background is False:
        return None
    if status in ends:
        return Work(kind, names, ended=True, certain=background is True)
    if status in _RUNNING and (alone or background is True):
        return Work(kind, names, ended=False)
    return None


def is_line(document: Json) -> bool:
    """Whether it is a line of a batch's result: OpenAI's, Anthropic's or Google's."""
    if "custom_id" in document:
        return any(name in document for name in ("response", "result", "error"))
    return isinstance(document.get("key"), str) and any(name in document for name in ("response", "error"))


def fits(document: Json) -> bool:
    """Whether it is a batch, a line of its result, or tells of a deferred completion."""
    return _is_batch(document) or is_line(document) or document.keys() == _DEFERRED or _is_async(document)


def _is_batch(document: Json) -> bool:
    if document.get("object") == "batch" or document.get("type") == "message_batch":
        return True
    return text(document.get("name")).startswith("batches/")


def _is_async(document: Json) -> bool:
    named = isinstance(document.get("id"), str) and isinstance(document.get("model"), str)
    return named and document.get("status") in _ASYNC and "object" not in document


class BatchReader:
    """Reads batches, their results, and what is said of deferred completions. `read_body` reads one whole answer."""

    marks: ClassVar[Marks] = Marks(last_key=(b'usage"',))

    def __init__(self, read_body: ReadBody) -> None:
        self.reading = Reading()
        self._read_body = read_body
        self._answers = 0
        self._silent = 0  # answers without a report
        self._models: set[str] = set()  # two of them say as much as all
        self._bad = ""

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        if is_line(document):
            self.reading.sums = True
            self._add(_answer(document))
        elif document.keys() == _DEFERRED:
            self._say(WorkKind.DEFERRED, (document["request_id"],), ended=False)
        elif _is_async(document):
            self._add(mapping(document.get("response")))
            self.reading.response_id = text(document["id"])
            self._say(WorkKind.ASYNC, (document["id"],), ended=document["status"] in _ASYNC[2:])
        elif document.get("type") == "message_batch":
            self._read_message_batch(document)
        elif document.get("object") == "batch":
            self._read_batch(document)
        else:
            self._read_operation(document)

    def done(self) -> None:
        """No batch ends with `[DONE]`."""

    def close(self) -> None:
        """The body has ended: the sum is what its lines say."""
        reading = self.reading
        if self._answers:
            reading.model = next(iter(self._models)) if len(self._models) == 1 else ""
            reading.provisional = self._silent > 0 or reading.unread > 0
        if reading.sums:
            reading.complete = not reading.broke_off
            reading.work = Work(WorkKind.BATCH, (), ended=self._answers > 0, several=not reading.model)
            reading.service_tier = TIER
        if self._bad:
            reading.usage, reading.bad_usage = None, self._bad

    def _say(self, kind: WorkKind, names: tuple[object, ...], *, ended: bool, several: bool = False) -> None:
        said = tuple(name for name in names if isinstance(name, str) and name)
        self.reading.work = Work(kind, said, ended=ended, several=several)
        if not ended:
            self.reading.marks.add(Mark.OPEN_WORK)

    def _read_batch(self, document: Json) -> None:
        """OpenAI's, and of those who copied it. Its usage is stated lately; zeros beside finished requests are none."""
        reading = self.reading
        status = text(document.get("status")).lower()
        ended = status in _ENDED
        file = text(document.get("output_file_id")) or text(document.get("output_file"))
        reading.model, reading.service_tier = text(document.get("model")), TIER
        reading.response_id = text(document.get("id"))
        reading.finish = [status] if ended else []
        usage = mapping(document.get("usage"))
        report = openai_usage.report(usage, model=reading.model)
        answered = mapping(document.get("request_counts")).get("completed")
        stated = report.usage.any or (report.usage.any_known and (answered == 0 or not file))
        if stated:
            reading.report(usage, report)
        here = ended and (stated or not file)
        self._say(WorkKind.BATCH, (document.get("id"), file), ended=here, several=not reading.model)

    def _read_message_batch(self, document: Json) -> None:
        """Anthropic's, which never states its usage: that is in its results, where there are any."""
        ended = document.get("processing_status") == "ended"
        self.reading.service_tier = TIER
        self.reading.response_id = text(document.get("id"))
        nothing = mapping(document.get("request_counts")).get("succeeded") == 0
        self._say(WorkKind.BATCH, (document.get("id"),), ended=ended and nothing, several=True)

    def _read_operation(self, document: Json) -> None:
        """Google's: a long-running operation, with the result in it or in a file."""
        reading, about = self.reading, mapping(document.get("metadata"))
        state = (text(about.get("state")) or text(document.get("state"))).rpartition("_STATE_")[2].lower()
        output = mapping(document.get("response")) or mapping(about.get("output")) or mapping(document.get("output"))
        reading.response_id, reading.service_tier = text(document.get("name")), TIER
        reading.model = (text(about.get("model")) or text(document.get("model"))).removeprefix("models/")
        ended = document.get("done") is True or state in _ENDED
        reading.finish = [state] if ended else []
        if reading.model:
            self._models.add(reading.model)
        for item in _inlined(output):
            self._add(mapping(item.get("response")), named=reading.model)
        file = text(output.get("responsesFile"))
        here = ended and not file
        several = len(self._models) != 1
        self._say(WorkKind.BATCH, (document.get("name"), file), ended=here, several=several)

    def _add(self, answer: Json, named: str = "") -> None:
        """Add the report of an answer. `named`: its model, where the batch names it."""
        if not answer:
            return
        self._answers += 1
        try:
            one = self._read_body(answer)
        except BadUsage as exc:
            self._bad = self._bad or str(exc)
            return
        self._bad = self._bad or one.bad_usage
        if len(self._models) < 2:
            self._models.add(named or one.model)
        if one.usage is None or not one.usage.any:  # zeros: what was asked had tokens
            self._silent += 1
            return
        reading = self.reading
        reading.raw_usage = one.raw_usage if reading.usage is None else None
        reading.usage = one.usage if reading.usage is None else _sum(reading.usage, one.usage)
        reading.marks |= one.marks
        reading.units = {
            name: reading.units.get(name, 0) + one.units.get(name, 0) for name in reading.units | one.units
        }
        shares = dict(reading.modalities)
        reading.modalities = shares | {name: shares.get(name, 0) + more for name, more in one.modalities.items()}


def _answer(line: Json) -> Json:
    """The answer in a line; nothing where its request failed."""
    if "result" in line:
        return mapping(mapping(line["result"]).get("message"))
    response = mapping(line.get("response"))
    if "custom_id" not in line:
        return response
    status = response.get("status_code")
    return {} if isinstance(status, int) and status >= 400 else mapping(response.get("body"))


def _inlined(output: Json) -> Iterator[Json]:
    inside = output.get("inlinedResponses")
    listed = mapping(inside).get("inlinedResponses") if isinstance(inside, dict) else inside
    return map(mapping, sequence(listed))


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(**{each.name: total(getattr(one, each.name), getattr(other, each.name)) for each in fields(Usage)})
