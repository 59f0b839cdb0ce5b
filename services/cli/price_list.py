"""The public list of prices `genai-prices` as a sheet of the price book. Strict: what the book cannot say is an error.

The package is an optional extra of pinned version, and nothing is downloaded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Final

from shared.contract.errors import ARouterError
from shared.runtime.errors import SettingsError

# Our names of providers, to those of the list: its own models, then those of others that it serves, too.
PROVIDERS: Final[Mapping[tuple[str, ...], str]] = {
    ("openai",): "openai",
    ("anthropic",): "anthropic",
    ("gemini", "vertex"): "google",
    ("deepseek",): "deepseek",
    ("mistral",): "mistral",
    ("groq",): "groq",
    ("xai",): "x-ai",
    ("together",): "together",
    ("fireworks",): "fireworks",
    ("openrouter",): "openrouter",
    ("moonshot",): "moonshotai",
    ("zhipu",): "zhipuai",
    ("minimax",): "minimax",
    ("azure",): "azure",
    ("bedrock",): "aws",
    ("cohere",): "cohere",
    ("perplexity",): "perplexity",
    ("cerebras",): "cerebras",
    ("voyageai",): "voyageai",
}
# Who serves models of others at their standard prices, and has none of its own for them.
_SERVES: Final = {
    "azure": ("azure", ("openai", "anthropic", "deepseek", "x-ai", "moonshotai")),
    "vertex": ("google", ("anthropic",)),
}

_TOKENS: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "input_image_mtok": "input_image",
    "input_video_mtok": "input_video",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
    "output_video_mtok": "output_video",
    "cache_audio_read_mtok": "cached_audio",
    "cache_image_read_mtok": "cached_image",
    "output_reasoning_mtok": "reasoning",
    "output_citation_mtok": "citation",
}
_EACH: Final = {
    "web_searches_kcount": ("web_search", 1000),
    "storage_searches_kcount": ("file_search", 1000),
    "requests_kcount": ("request", 1000),
    "input_mchars": ("character", 10**6),
    "input_document_kpages": ("page", 1000),
    "audio_hours": ("hour", 1),
    "input_audio_hours": ("hour", 1),
}
_TIERS: Final = {
    ("processing", "batch"): "batch",
    ("service_tier", "default"): "standard",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "fast",
    ("speed", "fast"): "fast",
}
_BY_REQUEST: Final = Decimal("0.035")
_NOT_SPEECH: Final = "^(?!.*-[tT][tT][sS](?:$|-))"
_SPEECH: Final = ("*-tts", "*-tts-*")


class NotSaid(ARouterError):
    """The list says something that the book cannot say."""


@dataclass
class Row:
    """A price as the book has it: fields by name, in the order they are written in."""

    providers: tuple[str, ...]
    models: list[str]
    excluded: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None
    rates: dict[str, Any] = field(default_factory=dict)
    when: list[dict[str, Any]] = field(default_factory=list)


def rows(providers: Iterable[Any], day: date, *, keep: timedelta, left_out: list[str] | None = None) -> list[Row]:
    """The prices of these providers of the list, but for those that ended `keep` before that day.

    NotSaid names the first model that the book cannot price; with `left_out` it is named there, and left out.
    """
    listed = {provider.id: provider for provider in providers}
    found: list[Row] = []
    for names, id in PROVIDERS.items():
        for model in listed[id].models:
            found += _of_model(names, listed[id].id, model, day - keep, left_out)
    for name, (id, others) in _SERVES.items():
        own = {pattern for row in found if name in row.providers for pattern in row.models}
        for other in (listed[other] for other in others if other in (listed[id].fallback_model_providers or ())):
            for model in other.models:
                for row in _of_model((name,), other.id, model, day - keep, left_out, tiers=False):
                    row.models = [pattern for pattern in row.models if pattern not in own]
                    found.append(row)
    return _apart(found)


def name_of_list() -> str:
    """Package and version."""
    return f"genai-prices {version('genai-prices')}"


def providers() -> Iterable[Any]:
    """The list. SettingsError where the package is not installed."""
    try:
        return tuple(import_module("genai_prices.data").providers)
    except ImportError:
        raise SettingsError("genai-prices is not installed: install arouter[prices]") from None


def _of_model(
    names: tuple[str, ...], provider: str, model: Any, oldest: date, left_out: list[str] | None, *, tiers: bool = True
) -> list[Row]:
    try:
        patterns, excluded = _patterns(model.match)
        return [
            Row(names, [*patterns], excluded, since, until, _grounded(provider, rates), when)
            for since, until, rates, when in _eras(model, tiers=tiers)
            if rates and (until is None or until > oldest)
        ]
    except NotSaid as exc:
        if left_out is None:
            raise NotSaid(f"{provider} {model.id}: {exc}") from None
        if f"{provider} {model.id}: {exc}" not in left_out:  # as a model that others serve, too
            left_out.append(f"{provider} {model.id}: {exc}")
        return []


def _eras(
    model: Any, *, tiers: bool
) -> Iterator[tuple[date | None, date | None, dict[str, Any], list[dict[str, Any]]]]:
    """The prices of a model from one day to another, each with its conditions."""
    prices = model.prices if isinstance(model.prices, list) else [_Always(model.prices)]
    starts = sorted({_start(price) for price in prices if _kind(price.constraint) == "StartDateConstraint"})
    days: list[date | None] = [None, *starts, None]
    for since, until in pairwise(days):
        # The last one that holds counts; the first one where none does.
        base, timed = prices[0], []
        for price in reversed(prices):
            if _kind(price.constraint) == "TimeOfDateConstraint":
                timed.append(price)
            elif price.constraint is None or (since is not None and _start(price) <= since):
                base = price
                break
        when = _above(base.prices)
        for price in reversed(timed):
            if _keys(price.prices) != _keys(base.prices):
                raise NotSaid("hours with prices for other things")
            when += _under(price.prices, {"hours": _hours(price.constraint)})
        for variant in reversed((model.price_variants or ()) if tiers else ()):  # here the first one counts
            when += _under(variant.prices, _tier(variant))
        yield since, until, _rates(base.prices), when


def _grounded(provider: str, rates: dict[str, Any]) -> dict[str, Any]:
    """Google bills older models for each request that searched, and newer ones for each search, as its page says
    (https://ai.google.dev/gemini-api/docs/pricing); the list has one unit for both, and other amounts."""
    each = rates.get("each", {})
    if provider != "google" or each.get("web_search") != _BY_REQUEST:
        return rates
    renamed = {"grounded_request" if name == "web_search" else name: rate for name, rate in each.items()}
    return {**rates, "each": renamed}


@dataclass
class _Always:
    """A price without a condition, as the list has one among several."""

    prices: Any
    constraint: None = None


def _kind(constraint: Any) -> str:
    name = type(constraint).__name__
    if constraint is not None and name not in ("StartDateConstraint", "TimeOfDateConstraint"):
        raise NotSaid(f"unknown condition {name}")
    return name


def _start(price: Any) -> date:
    start = price.constraint.start_date
    assert isinstance(start, date)
    return start


def _hours(constraint: Any) -> str:
    start, end = (_utc(clock) for clock in (constraint.start_time, constraint.end_time))
    return f"{start:%H:%M}-{end:%H:%M}"


def _utc(clock: time) -> time:
    if clock.second or clock.microsecond:
        raise NotSaid(f"unknown condition {clock}")
    at = datetime.combine(date(2026, 1, 1), clock)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).time()


