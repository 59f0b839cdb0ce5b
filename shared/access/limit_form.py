"""Limits as people write and read them: over HTTP, on the command line, and in files. Pure.

`limit` (US dollars), `limit_tokens`, `limit_reset`, `rate_limit` (requests_per_minute, tokens_per_minute,
requests_per_day, concurrent_requests), `soft`, `models` (a block for each pattern) and `raised` (with `until`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from shared.contract import limits
from shared.contract.errors import ARouterError
from shared.contract.limits import Amounts, Limits, ModelLimits, Raise, Reset

RATES = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "concurrent_requests")
_AMOUNTS = ("limit", "limit_tokens", "rate_limit")
_FIELDS = (*_AMOUNTS, "limit_reset", "soft", "raised", "models")
_MOST_PATTERNS = 20
_LONGEST_PATTERN = 256


class BadLimits(ARouterError):
    """Limits that cannot be. `str()` names the field."""


def changed(given: Mapping[str, Any], before: Limits | None = None) -> Limits:
    """Limits with these changes; a field that is not named stays as it is, and None takes it away. BadLimits."""
    _known(given, _FIELDS, "")
    found = _model_limits(given, before or Limits(), "")
    models: dict[str, ModelLimits] = {} if before is None else before.models
    if "models" in given:
        models = _models(given["models"] or {})
    return msgspec.convert({**msgspec.to_builtins(found), "models": msgspec.to_builtins(models)}, Limits)


def shown(given: ModelLimits) -> dict[str, Any]:
    """Limits as they are written; what is not limited is null."""
    found = _amounts_shown(given) | {"limit_reset": given.limit_reset.value, "soft": given.soft}
    if given.raised is not None:
        until = datetime.fromtimestamp(given.raised.until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found["raised"] = _amounts_shown(given.raised) | {"until": until}
    if isinstance(given, Limits) and given.models:
        found["models"] = {pattern: shown(one) for pattern, one in given.models.items()}
    return found


def usd(nanousd: int | None) -> float | None:
    """Dollars, as JSON has them."""
    return None if nanousd is None else nanousd / 10**9


def _amounts_shown(given: Amounts) -> dict[str, Any]:
    return {
        "limit": usd(given.limit_nanousd),
        "limit_tokens": given.limit_tokens,
        "rate_limit": {name: getattr(given, name) for name in RATES},
    }


def _models(given: Any) -> dict[str, ModelLimits]:
    if not isinstance(given, Mapping):
        raise BadLimits("models: must be a block for each pattern")
    if len(given) > _MOST_PATTERNS:
        raise BadLimits(f"models: at most {_MOST_PATTERNS} patterns")
    found = {}
    for pattern, block in given.items():
        where = f"models.{str(pattern)[:60]}"
        if not isinstance(block, Mapping) or not 0 < len(pattern) <= _LONGEST_PATTERN:
            raise BadLimits(f"{where}: must be a block, under a pattern of 1 to {_LONGEST_PATTERN} characters")
        _known(block, [name for name in _FIELDS if name != "models"], f"{where}.")
        found[str(pattern)] = _model_limits(block, ModelLimits(), f"{where}.")
    return found


def _known(given: Mapping[str, Any], names: Any, where: str) -> None:
    for name in given:
        if name not in names:
            raise BadLimits(f"{where}{str(name)[:60]}: is no limit; there are {', '.join(names)}")


def _model_limits(given: Mapping[str, Any], before: ModelLimits, where: str) -> ModelLimits:
    changes = _amounts(given, where)
    if "limit_reset" in given:
        changes["limit_reset"] = _reset(given["limit_reset"], where)
    if "soft" in given:
        if not isinstance(given["soft"], (bool, type(None))):
            raise BadLimits(f"{where}soft: must be true or false")
        changes["soft"] = bool(given["soft"])
    if "raised" in given:
        changes["raised"] = _raise(given["raised"], f"{where}raised")
    return msgspec.structs.replace(before, **changes)


def _amounts(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The amounts that are named, as records have them."""
    found: dict[str, Any] = {}
    if "limit" in given:
        found["limit_nanousd"] = _nanousd(given["limit"], f"{where}limit")
    if "limit_tokens" in given:
        found["limit_tokens"] = _whole(given["limit_tokens"], "limit_tokens", f"{where}limit_tokens")
    if "rate_limit" in given:
        rates = given["rate_limit"] if given["rate_limit"] is not None else dict.fromkeys(RATES)
        if not isinstance(rates, Mapping):
            raise BadLimits(f"{where}rate_limit: must be a block")
        _known(rates, RATES, f"{where}rate_limit.")
        found |= {name: _whole(value, name, f"{where}rate_limit.{name}") for name, value in rates.items()}
    return found


def _nanousd(value: Any, where: str) -> int | None:
    if value is None:
        return None
    try:
        amount = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise BadLimits(f"{where}: must be an amount in US dollars")
    if not 0 <= amount <= Decimal(limits.MOST_NANOUSD) / 10**9:  # before it is multiplied: it may have any exponent
        raise BadLimits(f"{where}: must be from 0 to {limits.MOST_NANOUSD // 10**9} US dollars")
    return int(amount * 10**9)


def _whole(value: Any, name: str, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadLimits(f"{where}: must be a whole number")
    if not limits.least(name) <= value <= limits.most(name):
        raise BadLimits(f"{where}: must be from {limits.least(name)} to {limits.most(name)}")
    return value


def _reset(value: Any, where: str) -> Reset:
    try:
        return Reset.NEVER if value is None else Reset(value)
    except ValueError:
        raise BadLimits(f"{where}limit_reset: must be never, daily, weekly or monthly") from None


def _raise(given: Any, where: str) -> Raise | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or "until" not in given:
        raise BadLimits(f"{where}: must be a block with until, a time")
    _known(given, (*_AMOUNTS, "until"), f"{where}.")
    return Raise(until=_until(given["until"], f"{where}.until"), **_amounts(given, f"{where}."))


def _until(value: Any, where: str) -> int:
    """A time, of which a file has one without quotes, too."""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise BadLimits(f"{where}: must be a time, as 2026-01-31T00:00:00Z") from None
