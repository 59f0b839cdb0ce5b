"""Recorded provider answers that nobody here wrote, from the folder CORPUS_DIR and its numbered neighbours; skipped
where they are missing."""

from __future__ import annotations

import functools
import json
import os
import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from services.cli import inspect
from services.meter.calibrations import Calibrations
from services.meter.estimate import calibration, prompt, tokens
from services.meter.estimate.calibration import Said
from services.meter.estimate.lesson import lesson_of
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.observing import said_of
from services.meter.readers.reader import Reader
from services.meter.readers.reading import CALL, Reading
from shared.contract.dialects import Dialect
from shared.contract.usage import Usage

FOLDER = Path(os.environ.get("CORPUS_DIR", Path(__file__).parents[3] / "shared" / "corpus"))  # noqa: TID251
MANIFEST = FOLDER / "manifest.jsonl"

pytestmark = pytest.mark.skipif(not MANIFEST.exists(), reason=f"no recordings in {FOLDER} (set CORPUS_DIR)")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Of the first folder, from which figures are learned."""
    return rows_of(FOLDER)


@pytest.fixture(scope="module")
def all_rows() -> list[Row]:
    others = (path.parent for path in FOLDER.parent.glob(f"{FOLDER.name}-*/manifest.jsonl"))
    return [row for folder in (FOLDER, *sorted(others)) for row in rows_of(folder)]


def rows_of(folder: Path) -> list[Row]:
    return [json.loads(line) | {"folder": folder} for line in (folder / "manifest.jsonl").read_text().splitlines()]


def body_of(row: Row) -> bytes:
    body: bytes = (row["folder"] / row["file"]).read_bytes()
    return body


def reading_of(row: Row, body: bytes, most: int | None = None, *, observe: bool = False) -> Reading:
    """Read a recording, whole or in random pieces of at most `most` bytes."""
    reader = Reader(Dialect(row["dialect"]), row["content_type"] or "", observe=observe)
    rng, at = random.Random(row["file"]), 0
    while at < len(body):
        size = len(body) if most is None else rng.randint(1, most)
        reader.feed(body[at : at + size])
        at += size
    return reader.close()


def problems(row: Row, reading: Reading) -> list[str]:
    """Where the figures of a reading differ from what the recording's index expects."""
    found = []
    usage, expected, norm = reading.usage, row["expected"], row["norm"] or {}
    if (usage is not None) != row["has_reported_usage"]:
        return ["reported"]
    if usage is not None:
        pairs = {
            "input_total": usage.input_tokens,
            "output_total": usage.output_tokens,
            "total": usage.total_tokens,
        }
        found += [name for name, value in pairs.items() if name in norm and norm[name] != value]
        details = {
            "cached_input_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
        }
        found += [name for name, value in details.items() if expected[name] != value]
    return found


def names(row: Row, reading: Reading) -> list[str]:
    """The same of what is no figure: of recordings with a report, under the names it came with."""
    found = []
    if (reading.raw_usage or None) != (row["raw_usage"] or None):
        found.append("raw_usage")
    if (reading.response_id or None) != row["response_id"]:
        found.append("response_id")
    if (reading.model or None) != row["model"]:
        found.append("model")
    if reading.finish != row["finish"]:
        found.append("finish")
    return found


def test_the_figures_of_every_recording_are_read_as_expected(all_rows: list[Row]) -> None:
    """All but one in two hundred, and but for those whose right answer is arguable (decisions 10 and 44)."""
    judged = [row for row in all_rows if not row.get("ambiguity")]
    wrong = {row["file"]: bad for row in judged if (bad := problems(row, reading_of(row, body_of(row))))}
    assert len(wrong) <= len(judged) / 200, wrong
    # The index of a chat answer on Ollama's path goes by the path alone, and so expects no report (decision 36).
    assert sum(bad == ["reported"] for bad in wrong.values()) <= 1, wrong


def test_the_names_of_every_recording_are_read_as_expected(all_rows: list[Row]) -> None:
    wrong = {row["file"]: bad for row in all_rows if (bad := names(row, reading_of(row, body_of(row))))}
    assert len(wrong) <= len(all_rows) / 100, wrong


@pytest.mark.parametrize("most", [3, 50, 2000])
def test_the_cut_does_not_matter(all_rows: list[Row], most: int) -> None:
    different = []
    for row in all_rows:
        body = body_of(row)
        if len(body) > 50_000 * most:
            continue
        whole, pieces = reading_of(row, body), reading_of(row, body, most)
        observed = reading_of(row, body, most, observe=True)
        for other in (pieces, observed):
            if (other.usage, other.raw_usage, other.finish, other.complete) != (
                whole.usage,
                whole.raw_usage,
                whole.finish,
                whole.complete,
            ):
                different.append(row["file"])
    assert different == []


