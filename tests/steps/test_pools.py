"""How a pool's callers are distributed. Thousands of them: too many for the unit tests."""

from __future__ import annotations

import pytest

from services.gateway.credential_health import Health
from services.gateway.routing.authenticators import Fixed
from services.gateway.routing.pools import Credential, Pool
from shared.contract.dialects import Family

CALLERS = 4000


@pytest.mark.parametrize("weights", [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 3, "c": 0.5, "d": 0}])
def test_a_weight_is_a_share_of_the_callers(weights: dict[str, float]) -> None:
    authenticators = dict.fromkeys(Family, Fixed())
    pool = Pool("openai", [Credential(name, authenticators, Health(0), weight) for name, weight in weights.items()])
    first = [pool.of(f"caller-{number}")[0].name for number in range(CALLERS)]
    for name, weight in weights.items():
        expected = CALLERS * weight / sum(weights.values())
        # Five deviations of a binomial distribution.
        assert abs(first.count(name) - expected) <= 5 * (expected * (1 - expected / CALLERS)) ** 0.5
