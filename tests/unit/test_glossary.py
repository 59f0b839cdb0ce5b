"""One word per idea: the glossary has them all, and words that were given up do not come back."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from services.cli import metrics_doc
from shared.contract.tail import Outcome
from tests.support.our_files import ROOT, our_files

GLOSSARY = (ROOT / "docs/glossary.md").read_text()
ENTRIES = re.findall(r"^- \*\*([^*]+)\*\*: (.+(?:\n  .+)*)$", GLOSSARY, re.MULTILINE)

# Words that were given up, and what is said in their place.
GIVEN_UP = {
    r"siblings?": "orphaned journal",
    r"lookouts?": "books monitor",
    r"keepers?": "journal recovery",
    r"experiences?": "calibration",
    r"watch.?servers?": "admin server",
    r"pulses?": "probe stream",
    r"drain_(?:seconds|bytes|streams)": "read on",
    r"draining_upstreams": "read on",
}
# Where one stays, and why.
STAYS = {
    "/api/v1/pulse": "a path that clients have",
    "ar:experience": "a key in Redis that holds what was learned before",
    "AROUTER_DRAIN_": "an old name of a setting still works",
    'f"drain_{what}"': "likewise",
    "drain_bytes = 5\\ndrain_streams = 6": "likewise",
}
ROOMS = ("docs", "services", "shared", "tests", "deploy", "bench")
TEXTS = {".py", ".md", ".lua", ".yaml", ".yml", ".conf", ".toml"}


def test_every_word_of_the_architecture_is_in_the_glossary() -> None:
    listed = re.search(r"Words, one per idea.*?\*([^*]+)\*\.", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)
    assert listed is not None
    words = [" ".join(word.split()) for word in listed[1].split(",")]
    assert len(words) > 40
    assert set(words) <= {word for word, _ in ENTRIES}


def test_every_outcome_and_source_is_explained() -> None:
    explained = dict(ENTRIES)
    for outcome in Outcome:
        assert f"`{outcome}`" in explained["outcome"]
    for source in ("reported", "estimated", "partial"):
        assert source in explained
        assert source in explained["source"]


def test_each_word_has_one_sentence_and_one_place() -> None:
    words = [word for word, _ in ENTRIES]
    assert len(words) == len(set(words))
    assert len(words) == GLOSSARY.count("\n- "), "every line is a word and its sentence"
    for section in GLOSSARY.split("\n## ")[1:]:
        here = re.findall(r"^- \*\*([^*]+)\*\*", section, re.MULTILINE)
        assert here == sorted(here)
    for word, sentence in ENTRIES:
        assert sentence.endswith("."), word
        assert sentence.count(". ") == 0, word


@pytest.mark.parametrize("old", GIVEN_UP)
def test_words_that_were_given_up_are_gone(old: str) -> None:
    pattern = re.compile(rf"(?<![a-z]){old}(?![a-z])", re.IGNORECASE)
    found = [f"{path}: {line_of(text, match)}" for path, text in _texts() for match in pattern.finditer(text)]
    assert not found, f"the word is {GIVEN_UP[old]!r}"


def test_a_gauge_is_a_metric_and_nothing_else() -> None:
    """The token estimator was once called a gauge."""
    assert {"gauge", "counter"} <= {metric.type for found in metrics_doc.declared().values() for metric in found}
    metrics = re.compile(r"metrics|books_monitor|0022")
    gauge = re.compile(r"\bgauges?\b", re.IGNORECASE)
    assert not [path for path, text in _texts() if not metrics.search(path) and gauge.search(text)]


def line_of(text: str, match: re.Match[str]) -> str:
    """The line in which a match begins."""
    return text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]


@cache
def _texts() -> list[tuple[str, str]]:
    found = []
    for path in our_files(ROOMS, TEXTS):
        if path == Path(__file__):
            continue
        text = path.read_text()
        for text_that_stays in STAYS:
            text = text.replace(text_that_stays, "")
        found.append((str(path.relative_to(ROOT)), text))
    return found
