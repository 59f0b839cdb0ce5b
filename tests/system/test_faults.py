"""A short cut of the fault suite (`make faults` runs all of it), and that it notices when a defence is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.faults import FAULTS
from tests.faults.harness import Broken, Unmet
from tests.faults.limits import Exceeded, limited

SEED = 7


@pytest.mark.parametrize("name", ["gateway_gone", "redis_killed", "cancel_storm"])
def test_the_books_are_right_after(tmp_path: Path, name: str) -> None:
    with Broken(tmp_path, SEED) as system:
        found = system.settle(FAULTS[name](system))
        assert found["exchanges"] > 50


def sleeping(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=folder)


def test_a_fault_that_hangs_fails_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(Exceeded, match="did not end"), limited(0.3, tmp_path, patience=0):
        hanging = sleeping(tmp_path)
        hanging.wait()
    assert hanging.wait() is not None


def test_a_fault_that_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), limited(60, tmp_path, patience=0):
        hanging = sleeping(tmp_path)
        os.kill(os.getpid(), signal.SIGTERM)
        hanging.wait()
    assert hanging.wait() is not None


def test_a_fault_that_leaves_a_process_behind_fails(tmp_path: Path) -> None:
    with pytest.raises(Exceeded, match="left processes behind"), limited(60, tmp_path, patience=0):
        hanging = sleeping(tmp_path)
    assert hanging.wait() is not None


def test_what_ran_before_a_fault_outlives_it(tmp_path: Path) -> None:
    before = sleeping(tmp_path)
    try:
        with limited(60, tmp_path, patience=0):
            pass
        assert before.poll() is None
    finally:
        before.kill()
        before.wait()


def test_a_missing_defence_is_noticed(tmp_path: Path) -> None:
    with Broken(tmp_path, SEED, "dedupe", patience=20) as system:
        expected = FAULTS["duplicates"](system)
        with pytest.raises(Unmet, match="settled again after it was final"):
            system.settle(expected)
