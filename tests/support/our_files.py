"""The files of this project, without what the tests of the clients install beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLED = {".venv", "node_modules"}


def our_files(rooms: Iterable[str], suffixes: Iterable[str]) -> list[Path]:
    """Every file in these top folders with one of these suffixes (`.py`), in order of its path."""
    found = (path for room in rooms for path in (ROOT / room).rglob("*"))
    return sorted(path for path in found if path.suffix in set(suffixes) and not INSTALLED & set(path.parts))