def _tier(variant: Any) -> dict[str, Any]:
    items = [*variant.when.items()]
    if len(items) != 1 or items[0] not in _TIERS:
        raise NotSaid(f"unknown condition {', '.join(f'{name} = {value}' for name, value in items)}")
    since = {} if variant.constraint is None else {"since": _start(variant)}
    if since and _kind(variant.constraint) != "StartDateConstraint":
        raise NotSaid("unknown condition: a tier by hours")
    return {"tier": _TIERS[items[0]], **since}


def _keys(prices: Any) -> set[str]:
    return {name for name, value in vars(prices).items() if value is not None}


def _rates(prices: Any, start: int | None = None) -> dict[str, Any]:
    """The rates below all limits, or from one limit on."""
    found: dict[str, Any] = {}
    each: dict[str, Any] = {}
    unknown = _keys(prices) - {*_TOKENS, *_EACH}
    if unknown:
        raise NotSaid(f"unknown unit {min(unknown)}")
    for name in (name for name in (*_TOKENS, *_EACH) if name in _keys(prices)):
        value = getattr(prices, name)
        if hasattr(value, "tiers"):
            levels = [value.base, *(tier.price for tier in value.tiers if start is not None and tier.start <= start)]
            value = levels[-1]
        if name in _TOKENS:
            found[_TOKENS[name]] = value
        else:
            unit, per = _EACH[name]
            if each.get(unit, value / per) != value / per:
                raise NotSaid(f"{name}: another price for the same unit")
            each[unit] = value / per
    return found | ({"each": each} if each else {})


