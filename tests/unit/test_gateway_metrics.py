"""What a gateway's metrics and access log say of an exchange."""

from __future__ import annotations

import logging

import pytest

from services.gateway.credential_health import Verdict
from services.gateway.metrics import GatewayMetrics
from services.gateway.observers import AccessLog, Summary
from services.gateway.routing.configured import upstreams
from services.gateway.settings import GatewaySettings
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


def test_credentials_are_counted_where_they_are_kept() -> None:
    metrics = GatewayMetrics()
    named = [{"name": name, "api_key": "k"} for name in ("main", "spare")]
    configured = upstreams(GatewaySettings.load(providers={"openai": {"credentials": named}}))
    metrics.show_upstreams(lambda: configured, lambda: 3)
    [upstream] = configured
    main = upstream.pool.first.health
    main.begin(main.since)
    main.end(Verdict.REFUSED, main.since, main.since, cause="401")
    value = metrics.registry.get_sample_value
    labels = {"provider": "openai", "credential": "main"}
    assert (value("arouter_attempts_total", labels), value("arouter_failed_attempts_total", labels)) == (1, 1)
    found = {
        (name, health): value("arouter_credential_health", labels | {"credential": name, "health": health})
        for name in ("main", "spare")
        for health in ("healthy", "cooling", "out")
    }
    assert {key for key, given in found.items() if given} == {("main", "out"), ("spare", "healthy")}
    assert set(found.values()) == {0, 1}
    assert value("arouter_unmade_attempts_total") == 3


def test_what_may_have_been_paid_is_counted_once_another_attempt_followed() -> None:
    metrics = GatewayMetrics()
    late = Attempt("openai", "gpt", "main", None, "first_byte_timeout", 3, maybe_paid=True)
    metrics.ended(summary(Outcome.COMPLETED, "", late, ANSWERED))
    metrics.ended(summary(Outcome.TIMED_OUT, "first_byte_timeout", late))
    labels = {"provider": "openai", "cause": "first_byte_timeout"}
    assert metrics.registry.get_sample_value("arouter_maybe_paid_attempts_total", labels) == 1


def test_the_access_log_counts_attempts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="arouter.access"):
        AccessLog().ended(summary(Outcome.COMPLETED, "", FAILED, ANSWERED))
    assert " cause=- attempts=2 " in caplog.text
