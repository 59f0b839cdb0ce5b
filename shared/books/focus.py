"""Charges as rows of FOCUS 1.2, the FinOps Open Cost and Usage Specification. Pure.

A row is a day of one key, model and provider. Its cost is what is booked: neither discounts nor taxes are known here,
so that the four costs of FOCUS are the same. What has no price has no row: FOCUS allows no cost that is not known, and
0 would say that it was free.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from shared.books.exporting import Charge

# By column: text, decimal or time, as FOCUS has them. Columns of our own begin with x_.
COLUMNS: Mapping[str, type] = {
    "BilledCost": Decimal,
    "BillingAccountId": str,
    "BillingAccountName": str,
    "BillingCurrency": str,
    "BillingPeriodEnd": datetime,
    "BillingPeriodStart": datetime,
    "ChargeCategory": str,
    "ChargeClass": str,
    "ChargeDescription": str,
    "ChargeFrequency": str,
    "ChargePeriodEnd": datetime,
    "ChargePeriodStart": datetime,
    "ConsumedQuantity": Decimal,
    "ConsumedUnit": str,
    "ContractedCost": Decimal,
    "EffectiveCost": Decimal,
    "InvoiceIssuerName": str,
    "ListCost": Decimal,
    "PricingCategory": str,
    "PricingQuantity": Decimal,
    "PricingUnit": str,
    "ProviderName": str,
    "PublisherName": str,
    "RegionId": str,
    "RegionName": str,
    "ServiceCategory": str,
    "ServiceName": str,
    "ServiceSubcategory": str,
    "SubAccountId": str,
    "SubAccountName": str,
    "SubAccountType": str,
    "Tags": str,
    "x_Model": str,
    "x_Requests": Decimal,
    "x_InputTokens": Decimal,
    "x_OutputTokens": Decimal,
    "x_Tier": str,
}


def row(charge: Charge, key_name: str) -> dict[str, Any]:
    """The row of a charge that has a price, by column."""
    cost = Decimal(charge.cost_nanousd).scaleb(-9)
    tokens = charge.total_tokens > 0
    quantity = Decimal(charge.total_tokens if tokens else charge.requests)
    unit = "Tokens" if tokens else "Requests"
    month = charge.day.replace(day=1)
    tags = {"team": charge.team} if charge.team else {}
    return {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
        **dict.fromkeys(("BillingAccountId", "BillingAccountName", "InvoiceIssuerName"), charge.provider),
        **dict.fromkeys(("ProviderName", "PublisherName"), charge.provider),
        "BillingCurrency": "USD",
        "BillingPeriodStart": month,
        "BillingPeriodEnd": (month + timedelta(days=32)).replace(day=1),
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeDescription": f"{charge.requests} requests to {charge.model}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": charge.day,
        "ChargePeriodEnd": charge.day + timedelta(days=1),
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "PricingCategory": "Standard",
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "RegionId": charge.region or None,
        "RegionName": charge.region or None,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": f"{charge.provider} models",
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": charge.key,
        "SubAccountName": key_name or None,
        "SubAccountType": "Key",
        "Tags": json.dumps(tags, ensure_ascii=False),
        "x_Model": charge.model,
        "x_Requests": Decimal(charge.requests),
        "x_InputTokens": Decimal(charge.input_tokens),
        "x_OutputTokens": Decimal(charge.output_tokens),
        "x_Tier": charge.tier or None,
    }
