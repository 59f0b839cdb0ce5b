"""What is booked of work that ends elsewhere, once it is known who books its result."""

from __future__ import annotations

from services.meter.work import noted, with_claim
from shared.contract.dialects import Dialect
from shared.contract.entry import CostSource, Entry, Mark
from shared.contract.usage import Source
from shared.contract.work import Claim, WorkKind, WorkStart
from tests.support.work import ID, LINES, PRICES, Told, begun, chat_line, fetched, figures, lines, measured, note

LOOK = Dialect.METADATA
STARTED = WorkStart("01K0000000000000000000G01D.1.0", "b" * 64, "o4-mini", WorkKind.RESPONSE, 1, team="research")


def test_the_price_of_several_models_is_unknown() -> None:
    one, two = chat_line(0), chat_line(1, model="gpt-4o-mini")
    told = Told(LOOK, "v1/files/file-1/content", lines(one, two), LINES)
    booked = measured(told).entry
    assert (figures(booked), booked.model) == ((Source.REPORTED, 20, 10), "")
    assert (booked.cost_microusd, booked.cost_source, booked.marks) == (None, CostSource.UNPRICED, (Mark.UNPRICED,))
    claimed = with_claim(booked, note(told), Claim(str(ID), STARTED), PRICES)
    assert (claimed.model, claimed.cost_microusd, claimed.key) == ("", None, STARTED.key)


def claimed(told: Told, claim: Claim) -> Entry:
    return with_claim(measured(told).entry, note(told), claim, PRICES)


def test_a_result_is_booked_on_whoever_began_it() -> None:
    booked = claimed(fetched(), Claim(str(ID), STARTED))
    assert (booked.key, booked.team, booked.model) == (STARTED.key, "research", "o4-mini")
    assert (booked.work_id, booked.work_begun_by, booked.fetched_by) == ("resp_1", STARTED.exchange_id, "a" * 64)
    assert figures(booked) == (Source.REPORTED, 70, 25)
    assert (booked.cost_microusd, booked.cost_nanousd) == (120, 120_000)


def test_a_result_that_nobody_began_is_booked_on_whoever_fetched_it() -> None:
    booked = claimed(fetched(), Claim(str(ID), None))
    assert (booked.key, booked.model, booked.work_id, booked.fetched_by) == (
        "a" * 64,
        "o4-mini-2025-04-16",
        "resp_1",
        "",
    )


def test_what_another_exchange_books_is_nothing_here() -> None:
    for told in (fetched(), begun()):
        booked = claimed(told, Claim("other", STARTED))
        assert figures(booked) == (Source.REPORTED, 0, 0)
        assert (booked.cost_microusd, booked.marks, booked.raw_usage) == (0, (Mark.WORK_BOOKED,), None)
        assert (booked.work_id, booked.work_booked_by, booked.key) == ("resp_1", "other", "a" * 64)


def test_an_answer_that_may_be_an_ordinary_one_is_nothing_where_nobody_has_begun_it() -> None:
    told = fetched(background=None)
    assert not note(told).certain
    booked = claimed(told, Claim("", None))
    assert (figures(booked), booked.marks, booked.work_id) == ((Source.REPORTED, 0, 0), (), "")
    assert not noted(booked, note(told), waited=True).unbegun
    assert figures(claimed(told, Claim(str(ID), STARTED))) == (Source.REPORTED, 70, 25)
