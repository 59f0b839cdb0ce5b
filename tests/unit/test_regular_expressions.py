"""No pattern of the product uses a construct that is broken in a supported Python (decision 28)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.our_files import ROOT, our_files
from tests.support.regular_expressions import forbidden

ROOMS = ("services", "shared", "bench", "sdk")


def files() -> list[Path]:
    return our_files(ROOMS, (".py",))


def literals(source: str) -> Iterator[tuple[int, str | bytes]]:
    """Every literal of a module, and every sum, repetition and f-string of literals, with its line.

    All of them, wherever they are used: a pattern is often put together elsewhere than where it is compiled. Of a
    value that is not known here, as in an f-string, one letter stands for it.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Constant, ast.BinOp, ast.JoinedStr)):
            value = _value(node)
            if value:
                yield node.lineno, value


def _value(node: ast.expr) -> str | bytes | None:
    match node:
        case ast.Constant(value=str() | bytes() as value):
            return value
        case ast.JoinedStr(values=values):
            return "".join(_text(value) for value in values)
        case ast.BinOp(op=ast.Add()):
            return _sum(_value(node.left), _value(node.right))
        case ast.BinOp(op=ast.Mod()):
            return _value(node.left)
    return None


def _text(node: ast.expr) -> str:
    value = _value(node)
    return value if isinstance(value, str) else "x"


def _sum(left: str | bytes | None, right: str | bytes | None) -> str | bytes | None:
    if isinstance(left, bytes) or isinstance(right, bytes):
        return (left if isinstance(left, bytes) else b"x") + (right if isinstance(right, bytes) else b"x")
    if left is None and right is None:
        return None
    return (left or "x") + (right or "x")


def found_in(source: str) -> list[tuple[int, str]]:
    """The forbidden constructs of one module, each with its line."""
    return [(line, name) for line, value in literals(source) for name in sorted(forbidden(value))]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pattern_is_possessive_or_atomic(path: Path) -> None:
    assert found_in(path.read_text()) == []


@pytest.mark.parametrize("pattern", ["a*+", "a++", "a?+", "a{2,3}+", "(?>a)", "(?:b|(?=c(?:d[ef]*+)))", "(?(1)a|b++)"])
@pytest.mark.parametrize(
    "source",
    [
        "re.compile(r'()' r'{}')",
        "re.sub(rb'(){}', b'', x)",
        "P = '()'\nQ = P + r'{}'",
        "re.compile(f'(){name}{}')",
        "re.compile(r'()%s{}' % name)",
        "A = '(('\nB = '{})'\nre.compile(A + x + B)",
        "TABLE = ['()' + x + '{}']\nre.compile('|'.join(TABLE))",
    ],
)
def test_one_that_is_put_back_is_found(pattern: str, source: str) -> None:
    text = source.replace("{}", pattern.replace("{", "{{").replace("}", "}}") if "(f'" in source else pattern)
    assert found_in("def f():\n    " + text.replace("\n", "\n    "))


def test_plain_patterns_pass() -> None:
    assert found_in(r"""re.compile(rb'(?:[^"\\]*\\.)*a+?b*?c{2}?[*+]\++(?=x)')""" + "\n'a + b ('\n") == []


def test_every_room_is_looked_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in files()} >= {"services", "shared", "bench"}
