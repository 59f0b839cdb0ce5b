"""Patterns that read what callers send take no more steps than it has bytes: by construction, because C counts none."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.support.linear_patterns import faults, remembers_rounds
from tests.support.our_files import ROOT, our_files

# What reads bytes of callers. `services.meter` reads those of providers.
ROOMS = ("services/gateway", "services/control", "shared/access", "shared/contract", "shared/runtime")
NOT_CALLERS = {"services/gateway/provider_settings.py"}  # the operator has written what it reads
SEARCHES = {"search", "finditer", "findall", "sub", "subn", "split"}


class Used(NamedTuple):
    """A pattern of a module, and how it is used."""

    where: str
    pattern: re.Pattern[Any]
    searched: bool


def searched_names(trees: dict[str, ast.Module]) -> set[str]:
    """Names of which a search method is used, in any module: most patterns are imported nowhere."""
    return {
        getattr(node.value, "id", getattr(node.value, "attr", ""))
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in SEARCHES
    }


def written_out(where: str, tree: ast.Module) -> Iterator[Used]:
    """Patterns of calls such as `re.fullmatch(r"…", text)`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=how), args=[ast.Constant(value=text), *_]):
                if how != "compile":
                    yield Used(f"{where}: {text!r}", re.compile(text), how in SEARCHES)


def compiled(where: str, searched: set[str]) -> Iterator[Used]:
    """Patterns that a module holds, or of which it holds a method."""
    module = importlib.import_module(where.removesuffix(".py").replace("/", "."))
    for name, value in vars(module).items():
        pattern = getattr(value, "__self__", value)
        if isinstance(pattern, re.Pattern):
            method = getattr(value, "__name__", "")
            yield Used(f"{where}: {name}", pattern, method in SEARCHES or name in searched)


def used() -> list[Used]:
    files = {str(path.relative_to(ROOT)): path.read_text() for path in our_files(ROOMS, (".py",))}
    trees = {where: ast.parse(text) for where, text in files.items() if "re." in text and where not in NOT_CALLERS}
    searched = searched_names(trees)
    found = [one for where, tree in trees.items() for one in written_out(where, tree)]
    return found + [one for where in trees for one in compiled(where, searched)]


USED = used()


@pytest.mark.parametrize("one", USED, ids=[one.where for one in USED])
def test_the_steps_of_a_pattern_grow_no_faster_than_its_text(one: Used) -> None:
    assert faults(one.pattern, searched=one.searched) == []


@pytest.mark.parametrize("one", USED, ids=[one.where for one in USED])
def test_the_memory_of_a_match_is_bounded(one: Used) -> None:
    assert not remembers_rounds(one.pattern)


@pytest.mark.parametrize("text", [r"(?:ab)*", r"x|(?:[^a]*a)+", r"(?:a(?:bc)*){1,9}"])
def test_a_group_that_is_repeated_without_a_bound_is_found(text: str) -> None:
    assert remembers_rounds(re.compile(text))
    assert not remembers_rounds(re.compile(text.replace("*", "{0,9}").replace("+", "{0,9}")))


def test_patterns_are_found_with_their_use() -> None:
    found = {one.where: one.searched for one in USED}
    assert found["services/gateway/client/json_tokens.py: _TOKEN"]
    assert not found["services/gateway/client/json_tokens.py: COLON"]
    assert any(where.startswith("services/control/access.py: ") for where in found)
    assert len(found) > 10


@pytest.mark.parametrize(
    "text",
    [
        r"(?:a+)+b",
        r"(?:a*)*b",
        r"(?:a|a)*b",
        r"(?:xa|[xy]b)*c",
        r"a*a*b",
        r"\w+\d+x",
        r".+:\w+",
        r"(?:.+/)?model/(.+)/x",
        r"(?:[^b]*a)*",
        r"(?i)A+a+",
        r"(?i:a)+",
        r"(?:a?b?)*c",
        r'"(?:[^"\\]+|\\.)*?x',
        r"(a*)\1",
        r"(models|tunedModels)/(.+):(\w+)",
    ],
)
def test_a_pattern_that_goes_back_is_found(text: str) -> None:
    assert faults(re.compile(text), searched=False)


@pytest.mark.parametrize(
    "text",
    [r'"[^"\\]*(?:\\.[^"\\]*)*"', r"a+b", r"\s+$", r"(?:x|a*b)", r"[^cd]*c?(?=d)", r"models/[^:]+:", r"(?:ab)+c"],
)
def test_a_search_that_fails_late_is_found(text: str) -> None:
    assert faults(re.compile(text), searched=True)
    assert not faults(re.compile(text), searched=False)


@pytest.mark.parametrize(
    "text",
    [
        r'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\]]',
        r'"model"\s*:\s*("[^"\\]*")',
        r"(://[^\s:/@]*:)[^\s/@]+(?=@)",
        r"%(?:4[1-9]|5[0-9])",
        r"^\s+$",
        r"ab{1,8}c",
        r"a+b*c?",
        r"[a-f0-9]{64}",
    ],
)
def test_plain_patterns_pass(text: str) -> None:
    assert faults(re.compile(text, re.DOTALL), searched=True) == []
