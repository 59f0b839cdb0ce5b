"""Rows of FOCUS 1.2, held against the rules of the specification for its mandatory columns and for those they have."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from shared.books import focus
from shared.books.exporting import Charge

# The columns that a dataset must have, and whether they may be null.
MANDATORY = {
    "BilledCost": False,
    "BillingAccountId": False,
    "BillingAccountName": True,
    "BillingCurrency": False,
    "BillingPeriodEnd": False,
    "BillingPeriodStart": False,
    "ChargeCategory": False,
    "ChargeClass": True,
    "ChargeDescription": True,
    "ChargePeriodEnd": False,
    "ChargePeriodStart": False,
    "ContractedCost": False,
    "EffectiveCost": False,
    "InvoiceIssuerName": False,
    "ListCost": False,
    "PricingQuantity": True,
    "PricingUnit": True,
    "ProviderName": False,
    "PublisherName": False,
    "ServiceCategory": False,
    "ServiceName": False,
}
OPTIONAL = {
    "ChargeFrequency": False,
    "ConsumedQuantity": True,
    "ConsumedUnit": True,
    "PricingCategory": True,
    "RegionId": True,
    "RegionName": True,
    "ServiceSubcategory": False,
    "SubAccountId": True,
    "SubAccountName": True,
    "SubAccountType": True,
    "Tags": True,
}
ALLOWED: dict[str, set[str | None]] = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {None, "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"AI and Machine Learning"},
    "ServiceSubcategory": {"Generative AI"},  # a child of that category
}
DAY = datetime(2026, 12, 31, tzinfo=UTC)


def violations(row: dict[str, Any]) -> list[str]:
    """What the specification has against a row."""
    found = [f"{name} is missing" for name in MANDATORY.keys() - row.keys()]
    for name, value in row.items():
        if name.startswith("x_"):
            continue
        if name not in {**MANDATORY, **OPTIONAL}:
            found.append(f"{name} is no column, and no x_ column")
        elif value is None and not {**MANDATORY, **OPTIONAL}[name]:
            found.append(f"{name} is null")
        elif value is not None and not isinstance(value, focus.COLUMNS[name]):
            found.append(f"{name} is no {focus.COLUMNS[name].__name__}")
        if name in ALLOWED and value not in ALLOWED[name]:
            found.append(f"{name} is {value!r}")
    found += [f"{name} is not in UTC" for name, v in row.items() if isinstance(v, datetime) and v.utcoffset() is None]
    for period in ("BillingPeriod", "ChargePeriod"):
        if not row[f"{period}Start"] < row[f"{period}End"]:
            found.append(f"{period} ends before it begins")
    if not row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]:
        found.append("the charge is outside of its billing period")
    if not re.fullmatch("[A-Z]{3}", row["BillingCurrency"]):
        found.append("BillingCurrency is no ISO 4217 code")
    pairs = (("PricingQuantity", "PricingUnit"), ("ConsumedQuantity", "ConsumedUnit"), ("RegionId", "RegionName"))
    found += [
        f"{a} without {b}"
        for a, b in (*pairs, ("SubAccountId", "SubAccountType"))
        if (row[a] is None) != (row[b] is None)
    ]
    if row["ChargeCategory"] == "Usage" and row["PricingQuantity"] is None:
        found.append("usage without a quantity")
    if not all(isinstance(value, str) for value in json.loads(row["Tags"] or "{}").values()):
        found.append("Tags are no texts by key")
    return found


def charge(**changes: Any) -> Charge:
    given = Charge(DAY, "a" * 64, "red", "openai", "gpt-4o", "", "", True, 3, 10, 20, 30, 1_234_567_890)
    return given._replace(**changes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"total_tokens": 0}, {"team": ""}, {"region": "eu-west-1"}, {"tier": "batch"}, {"cost_nanousd": 0}],
    ids=str,
)
def test_a_charge_is_a_row_of_focus(changes: dict[str, Any]) -> None:
    row = focus.row(charge(**changes), "team-a")
    assert violations(row) == []
    assert row.keys() == focus.COLUMNS.keys()


def test_the_rules_find_what_is_wrong() -> None:
    row = focus.row(charge(), "")
    for name, value in (("BilledCost", None), ("ChargeCategory", "Fee"), ("BilledCost", 1.5), ("PricingUnit", None)):
        assert violations({**row, name: value}), name
    assert violations({**row, "Model": "gpt-4o"})
    assert violations({name: value for name, value in row.items() if name != "ServiceName"})


def test_money_is_exact() -> None:
    row = focus.row(charge(cost_nanousd=10**17 + 1), "")
    assert row["BilledCost"] == Decimal("100000000.000000001")
    assert row["BillingPeriodEnd"] == datetime(2027, 1, 1, tzinfo=UTC)
