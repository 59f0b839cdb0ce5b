"""Where an append-only file ends whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.runtime.append_only import mend, whole_until


def command(*parts: bytes) -> bytes:
    """A command as a server appends it."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


SET = command(b"SET", b"a", b"1")
MULTI, EXEC = command(b"MULTI"), command(b"EXEC")
# A body may hold anything, and so what looks like commands.
ADD = command(b"XADD", b"tail", b"1-0", b"r", EXEC + b"\r\n*1\r\n$5\r\nMULTI\r\n")
TIME = b"#TS:1700000000\r\n"
WHOLE = [command(b"SELECT", b"0"), SET, MULTI, ADD, SET, EXEC, TIME, SET, command(b"set", b"b", b""), MULTI, ADD, EXEC]


def expected(size: int) -> int:
    """Up to where the first `size` bytes of the commands above are whole."""
    at, whole, inside = 0, 0, False
    for one in WHOLE:
        at += len(one)
        if at > size:
            break
        inside = one == MULTI or (inside and one != EXEC)
        whole = whole if inside or one == TIME else at
    return whole


def test_it_is_whole_behind_the_last_finished_command_or_script() -> None:
    data = b"".join(WHOLE)
    for size in range(len(data) + 1):
        assert whole_until(data[:size]) == expected(size), size


def written(folder: Path, data: bytes) -> Path:
    files = folder / "appendonlydir"
    files.mkdir()
    (files / "appendonly.aof.manifest").write_text(
        "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n"
        "file appendonly.aof.3.incr.aof seq 3 type i startoffset 17\n"
    )
    path = files / "appendonly.aof.3.incr.aof"
    path.write_bytes(data)
    return path


def test_what_is_unfinished_is_cut_off_the_newest_file(tmp_path: Path) -> None:
    path = written(tmp_path, SET + MULTI + ADD[:-5])
    assert mend(tmp_path) == len(MULTI + ADD) - 5
    assert path.read_bytes() == SET
    assert mend(tmp_path) == 0


@pytest.mark.parametrize("data", [b"", SET, SET + MULTI + ADD + EXEC, b"REDIS0011\xfa\t", SET + b"?" * 100 + SET])
def test_what_is_whole_or_cannot_be_read_stays_as_it_is(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path, data)
    assert mend(tmp_path) == 0
    assert path.read_bytes() == data


def test_no_file_is_nothing_to_mend(tmp_path: Path) -> None:
    assert mend(tmp_path) == 0
    written(tmp_path, SET).unlink()
    assert mend(tmp_path) == 0
