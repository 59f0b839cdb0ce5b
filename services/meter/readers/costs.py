"""What a provider says that an answer has cost, in nano-dollars. Pure.

OpenRouter, and gateways in its manner: `cost` in dollars, which is what it charges; with a key of one's own at the
provider (`is_byok`) that is its fee alone. Perplexity: `cost.total_cost` in dollars. xAI: `cost_in_usd_ticks`, of
which a dollar has 10^10 (https://docs.x.ai/developers/cost-tracking).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

_NANO_PER_DOLLAR: Final = Decimal(10**9)
_NANO_PER_TICK: Final = Decimal("0.1")
_MOST: Final = 10**6  # dollars for one answer; more is damage


def cost_of(usage: Mapping[str, Any]) -> int | None:
    """The cost that a usage object states, rounded half up to a nano-dollar; None where it states none that can be
    true."""
    if "cost_in_usd_ticks" in usage:
        return _nano(usage["cost_in_usd_ticks"], _NANO_PER_TICK)
    cost = usage.get("cost")
    if cost is None:
        return None
    return _nano(cost.get("total_cost") if isinstance(cost, dict) else cost, _NANO_PER_DOLLAR)


def _nano(value: Any, unit: Decimal) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST * 10**9 / unit:
        return None
    return int((Decimal(repr(value)) * unit).to_integral_value(ROUND_HALF_UP))
