"""The settings of one named route."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import NoDecode

from services.gateway.provider_settings import known_dialects
from shared.contract.dialects import Dialect

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,255}")  # as models are called, and no slash
_MOST = 16  # candidates


class CandidateSettings(BaseModel):
    """One candidate: a model at a provider."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    model: str
    weight: float = Field(default=0, ge=0, le=1_000_000, allow_inf_nan=False)

    @property
    def provider(self) -> str:
        """The name before the first slash; "" where there is none."""
        before, slash, model = self.model.partition("/")
        return before if slash and model else ""


class RouteSettings(BaseModel):
    """One route, `[routes.NAME]` or `AROUTER_ROUTES__<NAME>__…`: a model name of the operator's own."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    candidates: Annotated[tuple[CandidateSettings, ...], NoDecode] = Field(
        description="Models to try, in this order, each `provider/model`: a list, or in the environment separated by "
        'commas. With weights, `{ model = "provider/model", weight = 9 }`, the first one is drawn by weight.'
    )
    sticky: bool = Field(
        default=False,
        description="Draw once for each key, and not for each request: shares are shares of keys then.",
    )
    dialects: str = Field(
        default="",
        description="Dialects the route is for, comma-separated; every candidate must serve them. Unset: all that "
        "every candidate serves, and candidates whose providers speak different dialects are refused.",
    )

    @property
    def named_dialects(self) -> frozenset[Dialect]:
        """The names in `dialects`."""
        return frozenset(Dialect(name.strip()) for name in self.dialects.split(",") if name.strip())

    @field_validator("candidates", mode="before")
    @classmethod
    def _written_in_short(cls, value: Any) -> Any:
        if isinstance(value, str):
            text = value
            value = [name.strip() for name in text.split(",") if name.strip()]
            with suppress(ValueError):
                value = json.loads(text)  # in the environment, weights are written as JSON
        if not isinstance(value, (list, tuple)):
            raise ValueError("must be a list of models, each provider/model")  # noqa: TRY004  # pydantic takes this one
        for one in value:
            if not isinstance(one, (str, dict, CandidateSettings)):
                what = f"{one!r} is neither a model, provider/model, nor a table with model and weight"
                raise ValueError(what)  # noqa: TRY004  # likewise
        return tuple({"model": one.strip()} if isinstance(one, str) else one for one in value)

    @field_validator("candidates")
    @classmethod
    def _some_and_each_once(cls, value: tuple[CandidateSettings, ...]) -> tuple[CandidateSettings, ...]:
        if not value:
            raise ValueError("a route needs at least one candidate")
        if len(value) > _MOST:
            raise ValueError(f"a route has at most {_MOST} candidates")
        models = [candidate.model for candidate in value]
        for model in models:
            if models.count(model) > 1:
                raise ValueError(f"{model!r} is there twice")
        return value

    @field_validator("dialects")
    @classmethod
    def _known_dialects(cls, value: str) -> str:
        return known_dialects(value)


def check(routes: Mapping[str, RouteSettings], on: Collection[str]) -> None:
    """ValueError, one line, where a route's name is not one, or a candidate leads nowhere. `on`: providers that are."""
    for name, route in routes.items():
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot be a route's name: it is of letters, digits and . _ : @ -, and with a slash it would "
                "be a provider's model"
            )
        for candidate in route.candidates:
            model, provider = candidate.model, candidate.provider
            if model in routes:
                raise ValueError(
                    f"route {name!r}: its candidate {model!r} is a route, and a route leads to models alone"
                )
            if not provider:
                raise ValueError(f"route {name!r}: its candidate {model!r} is not of the form provider/model")
            if provider not in on:
                raise ValueError(f"route {name!r}: provider {provider!r} of its candidate {model!r} is not configured")
