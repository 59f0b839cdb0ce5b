"""Tables, CSV and files of rows."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from pyarrow import parquet

from services.cli import export, main, tables
from services.cli.books import BadCursor
from services.cli.output import WIDTH, cell, csv_writer, dollars, print_table
from shared.runtime.errors import SettingsError


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_a_text_that_is_a_formula_stays_a_text(text: str) -> None:
    file = io.StringIO(newline="")
    csv_writer(file, ("user",))([text])
    [_, [read]] = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert read == "'" + text.replace("\r", "\n")


def test_what_is_no_text_is_left_alone() -> None:
    assert [cell(value) for value in (-1, None, "a=b", 1.5, True)] == [-1, "", "a=b", 1.5, True]


def test_money_is_exact() -> None:
    assert dollars(1) == "0.000000001"
    assert dollars(10**17 + 1) == "100000000.000000001"
    assert dollars(0) == "0.000000000"
    assert dollars(None) is None


def test_a_table_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("model", "id"), [("m" * 200, "i" * 40), ("short", "x")], width=WIDTH, cut=("model",))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == WIDTH
    assert lines[1].split() == ["m" * 57 + "…", "i" * 40]
    print_table(("a", "b"), [("x" * 200, "y")], width=WIDTH)
    assert "x" * 200 in capsys.readouterr().out


def test_a_table_has_nothing_that_a_terminal_acts_on(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("model", "n"), [("gpt\x1b[31m\nred\u202e", "1"), ("ünï 你", "2")])
    assert capsys.readouterr().out.splitlines() == ["model          n", "gpt?[31m?red?  1", "ünï 你          2"]


COLUMNS = {"at": datetime, "n": int, "ok": bool, "name": str, "usd": Decimal, "tags": tuple}
ROW = (datetime(2026, 11, 30, 12, tzinfo=UTC), 2**53 + 1, True, "=x", Decimal("0.000000001"), ("a", "b"))
EMPTY = (ROW[0], None, False, None, None, ())


def test_a_parquet_file_has_typed_columns(tmp_path: Path) -> None:
    with tables.writing("parquet", COLUMNS, tmp_path / "x.parquet") as writer:
        writer.write([ROW])
        writer.write([EMPTY])
    table = parquet.read_table(tmp_path / "x.parquet")
    assert [str(field.type) for field in table.schema] == [
        "timestamp[us, tz=UTC]",
        "int64",
        "bool",
        "string",
        "decimal128(38, 9)",
        "list<element: string>",
    ]
    first, second = table.to_pylist()
    assert tuple(first.values()) == (*ROW[:5], ["a", "b"])
    assert tuple(second.values()) == (*EMPTY[:5], [])


def test_json_lines_and_csv_say_the_same(tmp_path: Path) -> None:
    for form in ("jsonl", "csv"):
        with tables.writing(form, COLUMNS, tmp_path / form) as writer:
            writer.write([ROW, EMPTY])
    first, _ = map(json.loads, (tmp_path / "jsonl").read_text().splitlines())
    assert first == {
        "at": "2026-11-30T12:00:00Z",
        "n": 2**53 + 1,
        "ok": True,
        "name": "=x",
        "usd": "0.000000001",
        "tags": ["a", "b"],
    }
    _, line, empty = csv.reader(io.StringIO((tmp_path / "csv").read_text()))
    assert line == ["2026-11-30T12:00:00Z", str(2**53 + 1), "True", "'=x", "0.000000001", "a b"]
    assert empty[1:] == ["", "False", "", "", ""]


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    for form in tables.FORMATS:
        with pytest.raises(RuntimeError):
            with tables.writing(form, COLUMNS, tmp_path / "file") as writer:
                writer.write([ROW])
                raise RuntimeError
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="is there already"):
        with tables.writing("csv", COLUMNS, tmp_path / "file"):
            pass
    with pytest.raises(SettingsError, match="a Parquet file needs a name"):
        with tables.writing("parquet", COLUMNS, None):
            pass


@pytest.mark.parametrize(
    "options",
    [
        *(["exchanges", option, ""] for option in ("--key", "--team", "--user", "--ended", "--since")),
        ["exchanges", ""],
        ["usage", "--key", ""],
        ["books", "export", "usage", "--since", ""],
    ],
    ids=" ".join,
)
def test_an_empty_filter_is_an_error_and_not_no_filter(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.parse(options)
    assert "must not be empty" in capsys.readouterr().err


ID = "01K00000000000000000000000.3.12"
AT = "2026-11-30T10:42:00+00:00"


@pytest.mark.parametrize(
    "cursor",
    [
        {"what": "exchanges", "settled_at": AT},
        {"what": "exchanges", "settled_at": AT, "exchange_id": 5},
        {"what": "exchanges", "settled_at": AT, "exchange_id": "x"},
        {"what": "exchanges", "settled_at": AT[:19], "exchange_id": ID},
        {"what": "exchanges", "since": "2026-11-30"},
        {"what": "exchanges", "since": 5},
        {"what": "usage"},
        [],
        "x",
    ],
    ids=str,
)
def test_a_damaged_cursor_is_an_error(tmp_path: Path, cursor: object) -> None:
    path = tmp_path / "cursor"
    path.write_text(json.dumps(cursor))
    with pytest.raises(BadCursor):
        export.cursor_of(path, "exchanges")


def test_a_cursor_is_read_and_could_be_written(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    assert export.cursor_of(path, "exchanges") == export.cursor_of(None, "exchanges") == {}
    path.write_text(json.dumps({"what": "exchanges", "settled_at": AT, "exchange_id": ID}))
    assert export.cursor_of(path, "exchanges") == {"settled_at": AT, "exchange_id": ID}
    for wrong in (tmp_path, tmp_path / "none" / "cursor"):
        with pytest.raises(BadCursor):
            export.cursor_of(wrong, "exchanges")
    path.write_bytes(b"\xff")
    with pytest.raises(BadCursor):
        export.cursor_of(path, "exchanges")
