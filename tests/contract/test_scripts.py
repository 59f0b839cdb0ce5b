"""Every script is a file whose head says what it takes; no other file holds Lua."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.contract import scripts

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "shared/contract/lua").glob("*.lua"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_script_says_what_it_takes_and_gives(file: Path) -> None:
    text = file.read_text()
    first, *rest = text.splitlines()
    assert re.fullmatch(r"#!lua( flags=(allow-oom|no-writes))?", first)
    header = " ".join(line for line in rest[: next(n for n, line in enumerate(rest) if not line.startswith("--"))])
    for kind in ("KEYS", "ARGV"):
        assert (kind in header) == (f"{kind}[" in text or f"#{kind}" in text)
    assert "Returns" in header or "error where" in header
    assert ("allow-oom" in header) or "no-writes" in first


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_script_is_sent_without_its_comments(file: Path) -> None:
    sent = getattr(scripts, file.stem.upper()).splitlines()
    written = file.read_text().splitlines()
    assert len(sent) == len(written)
    assert all(a in (b, "") for a, b in zip(sent, written, strict=True))
    assert not any(line.lstrip().startswith("--") for line in sent)


def test_there_is_no_lua_in_python() -> None:
    for room in ("services", "shared", "bench"):
        for path in (ROOT / room).rglob("*.py"):
            assert "redis.call(" not in path.read_text(), path


def test_no_amount_is_joined_to_a_text() -> None:
    """Only texts and revisions, which are small, are joined."""
    part = r"(\w+(?:\[\w+\])?)"
    joined = {*re.findall(rf"\.\. *{part}", scripts.SETTLE), *re.findall(rf"{part} *\.\.", scripts.SETTLE)}
    assert joined == {
        "name",
        "was",
        "revision",
        "rest",
        "here",
        "before[place]",
        "ARGV[2]",
        "ARGV[6]",
        "ARGV[8]",
        "ARGV[15]",
        "ARGV[16]",
        "ARGV[17]",
        "booked",
    }
    assert "tostring" not in scripts.SETTLE