def _above(prices: Any, conditions: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Other rates of the whole request, above each limit of its input."""
    starts = sorted({tier.start for name in _keys(prices) for tier in getattr(getattr(prices, name), "tiers", ())})
    found = []
    for start in starts:
        base = _rates(prices)
        changed = {name: rate for name, rate in _rates(prices, start).items() if rate != base.get(name)}
        if changed:
            found.append({**(conditions or {}), "above": start, **changed})
    return found


def _under(prices: Any, conditions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Other rates under a condition, with their limits."""
    rates = _rates(prices)
    return [{**conditions, **(rates or {"times": 1})}, *_above(prices, conditions)]  # the same price, and known to be


def _patterns(clause: Any) -> tuple[list[str], tuple[str, ...]]:
    """The names of a model, and what is taken out of them."""
    kind = type(clause).__name__
    if kind == "ClauseOr":
        parts = [_patterns(part) for part in clause.or_]
        names = [name for part, _ in parts for name in part]
        return [*dict.fromkeys(names)], tuple(dict.fromkeys(name for _, part in parts for name in part))
    if kind == "ClauseAnd":
        first, *others = clause.and_
        if [getattr(other, "regex", None) for other in others] != [_NOT_SPEECH]:
            raise NotSaid(f"unknown pattern {clause}")
        return _patterns(first)[0], _SPEECH
    if kind == "ClauseRegex":
        return [*_of_regex(clause.regex)], ()
    forms = {
        "ClauseEquals": ("equals", "{}"),
        "ClauseStartsWith": ("starts_with", "{}*"),
        "ClauseEndsWith": ("ends_with", "*{}"),
        "ClauseContains": ("contains", "*{}*"),
    }
    if kind not in forms:
        raise NotSaid(f"unknown pattern {kind}")
    attribute, form = forms[kind]
    name = getattr(clause, attribute).lower()
    if not set(name).isdisjoint("*#"):
        raise NotSaid(f"unknown name {name}")
    return [form.format(name)], ()


_PART: Final = re.compile(
    r"\\d\{(?P<many>\d)\}|(?P<digit>\\d)|\\(?P<escaped>[.\-])|\[(?P<one>[-@]+)\]|(?P<plain>[\w/:@-]+)"
)


def _of_regex(regex: str) -> Iterable[str]:
    """A regular expression of names and digits, as patterns."""
    body, open_ = regex.removeprefix("^").removesuffix("$"), not regex.endswith("$")
    found, at = [""], 0
    while at < len(body):
        part = _PART.match(body, at)
        if part is None or not regex.startswith("^"):
            raise NotSaid(f"unknown pattern {regex}")
        plain = part["escaped"] or part["plain"] or ""
        ends = [*part["one"]] if part["one"] else ["#" * int(part["many"] or bool(part["digit"])) + plain]
        found = [before + end for before in found for end in ends]
        at = part.end()
    return [pattern + "*" * open_ for pattern in found]


def _apart(found: list[Row]) -> list[Row]:
    """Rows without a name that an earlier one of the same provider has: in the list, the first model counts."""
    taken: dict[tuple[tuple[str, ...], str], tuple[str, ...]] = {}
    for row in found:
        whole = tuple(row.models)
        row.models = [name for name in row.models if taken.setdefault((row.providers, name), whole) == whole]
    return [row for row in found if row.models]


def written(found: Iterable[Row], day: date, left_out: Iterable[str] = ()) -> str:
    """The sheet as TOML."""
    head = [
        f"# List prices of {name_of_list()} (MIT licence, github.com/pydantic/genai-prices), as of {day}.",
        "# Written by `arouter prices import`. Nobody has confirmed them: check those of the models that you use.",
        *(f"# Left out: {line}" for line in left_out),
        "format = 2",
        f'version = "list-{day} ({name_of_list()})"',
        "list_prices = true",
        'prefer = "provider"',
    ]
    return "\n".join([*head, *(line for row in found for line in _table(row))]) + "\n"


def _table(row: Row) -> Iterator[str]:
    names = {
        "provider": row.providers,
        "model": row.models,
        "except": row.excluded,
        "since": row.since,
        "until": row.until,
    }
    yield ""
    yield "[[prices]]"
    yield from (f"{name} = {_value(value)}" for name, value in names.items() if value)
    yield from (f"{name} = {_value(value)}" for name, value in row.rates.items())
    for when in row.when:
        yield "[[prices.when]]"
        yield from (f"{name} = {_value(value)}" for name, value in when.items())


def _value(value: Any) -> str:
    if isinstance(value, Decimal):
        shown = f"{value:f}"
        return shown.rstrip("0").rstrip(".") if "." in shown else shown
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_value(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return _value(value[0]) if len(value) == 1 else "[" + ", ".join(map(_value, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