def test_a_cut_body_never_raises_nor_reports_more(all_rows: list[Row]) -> None:
    rng = random.Random(5)
    for row in all_rows:
        body = body_of(row)
        cut = reading_of(row, body[: rng.randint(0, len(body))], observe=True)
        if reading_of(row, body, observe=True).usage is None:
            assert cut.usage is None, row["file"]


def test_output_of_openais_own_chat_is_counted_within_two_percent(rows: list[Row], tmp_path: Path) -> None:
    tokens.load(tmp_path)
    ratios = [
        observed / reported
        for row in rows
        if row["dialect"] == "openai_chat" and row["provider"] == "openai" and row["streamed"] and not row["synthetic"]
        for observed, reported, calls, hidden in [figures(row)]
        if reported and not calls and not hidden
    ]
    assert len(ratios) >= 10
    assert abs(statistics.median(ratios) - 1) <= 0.02


def test_estimates_of_other_families_hold(rows: list[Row], tmp_path: Path) -> None:
    """On streams that calibration has not seen: the median error is within 10 %, and nine intervals in ten hold."""
    tokens.load(tmp_path)
    errors, held = [], []
    learned = Calibrations()
    for row in random.Random(11).sample(rows, len(rows)):
        if row["synthetic"] or not row["streamed"] or not row["has_reported_usage"]:
            continue
        model = row["request_model"] or row["model"] or ""
        said, reported, reasoning = said_by(row)
        lesson = lesson_of(tokenizer_of(model), said, reported or 0, reasoning)
        if not said.tokens or not reported or said.calls or lesson.hidden:
            continue
        figure = calibration.estimate(tokenizer_of(model), learned.of(row["provider"], model), said)
        errors.append(abs(figure.tokens - reported) / reported)
        held.append(figure.low <= reported <= figure.high)
        learned.learn(row["provider"], model, lesson)
    assert len(errors) >= 100
    assert statistics.median(errors) <= 0.10
    assert sum(held) / len(held) >= 0.90


def test_intervals_of_estimated_inputs_hold(rows: list[Row], tmp_path: Path) -> None:
    tokens.load(tmp_path)
    held = []
    for row in rows:
        reported = (row["norm"] or {}).get("input_total")
        if row["synthetic"] or not reported or not row.get("request_file"):
            continue
        model = row["request_model"] or row["model"] or ""
        body = (FOLDER / row["request_file"]).read_bytes()
        guess = prompt.asked(body, model, functools.partial(tokens.count, model=model))
        held.append(guess.low <= reported <= guess.high)
    assert len(held) >= 100
    assert sum(held) / len(held) >= 0.90


def said_by(row: Row) -> tuple[Said, int | None, int | None]:
    """What was observed, and output and reasoning as reported."""
    reading = reading_of(row, body_of(row), observe=True)
    model = row["request_model"] or row["model"] or ""
    usage = reading.usage or Usage()
    return said_of(reading, functools.partial(tokens.count, model=model)), usage.output_tokens, usage.reasoning_tokens


def figures(row: Row) -> tuple[int, int, int, bool]:
    """Observed and reported output tokens, tool calls, and whether some of the output was never shown."""
    reading = reading_of(row, body_of(row), observe=True)
    model = row["request_model"] or row["model"] or ""
    observed = sum(tokens.count(text, model) for text in reading.texts())
    reported = reading.usage.output_tokens if reading.usage else None
    shown = any(kind == "reasoning" for kind, _ in reading.output)
    reasoned = bool(reading.usage and reading.usage.reasoning_tokens)
    return observed, reported or 0, sum(kind == CALL for kind, _ in reading.output), reasoned and not shown


def test_the_batch_command_answers_line_by_line(rows: list[Row], tmp_path: Path) -> None:
    tokens.load(tmp_path)
    asked = [
        json.dumps({"path": str(FOLDER / row["file"]), "dialect": row["dialect"], "content_type": row["content_type"]})
        for row in rows
    ]
    answers = list(inspect.batch(asked))
    assert [answer["path"] for answer in answers] == [json.loads(line)["path"] for line in asked]
    assert [answer["reported"] for answer in answers] == [row["has_reported_usage"] for row in rows]
