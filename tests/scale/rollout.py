"""The story: pods come, go and roll over to a new version one by one, while clients are served."""

from __future__ import annotations

import time
from typing import Any

from tests.scale.fleet import SHARDS, Fleet


def rollout(fleet: Fleet) -> dict[str, Any]:
    """Run the story. Returns the audit at its end; AssertionError where a client saw an unexpected error."""
    fleet.say("three gateways, three meters, a cluster of three")
    fleet.until_balanced()
    with fleet.callers.at_work():
        time.sleep(2)
        fleet.add_meter()
        fleet.until_balanced()
        fleet.environment["AROUTER_SHARDS"] = str(SHARDS + 1)  # what the new version brings
        for number in range(len(fleet.gateways)):
            fleet.roll_gateway(number)
            time.sleep(1)
        fleet.remove_meter()
        for number in range(len(fleet.meters)):
            fleet.roll_meter(number)
        fleet.until_balanced()
        assert fleet.callers.errors == [], "nobody was told of any error"
        fleet.kill_gateway(0)
        time.sleep(2)
    announced = [error for error in fleet.callers.errors if "RemoteProtocolError" in error or "HTTP 502" in error]
    assert len(announced) == len(fleet.callers.errors) <= 8, fleet.callers.errors
    found = fleet.audited()
    fleet.say(f"audit: {found['exchanges']} exchanges, {len(found['differences'])} differences")
    return found
