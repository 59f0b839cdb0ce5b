"""The border to the files of the price book: TOML of both formats. docs/prices.md describes them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.meter.pricing.book import PriceBook
from services.meter.pricing.price import Sheet
from shared.runtime.errors import SettingsError

VARIABLE: Final = "AROUTER_PRICES"
LIST: Final = "list"  # in the place of a file: the list prices that come with this program

_PLAIN: Final = {"extra_forbidden": "not known", "missing": "missing"}  # by pydantic's types of errors
_MICRO: Final = 10**6
_MOST: Final = 10**12  # a million dollars per million tokens
_FIRST_TOKENS: Final = ("input", "output", "cached_input", "cache_write", "reasoning")


class _FirstPrice(BaseModel):
    """A price of the first format: whole micro-dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: str
    model: str
    since: Any = None
    until: Any = None
    input: int = Field(ge=0, le=_MOST)
    output: int = Field(ge=0, le=_MOST)
    cached_input: int | None = Field(default=None, ge=0, le=_MOST)
    cache_write: int | None = Field(default=None, ge=0, le=_MOST)
    reasoning: int | None = Field(default=None, ge=0, le=_MOST)


class _First(BaseModel):
    """A file of the first format."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: str
    prices: list[_FirstPrice] = Field(default_factory=list)


def load(files: str, *, difference: float = 0.05) -> PriceBook:
    """The price book in these files, comma-separated; "" is an empty one. `difference`: as `PriceBook` has it.

    SettingsError, one line, names the file and the first error in it.
    """
    return PriceBook(*(sheet for name in _names(files) for sheet in _sheets(name)), difference=difference)


def paths(files: str) -> list[Path]:
    """Those of them that are files."""
    return [Path(name) for name in _names(files) if name != LIST]


def _names(files: str) -> list[str]:
    return [name.strip() for name in files.split(",") if name.strip()]


def _sheets(name: str) -> Sequence[Sheet]:
    if name == LIST:
        return corrections(), list_prices()
    try:
        return [sheet(read(Path(name).expanduser().read_text(encoding="utf-8-sig")))]
    except (OSError, ValueError) as exc:
        raise SettingsError(f"{VARIABLE}: {name}: {' '.join(str(exc).split())}") from None


@cache
def list_prices() -> Sheet:
    """The public list that comes with this program."""
    return _shipped("list.toml")


@cache
def corrections() -> Sheet:
    """What is known to be wrong in that list."""
    return _shipped("corrections.toml")


def _shipped(name: str) -> Sheet:
    return sheet(read(resources.files("services.meter.pricing").joinpath(name).read_text()))


def read(text: str) -> dict[str, Any]:
    """TOML with its amounts as they are written. ValueError where it is none."""
    return tomllib.loads(text, parse_float=Decimal)


def parse(content: Mapping[str, Any]) -> PriceBook:
    """The price book of a file's content. ValueError, one line, names the first error."""
    return PriceBook(sheet(content))


def sheet(content: Mapping[str, Any]) -> Sheet:
    """The sheet of a file's content, of either format. ValueError, one line, names the first error."""
    if not content.get("version"):
        raise ValueError("version: missing")
    try:
        return Sheet.model_validate(dict(content) if "format" in content else _translated(content))
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = _PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise ValueError(f"{where}: {message}" if where else message) from None


def _translated(content: Mapping[str, Any]) -> dict[str, Any]:
    """A file of the first format, as the second one says it."""
    first = _First.model_validate(dict(content))
    prices: list[dict[str, Any]] = []
    for price in first.prices:
        if "*" in price.model[:-1]:
            raise ValueError(f"prices.{len(prices)}: a * may only end a model's name")
        given = price.model_dump(exclude_none=True)
        prices.append(
            {name: Decimal(value) / _MICRO if name in _FIRST_TOKENS else value for name, value in given.items()}
        )
    return {"version": first.version, "prices": prices}
