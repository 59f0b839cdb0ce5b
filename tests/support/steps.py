"""Counts the work that a parser does on bytes that others choose: in steps, which do not depend on the machine.

`steps(work)` runs it and counts
- one for each line of Python, in whatever module;
- the length of each new text, list or tuple that a function comes to hold or returns, because it was copied;
- what a method of the input reads, where the input is `counted(…)`: `find` from where it starts to what it finds;
- the longest text at hand for each call of a decoder that is written in C.
Patterns run in C and are not seen: `tests/support/linear_patterns.py` proves them linear by their construction.

`assert_linear(read, pump)` is the usual test: it repeats the middle of a text and compares the counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple, TypeVar

Text = bytes | str
_T = TypeVar("_T", bytes, str)
_TEXTS = (bytes, str)
_COPIED = (bytes, str, list, tuple)
# Functions that read all of an argument, in C or with its help.
_DECODERS = frozenset({"decode", "decompress", "feed_data", "parse_url", "b64decode", "b2a_hex", "a2b_hex", "loads"})
_MOST = 100_000_000  # far beyond every test; what is copied is held until the end, and must fit into memory


class TooManySteps(AssertionError):
    """The work goes on beyond every bound."""


class _Count:
    """The steps of one piece of work."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: dict[int, object] = {}  # held, so that no id is given out twice

    def add(self, number: int) -> None:
        self.total += number
        if self.total > _MOST:
            raise TooManySteps(f"more than {_MOST} steps")

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename == __file__:
            return None
        if event == "call" and frame.f_code.co_name in _DECODERS:
            self._read_all(frame)
        elif event == "line":
            self.add(1)
            self._look(frame.f_locals)
        elif event == "return":
            self._look(frame.f_locals)
            self._take(argument)
        return self.trace

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and argument.__name__ in _DECODERS and frame.f_code.co_filename != __file__:
            self._read_all(frame)

    def _read_all(self, frame: FrameType) -> None:
        self.add(max((len(value) for value in _held(frame.f_locals) if isinstance(value, _TEXTS)), default=0))

    def _look(self, names: dict[str, Any]) -> None:
        for value in _held(names):
            self._take(value)

    def _take(self, value: object) -> None:
        if isinstance(value, _COPIED) and id(value) not in self._seen:
            self._seen[id(value)] = value
            self.add(len(value))


def _held(names: dict[str, Any]) -> Iterable[object]:
    """The values of a function: its variables, and what its `self` keeps."""
    yield from names.values()
    owner = names.get("self")
    if owner is None or isinstance(owner, _COPIED):
        return
    yield from getattr(owner, "__dict__", {}).values()
    for kind in type(owner).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(owner, _mangled(kind, name), None)


def _mangled(kind: type, name: str) -> str:
    return f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name


_running: list[_Count] = []


def steps(work: Callable[[], object]) -> int:
    """The steps of `work`, which may raise nothing."""
    count = _Count()
    _running.append(count)
    before = sys.gettrace(), sys.getprofile()
    sys.settrace(count.trace)
    sys.setprofile(count.profile)
    try:
        work()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
        _running.pop()
    return count.total


def _spend(number: int) -> None:
    if _running:
        _running[-1].add(number)


def _scanned(name: str, text: Text, arguments: tuple[Any, ...], result: Any) -> int:
    """How much of a text a method of it has read or copied."""
    if name in ("find", "index", "rfind", "rindex", "count"):
        start, end, _ = slice(*(arguments[1:3] if len(arguments) > 2 else (*arguments[1:2], None))).indices(len(text))
        if name == "count" or result < 0:
            return int(end - start)
        return int(result + 1 - start if name in ("find", "index") else end - result)
    if name == "__getitem__":
        return len(result) if isinstance(result, _TEXTS) else 1
    if name == "__contains__" and result:
        return (text.index(arguments[0]) if isinstance(text, type(arguments[0])) else 0) + 1
    if name in ("startswith", "endswith", "__eq__", "__ne__"):
        return 1 + (len(arguments[0]) if isinstance(arguments[0], _TEXTS) else 0)
    return len(text)


_COUNTING = """
    __add__ __contains__ __eq__ __getitem__ __iter__ __mod__ __ne__ count decode encode endswith find index isalnum
    isascii isdigit isprintable lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit
    rstrip split splitlines startswith strip translate upper
"""


def _method(base: Any, name: str) -> Callable[..., Any]:
    plain = getattr(base, name)

    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        result = plain(self, *arguments, **named)
        if result is not NotImplemented:
            _spend(_scanned(name, base(self) if name == "__contains__" else self, arguments, result))
        return _counting(result)

    return method


def _of(base: Any) -> Any:
    """A kind of text whose methods count, and give texts of such kinds."""
    made = {name: _method(base, name) for name in _COUNTING.split() if hasattr(base, name)}
    return type(f"Counted{base.__name__.title()}", (base,), {**made, "__hash__": base.__hash__})


_Bytes, _Str = _of(bytes), _of(str)


def _counting(value: Any) -> Any:
    if isinstance(value, bytes):
        return _Bytes(value)
    if isinstance(value, str):
        return _Str(value)
    if type(value) in (list, tuple):
        return type(value)(_counting(part) for part in value)
    return value


def counted(text: _T) -> _T:
    """The same text; methods of it, and of what is cut out of it, count what they read.

    It is of a kind derived from `bytes` or `str`, which msgspec decodes and does not encode.
    """
    return _counting(text)  # type: ignore[no-any-return]


class Pump(NamedTuple):
    """A text whose middle is repeated."""

    head: bytes
    middle: bytes
    tail: bytes = b""

    def text(self, times: int) -> bytes:
        return self.head + self.middle * times + self.tail


def assert_linear(
    read: Callable[[bytes], object],
    pump: Pump,
    *,
    size: int = 2000,
    refusals: tuple[type[Exception], ...] = (),
    free: int = 8,
) -> None:
    """AssertionError where the steps of `read` grow faster than a text of `size`, 2 `size` and 4 `size` bytes.

    `refusals`: what `read` may raise instead of an answer. `free`: steps for each byte that are never too many, because
    a reader may give up on the shorter text and not on the longer one.
    """
    times = max(1, size // len(pump.middle))
    texts = [pump.text(times * factor) for factor in (1, 2, 4)]
    _of_reading(read, texts[0], refusals)  # what is imported or remembered the first time does not count
    one, two, four = (_of_reading(read, text, refusals) for text in texts)
    most = 3.8 * max(two - one, 0) + free * len(
        texts[2]
    )  # from 1 to 4 it should be three times as many, and by n * n five
    assert four - one <= most, f"{one}, {two}, {four} steps for {[len(text) for text in texts]} bytes like {pump}"


def _of_reading(read: Callable[[bytes], object], text: bytes, refusals: tuple[type[Exception], ...]) -> int:
    def work() -> None:
        with suppress(*refusals):
            read(given)

    given = counted(text)
    return steps(work)
