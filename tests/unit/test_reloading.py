"""When a process reloads: it is asked to, or a file has changed and is still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.contract.running import Result
from shared.runtime.errors import SettingsError, StoreUnavailable
from shared.runtime.reload_metrics import ReloadMetrics
from shared.runtime.reloading import Change, Reloading


class Play:
    """A process that reloads, and what it does."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "settings"
        self.registry = CollectorRegistry()
        self.read: list[str] = []
        self.answers: list[tuple[int, Result, str]] = []
        self.wrong: Exception | None = None
        metrics = ReloadMetrics(self.registry, "configuration")
        self.reloading = Reloading(self._act, lambda: [self.file], metrics, "first", look=0.001)
        self.reloading.answer = self._answer

    async def _act(self) -> Change:
        before = self.read[-1] if self.read else ""
        self.read.append(self.file.read_text())
        if self.wrong is not None:
            raise self.wrong
        return Change(self.read[-1] != before, self.read[-1], ("AROUTER_PORT",) if self.read[-1] == "port" else ())

    async def _answer(self, number: int, result: Result, said: str) -> None:
        if number == 13:
            raise StoreUnavailable("away")
        self.answers.append((number, result, said))

    def count(self, result: Result) -> float | None:
        return self.registry.get_sample_value("arouter_configuration_reloads_total", {"result": result})


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[Play]:
    made = Play(tmp_path)
    made.file.write_text("one")
    task = asyncio.get_running_loop().create_task(made.reloading.run())
    await until(lambda: made.read == ["one"])  # once behind the start
    yield made
    task.cancel()


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.001)


async def test_a_file_is_read_when_it_changes_is_replaced_or_comes_back(play: Play, tmp_path: Path) -> None:
    play.file.write_text("three")
    await until(lambda: play.read[-1] == "three")
    target = tmp_path / "target"
    target.write_text("by a link")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "link").replace(play.file)
    await until(lambda: play.read[-1] == "by a link")
    target.unlink()
    reads = len(play.read)
    await until(lambda: play.count(Result.REFUSED))  # it cannot be read, and the old settings stay
    target.write_text("again")
    await until(lambda: play.read[-1] == "again")
    assert len(play.read) == reads + 1
    assert play.registry.get_sample_value("arouter_configuration_loaded_seconds", {"digest": "again"})
    assert not play.registry.get_sample_value("arouter_configuration_loaded_seconds", {"digest": "first"})


async def test_it_answers_a_number_that_is_new(play: Play) -> None:
    play.reloading.heard(7)  # from before its start
    play.reloading.heard(7)
    play.file.write_text("port")
    play.reloading.heard(8)
    await until(lambda: play.answers)
    assert play.answers == [(8, Result.CHANGED, "only a restart changes AROUTER_PORT")]
    play.reloading.heard(8)
    play.reloading.heard(0)  # Redis was emptied
    play.reloading.heard(1)
    await until(lambda: len(play.answers) == 2)
    assert play.answers[1] == (1, Result.UNCHANGED, "only a restart changes AROUTER_PORT")


async def test_a_refusal_is_one_line_and_passes(play: Play) -> None:
    play.reloading.heard(0)
    play.wrong = SettingsError("it is\nwrong")
    play.reloading.heard(1)
    await until(lambda: play.answers)
    assert play.answers == [(1, Result.REFUSED, "it is wrong")]
    assert play.reloading.refused == "it is wrong"
    play.wrong = ZeroDivisionError("a bug")
    play.reloading.heard(2)
    await until(lambda: len(play.answers) == 2)
    assert play.answers[1] == (2, Result.REFUSED, "unexpected: ZeroDivisionError")
    assert play.count(Result.REFUSED) == 2
    play.wrong = None
    play.reloading.heard(13)  # nobody hears the answer, which stops nothing
    play.reloading.ask()
    play.reloading.heard(14)
    await until(lambda: len(play.answers) == 3)
    assert play.reloading.refused == ""
