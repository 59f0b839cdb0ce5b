"""The health of a credential, state by state."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from services.gateway.credential_health import Health, Healths, Verdict
from shared.contract.provider_state import Health as State

ACCEPTED, REFUSED, FORBIDDEN, FAILED, NOTHING = Verdict
VERDICTS = {
    "ok": ACCEPTED,
    "401": REFUSED,
    "403": FORBIDDEN,
    "500": FAILED,
    "left": NOTHING,
}


class Row(NamedTuple):
    """Attempts, one after the other: `verdict` or `verdict@caller`, `+N` lets N seconds pass. Then the state, and in
    how many seconds it is usable."""

    script: str
    state: State
    usable_in: float = 0


H, C, O = State  # noqa: E741  # healthy, cooling, out

TABLE = [
    Row("", H),
    Row("ok ok", H),
    # Failures in a row make it cool; others do not.
    Row("500 500", H),
    Row("500 500 500", C, 2),
    Row("500 500 ok 500", H),
    Row("500 left 500 left", H),
    # Half-open after a while: the attempt decides.
    Row("500 500 500 +1", C, 1),
    Row("500 500 500 +2", C, 0),
    Row("500 500 500 +2 ok", H),
    Row("500 500 500 +2 500", C, 4),
    Row("500 500 500 +2 500 +4 500 +8 500", C, 16),
    Row("500 500 500 +2 500 +4 500 +8 500 +16 500 +32 500", C, 60),
    Row("500 500 500 +2 500 +4 ok 500 500", H),
    Row("500 500 500 +2 500 +4 ok 500 500 500", C, 2),
    Row("500 500 500 +2 left", C, 0),  # it said nothing: the next one decides
    Row("500 500 500 +2 401", O, 30),
    Row("500 500 500 +2 403@a", C, 4),
    # It was asked though it cools, as there was no other.
    Row("500 500 500 500", C, 2),
    Row("500 500 500 ok", H),
    # Time that the provider asks for.
    Row("wait=7", C, 7),
    Row("wait=7 +7 ok", H),
    Row("wait=7 +7 500", C, 4),
    Row("wait=0", C, 0),
    # Refused: out at once, and rarely tried again.
    Row("401", O, 30),
    Row("401 500 401", O, 30),
    Row("401 +30", O, 0),
    Row("401 +30 401", O, 60),
    Row("401 +30 403@a", O, 60),
    Row("401 +30 500", O, 60),
    Row("401 +30 401 +60 401 +120 401 +240 401 +480 401 +600 401", O, 600),
    Row("401 +30 ok", H),
    Row("401 +30 ok 401", O, 30),
    Row("401 ok", H),
    # Refused, perhaps for what was asked: one caller alone does nothing, however often it asks.
    Row("403@a", H),
    Row("403@a 403@a 403@a 403@a 403@a", H),
    Row("403@a 403@b", H),
    Row("403@a 403@b 403@a", O, 30),
    Row("403@a 403@b ok 403@a", H),
    Row("403@a 403@a 403@a 403@b", O, 30),
]


def played(script: str) -> tuple[Health, float]:
    """The health at the end of a script, and the time."""
    now = 1000.0
    health = Health(now)
    for word in script.split():
        if word.startswith("+"):
            now += float(word[1:])
            continue
        decides = health.begin(now)
        verdict, _, rest = word.partition("@")
        wait = float(word.removeprefix("wait=")) if word.startswith("wait=") else None
        health.end(
            VERDICTS.get(verdict, FAILED), now, now, decides=decides, cause=verdict, caller=rest or "c", wait=wait
        )
    return health, now


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.script)
def test_states(row: Row) -> None:
    health, now = played(row.script)
    assert health.state is row.state
    assert health.usable(now + row.usable_in)
    assert row.usable_in == 0 or not health.usable(now + row.usable_in - 0.001)


def test_a_credential_that_is_outdone_is_set_aside_for_that_model_and_ever_longer() -> None:
    health, now = Health(0), 0.0
    for seconds in (30, 60, 120, 240, 480, 600, 600):
        assert health.serves("m", now)
        assert health.outdone("m", now)
        assert not health.outdone("m", now + 1), "what was under way says nothing new"
        assert not health.serves("m", now + seconds - 1)
        now += seconds
    assert health.serves("other", 0)
    assert (health.state, health.usable(0)) == (H, True)
    assert health.outdone("m", now + 601)
    assert health.serves("m", now + 631), "that was long ago"


def test_a_bounded_number_of_models_is_remembered() -> None:
    health = Health(0)
    for number in range(100):
        assert health.outdone(f"m{number}", 0)
    assert [number for number in range(100) if not health.serves(f"m{number}", 1)] == list(range(36, 100))
    assert not health.outdone("m36", 1)
    assert not health.serves("m36", 1)


def test_one_attempt_at_a_time_decides() -> None:
    health, now = played("500 500 500 +2")
    assert health.begin(now)
    assert not health.usable(now)
    assert not health.begin(now), "it is asked for want of another, and decides nothing"
    assert not health.end(FAILED, now, now, cause="500")
    health.end(NOTHING, now, now, decides=True)
    assert health.usable(now)


def test_an_answer_from_before_the_trouble_mends_nothing() -> None:
    health = Health(0)
    for _ in range(3):
        assert not health.begin(1)
    assert health.end(REFUSED, 1, 2, cause="401")
    assert not health.end(ACCEPTED, 1, 3)
    assert health.state is O
    health.begin(4)
    assert health.end(ACCEPTED, 4, 5)
    assert (health.state, health.since, health.cause) == (H, 5, "401")


def test_an_attempt_that_decides_is_forgotten_once_another_one_has_mended() -> None:
    health, now = played("500 500 500 +2")
    assert health.begin(now)
    health.begin(now)
    assert health.end(ACCEPTED, now, now)
    for _ in range(3):
        health.begin(now)
        health.end(FAILED, now, now)
    assert health.usable(now + 2)


def test_what_was_asked_of_it_lately_is_counted() -> None:
    health, _ = played("ok 500 ok 401")
    assert (health.requests, health.failures, health.recent) == (4, 2, (4, 2))
    for now in range(1000, 1400, 10):
        health.note(now)
    assert health.recent == (0, 0)
    health.begin(1400)
    assert health.recent == (1, 0)


def test_healths_outlive_a_reload_unless_the_secret_is_another_one() -> None:
    healths = Healths(lambda: 5.0)
    first = healths.of("openai", "main", b"1")
    assert healths.of("openai", "main", b"1") is first
    assert healths.of("openai", "spare", b"1") is not first
    assert healths.of("azure", "main", b"1") is not first
    second = healths.of("openai", "main", b"2")
    assert second is not first
    assert (second.state, second.since) == (H, 5)
