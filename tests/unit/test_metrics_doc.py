"""The page of metrics says what the services have."""

from __future__ import annotations

from services.cli import metrics_doc


def test_the_page_is_what_the_services_declare() -> None:
    assert metrics_doc.PATH.read_text() == metrics_doc.render(), "run python -m services.cli.metrics_doc"


def test_every_metric_has_a_meaning_and_one_home() -> None:
    found = [metric for metrics in metrics_doc.declared().values() for metric in metrics]
    assert all(len(metric.documentation) > 20 and metric.name.startswith("arouter_") for metric in found)
    assert len({metric.name for metric in found}) == len(found)
