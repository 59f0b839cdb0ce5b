"""Several of everything, while all of it changes."""

from __future__ import annotations

from pathlib import Path

from tests.scale.fleet import Fleet
from tests.scale.rollout import rollout


def test_a_rollout_costs_nobody_anything(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        found = rollout(fleet)
        assert found["differences"] == []
        assert found["exchanges"] >= len(fleet.callers.answered) > 100
        assert found["conservation"]["gap"] == 0
