"""A short cut of the fault suite (`make faults` runs all of it), and that it notices when a defence is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.faults import FAULTS
from tests.faults.harness import Broken, Unmet

SEED = 7


@pytest.mark.parametrize("name", ["gateway_gone", "redis_killed", "cancel_storm"])
def test_the_books_are_right_after(tmp_path: Path, name: str) -> None:
    with Broken(tmp_path, SEED) as system:
        found = system.settle(FAULTS[name](system))
        assert found["exchanges"] > 50


def test_a_missing_defence_is_noticed(tmp_path: Path) -> None:
    with Broken(tmp_path, SEED, "dedupe", patience=20) as system:
        expected = FAULTS["duplicates"](system)
        with pytest.raises(Unmet, match="settled again after it was final"):
            system.settle(expected)
