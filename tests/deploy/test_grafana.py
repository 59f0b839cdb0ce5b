"""The dashboard asks for metrics that exist, by labels that they have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.metric_labels import labels, mistakes

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy/grafana/dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_names_metrics_and_labels_that_exist(panel: dict[str, Any]) -> None:
    known = labels()
    assert panel["targets"]
    for target in panel["targets"]:
        assert mistakes(target["expr"], known) == []


def test_what_can_be_chosen_exists() -> None:
    known = labels()
    asked = [one["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    assert asked == [f"label_values(arouter_usage_requests_total, {label})" for label in ("team", "model")]
    assert {"team", "model"} <= known["arouter_usage_requests_total"]


def test_panels_have_numbers_and_places_of_their_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sum(arouter_open_stream)", "there is no metric arouter_open_stream"),
        ('rate(arouter_usage_tokens_total{kin="input"}[5m])', "arouter_usage_tokens_total has no label kin"),
        ("sum by (tem) (arouter_usage_tokens_total)", "nothing here has the label tem"),
        ("up", "it names no metric"),
    ],
)
def test_a_mistake_would_be_seen(query: str, said: str) -> None:
    assert mistakes(query, labels()) == [said]
