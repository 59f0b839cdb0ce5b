"""What a gateway's metrics and access log say of an exchange."""

from __future__ import annotations

import logging

import pytest

from services.gateway.metrics import GatewayMetrics
from services.gateway.observers import AccessLog, Summary
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import Attempt, Outcome

FAILED = Attempt("openai", "gpt", "", None, "closed_early", 3)
ANSWERED = Attempt("openai", "gpt", "", 200, "", 9)


def summary(outcome: Outcome, cause: str, *attempts: Attempt) -> Summary:
    status = attempts[-1].status if attempts else None
    boot = ExchangeId(new_boot(), 0, 0)
    return Summary(boot, "openai", "gpt", status, outcome, cause, attempts, 7, 0, 0.1, 0.2, 0.3)


def test_causes_and_second_attempts_are_counted() -> None:
    metrics = GatewayMetrics()
    metrics.ended(summary(Outcome.COMPLETED, "", ANSWERED))
    metrics.ended(summary(Outcome.COMPLETED, "", FAILED, ANSWERED))
    metrics.ended(summary(Outcome.UPSTREAM_FAILED, "dns", FAILED, Attempt("openai", "gpt", "", None, "dns", 1)))
    value = metrics.registry.get_sample_value
    labels = {"provider": "openai", "cause": "closed_early"}
    assert value("arouter_retried_requests_total", labels) == 2
    assert value("arouter_failed_exchanges_total", labels | {"cause": "dns"}) == 1
    assert value("arouter_failed_exchanges_total", labels) is None


def test_the_access_log_counts_attempts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="arouter.access"):
        AccessLog().ended(summary(Outcome.COMPLETED, "", FAILED, ANSWERED))
    assert " cause=- attempts=2 " in caplog.text
