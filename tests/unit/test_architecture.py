"""The shape of the code, held by machine: small classes, small files, tests that stay outside of what they test.

Each exception has its reason in a table here; one that is no longer needed fails the test, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from shared.contract.providers import PROVIDERS
from tests.support.our_files import ROOT, our_files

ROOMS = ("services", "shared", "bench", "sdk", "tests")
MOST_ATTRIBUTES = 12
MOST_LINES = 400

# Records and settings hold as many fields as the facts they carry.
RECORD_BASES = {"Struct", "NamedTuple", "BaseModel", "BaseSettings", "Settings", "TypedDict", "Enum", "StrEnum"}

LARGE_CLASSES: dict[str, str] = {}
LONG_FILES: dict[str, str] = {}
PATCHING: dict[str, str] = {}

# Where a provider's name is spelt outside its table (`shared/contract/providers.py`), and why.
_HEADER = "a header or subprotocol of that name"
_SETTING = "a sentence that documents a setting"
_FIELD = "a field of answers, wherever they come from"
_MODELS = "a family of models, whoever serves them"
SPELT: dict[str, str] = {
    "services/gateway/client/attribution.py": _HEADER,
    "services/gateway/client/headers.py": _HEADER,
    "services/gateway/client/leads.py": _HEADER,
    "services/gateway/credential_settings.py": _SETTING,
    "services/gateway/credentials/sources.py": "the modules, scope and errors of a cloud's own library",
    "services/gateway/provider_settings.py": _SETTING,
    "services/gateway/routing/native.py": "a publisher of models in a cloud's paths, which gives the dialect",
    "services/gateway/routing/routes.py": _HEADER,
    "services/gateway/settings.py": _SETTING,
    "services/gateway/websocket/handshake.py": _HEADER,
    "services/meter/estimate/framing.py": _MODELS,
    "services/meter/estimate/tokenizers.py": _MODELS,
    "services/meter/estimate/vision.py": _MODELS,
    "services/meter/readers/bedrock.py": _FIELD,
    "services/meter/readers/openai_chat.py": _FIELD,
    "services/meter/readers/openai_usage.py": _MODELS,
}


@cache
def sources() -> dict[str, str]:
    """The text of every file of the rooms by its path, without installed packages."""
    return {str(path.relative_to(ROOT)): path.read_text() for path in our_files(ROOMS, (".py", ".lua"))}


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class with its name, `path:Class`."""
    for path, text in sources().items():
        if path.endswith(".py") and "class " in text:
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef):
                    yield f"{path}:{node.name}", node


def name_of(node: ast.expr) -> str:
    """The last part of a name, without its call or subscript."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_record(node: ast.ClassDef) -> bool:
    """Whether a class is a record: a dataclass, or derived from a record by name."""
    decorated = any(name_of(decorator) == "dataclass" for decorator in node.decorator_list)
    return decorated or any(name_of(base) in RECORD_BASES or name_of(base).endswith("Settings") for base in node.bases)


def attributes(node: ast.ClassDef) -> set[str]:
    """Names assigned on `self` anywhere in the class, and its slots."""
    found = {
        target.attr
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    }
    for statement in node.body:
        if isinstance(statement, ast.Assign) and any(name_of(target) == "__slots__" for target in statement.targets):
            found |= {part.value for part in ast.walk(statement.value) if isinstance(part, ast.Constant)}  # type: ignore[misc]
    return found


def test_no_class_has_many_attributes() -> None:
    large = {name for name, node in classes() if not is_record(node) and len(attributes(node)) > MOST_ATTRIBUTES}
    assert large == LARGE_CLASSES.keys()


def test_no_file_is_long() -> None:
    long = {path for path, text in sources().items() if len(text.splitlines()) > MOST_LINES}
    assert long == LONG_FILES.keys()


def texts(node: ast.AST) -> Iterator[str]:
    """The literals in a piece of code, without its docstrings."""
    docs = {id(inner.value) for inner in ast.walk(node) if isinstance(inner, ast.Expr)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and id(inner) not in docs and isinstance(inner.value, str | bytes):
            yield inner.value if isinstance(inner.value, str) else inner.value.decode("latin-1")


def names_in(text: str) -> set[str]:
    """The providers that a piece of code names in its literals."""
    return {
        word
        for literal in texts(ast.parse(text))
        for word in re.findall("[a-z]+", literal.lower())
        if word in PROVIDERS
    }


def test_no_provider_is_named_outside_the_table() -> None:
    """A rule of a provider's is data of its row; code that asks for a name works for one provider alone."""
    rooms = ("services/gateway/", "services/meter/")
    code = {path: text for path, text in sources().items() if path.startswith(rooms) and path.endswith(".py")}
    assert {path for path, text in code.items() if names_in(text)} == SPELT.keys()
    # Where headers and settings may have such a name, none of these stands alone, to be compared with a provider's.
    alone = {
        path
        for path, reason in SPELT.items()
        if reason in (_HEADER, _SETTING, _FIELD) and any(text in PROVIDERS for text in texts(ast.parse(code[path])))
    }
    assert alone == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('x = name == "openai"', {"openai"}),
        ('x = {b"azure": f"/bedrock/{name}"}', {"azure", "bedrock"}),
        ('def f():\n    """Of openai."""\n    openai = Family.OPENAI', set()),
    ],
)
def test_names_are_found_in_literals_alone(text: str, expected: set[str]) -> None:
    assert names_in(text) == expected


def patches(text: str) -> bool:
    """Whether a test puts something of its own in the place of what it tests."""
    if "setattr" not in text:
        return False
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Attribute) and call.func.attr == "setattr" for call in calls)


def test_no_test_patches_what_it_tests() -> None:
    """Clocks and limits are passed in. (Ruff sees to it that tests call no private method: SLF001.)"""
    tests = {path: text for path, text in sources().items() if path.startswith("tests/") and path.endswith(".py")}
    assert {path for path, text in tests.items() if patches(text)} == PATCHING.keys()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class A:\n def f(self): self.a, self.b = 1, 2", {"a", "b"}),
        ("class A:\n __slots__ = ('a', 'b')\n def f(self): self.a += 1", {"a", "b"}),
        ("class A:\n def f(self):\n  self.a: int = 1\n  self.b.c = 2\n  other.d = 3", {"a"}),
        ("class A:\n def f(self):\n  with open(x) as self.a: pass\n  for self.b in x: pass", {"a", "b"}),
    ],
)
def test_attributes_are_counted_however_they_are_assigned(text: str, expected: set[str]) -> None:
    [node] = ast.parse(text).body
    assert isinstance(node, ast.ClassDef)
    assert attributes(node) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("@dataclass\nclass A: pass", True),
        ("@dataclasses.dataclass(slots=True)\nclass A: pass", True),
        ("class A(msgspec.Struct, frozen=True): pass", True),
        ("class GatewaySettings(MeterSettings): pass", True),
        ("class A(Protocol[T]): pass", False),
        ("class A: pass", False),
    ],
)
def test_records_are_told_from_other_classes(head: str, expected: bool) -> None:
    [node] = ast.parse(head).body
    assert isinstance(node, ast.ClassDef)
    assert is_record(node) is expected
