"""Directives of the demo provider."""

import pytest

from services.demo import sentences
from services.demo.scenario import parse
from services.demo.script import words


def test_a_sentence_is_said_as_one_token_a_word() -> None:
    for number, sentence in enumerate(sentences.SENTENCES, start=1):
        scenario = parse(f"say={number}, pace=5", "gpt-4o")
        assert "".join(words(scenario)).strip() == sentence
        assert scenario.tokens == len(sentence.split())
    assert len(words(parse("say=1, tokens=40", ""))) == 40


@pytest.mark.parametrize("header", ["say=99", "say=-1", "sya=1"])
def test_what_nobody_knows_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match=r"say|sya"):
        parse(header, "")
