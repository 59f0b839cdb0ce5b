"""What is counted of an answer by what it is, and what an exchange teaches."""

from __future__ import annotations

import json

import pytest

from services.meter.calibrations import Calibrations
from services.meter.estimate.calibration import Estimate, Said
from services.meter.estimate.prompt import Asked
from services.meter.observing import said_of, taught
from services.meter.readers.reader import read
from services.meter.readers.reading import CALL, REASONING, TEXT, Reading
from services.meter.reconcile import Observed
from shared.contract.dialects import Dialect
from shared.contract.usage import Usage


def words(text: str) -> int:
    return len(text.split())


def reading(*, complete: bool = True, finish: object = "stop") -> Reading:
    answer = Reading(complete=complete, finish=[finish])
    answer.say(REASONING, 0, "let me ", "think")
    answer.say(TEXT, 0, "it is four")
    answer.say(CALL, "0 0", "f", json.dumps({}))
    answer.say(CALL, "0 1", "g")
    return answer


def observed(said: Said, thinks: bool | None = None) -> Observed:
    return Observed(9, said.tokens, Estimate(said.tokens, 1.0, 0, 99), asked=Asked(9, 9, 9, thinks=thinks), said=said)


def test_each_kind_of_output_is_counted_for_itself() -> None:
    assert said_of(reading(), words) == Said(tokens=8, calls=2, thoughts=3, ended=True)


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "incomplete", "response.incomplete"])
def test_an_answer_cut_short_has_no_end(finish: str) -> None:
    assert not said_of(reading(finish=finish), words).ended
    assert not said_of(reading(complete=False), words).ended
    assert said_of(reading(finish="tool_calls"), words).ended


def test_an_exchange_teaches_where_both_figures_are_known() -> None:
    said = Said(100, ended=False)
    lesson = taught("gpt-4o", Usage(output_tokens=120), observed(said))
    assert lesson is not None
    assert (lesson.expected, lesson.shown, lesson.hidden) == (100, 120, 0)
    hiding = taught("gpt-5", Usage(output_tokens=740, reasoning_tokens=640), observed(said))
    assert hiding is not None
    assert (hiding.shown, hiding.hidden) == (None, 640)
    silent = taught("gemini-2.5-pro", Usage(output_tokens=740), observed(said))
    assert silent is not None
    assert silent.shown is None
    asked_not_to = taught("gemini-2.5-pro", Usage(output_tokens=740), observed(said, thinks=False))
    assert asked_not_to is not None
    assert asked_not_to.shown == 740
    for report, seen in [
        (None, observed(said)),
        (Usage(input_tokens=5), observed(said)),
        (Usage(output_tokens=5), None),
    ]:
        assert taught("gpt-4o", report, seen) is None


def test_what_an_exchange_teaches_is_kept_by_its_kind() -> None:
    meter, said = Calibrations(), Said(100)
    for usage in (Usage(output_tokens=120), Usage(output_tokens=740, reasoning_tokens=640)):
        lesson = taught("gpt-5", usage, observed(said))
        assert lesson is not None
        meter.learn("openai", "gpt-5", lesson)
    known = meter.of("openai", "gpt-5")
    assert (known.shown.count, known.hidden.count) == (1, 1)


def test_a_message_so_far_beside_each_delta_is_said_once() -> None:
    """Perplexity's documents; MiniMax's last one has the message alone."""

    def document(delta: str | None, message: str) -> str:
        said = {"delta": {"content": delta}} if delta else {}
        choice = {"index": 0, "message": {"content": message}, **said}
        return "data: " + json.dumps({"object": "chat.completion", "choices": [choice]}) + "\n\n"

    stream = document("one ", "one ") + document("two ", "one two ") + document(None, "one two ")
    seen = read(Dialect.OPENAI_CHAT, stream.encode(), "text/event-stream", observe=True)
    assert seen.texts() == ["one two "]
