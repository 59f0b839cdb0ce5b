"""The meter's half of the access log: a stream that ended politely without its dialect's end is not just completed."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from services.meter.access_log import AccessLog
from services.meter.meter import Meter
from services.meter.metrics import MeterMetrics
from services.meter.settings import MeterSettings
from shared.runtime.store import Store
from tests.support.entries import entry

ID = "01K0000000000000000000G01D.0.7"
WHO: dict[str, Any] = {"team": "red", "user": "a@b.example", "session": "a b"}
CUT_SHORT = entry(ID, ended="truncated", cause="no_end", source="partial", **WHO)
HELD = entry(ID, ended="unreadable", cause="unreadable", source="partial", input_tokens=None, output_tokens=None)


def test_a_line_says_how_the_answer_ended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    metrics = AccessLog()
    metrics.settled(CUT_SHORT, 0.1, final=False)  # its last word comes later
    metrics.settled(CUT_SHORT, 0.1, final=True)
    metrics.unreadable(HELD)
    line = "openai/gpt-4o status=200 outcome=completed ended={} source=partial {} session={} app=-"
    assert [record.getMessage() for record in caplog.records] == [
        line.format("truncated cause=no_end", "input=10 output=20 team=red user=a@b.example", '"a b"'),
        line.format("unreadable cause=unreadable", "input=? output=? team=- user=-", "-"),
    ]
    assert {vars(record)["exchange_id"] for record in caplog.records} == {ID}
    labels = {"outcome": "completed", "source": "partial", "ended": "truncated"}
    assert metrics.registry.get_sample_value("arouter_settled_exchanges_total", labels) == 1


@pytest.mark.parametrize(("wanted", "kind"), [(True, AccessLog), (False, MeterMetrics)])
async def test_it_is_written_where_it_is_asked_for(redis: Store, wanted: bool, kind: type[MeterMetrics]) -> None:
    assert type(Meter(redis, MeterSettings(access_log=wanted)).metrics) is kind
