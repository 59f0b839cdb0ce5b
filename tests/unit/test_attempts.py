"""What follows an attempt that failed: another one, or the answer as it is."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from services.gateway.attempt_settings import AttemptSettings
from services.gateway.attempts import Attempts, Candidate, Plan
from services.gateway.bad_keys import BadKey
from services.gateway.client.upload import Upload
from services.gateway.credential_health import Health, Verdict
from services.gateway.retries import Retries
from services.gateway.routing.authenticators import Fixed
from shared.contract.provider_state import Health as State
from shared.runtime.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from tests.support.playbook import Answer, Clock

BAD = b'[{"error": {"message": "what", "details": [{"no": 1}, {"reason": "BAD_KEY"}]}}]'


class Given(Answer):
    """An answer with this status. `rest`: of its body, where it is not here as a whole."""

    def __init__(self, status: int, after: str, rest: list[bytes | Exception | None], body: bytes = b"{}") -> None:
        super().__init__(None if rest else body)
        self.status = status
        for word in rest:
            self.words.put_nowait(word)
        self.headers = [(b"Retry-After", after.encode())] if after else []


class Script:
    """An upstream that answers word by word: a status, `429/7` with Retry-After, `400!` with BAD, or the cause of no
    answer."""

    def __init__(self, words: str, clock: Clock) -> None:
        self.answers: list[Given] = []
        self.asked: list[str] = []
        self.kind = Given
        self.rest: list[bytes | Exception | None] = []
        self._clock = clock
        self._words = words.split()

    async def send(self, provider: str, *request: Any, fresh: bool = False) -> Answer:
        self.asked.append(provider + "!" * fresh)
        self._clock.now += 1
        word, _, after = self._words.pop(0).partition("/")
        word, bad, _ = word.partition("!")
        if word == "never":
            await asyncio.get_running_loop().create_future()
        if not word.isdigit():
            error: UpstreamError = (UpstreamTimeout if "timeout" in word else UpstreamUnreachable)("", word.strip("~"))
            error.again = word.endswith("~")
            raise error
        self.answers.append(self.kind(int(word), after, self.rest, BAD if bad else b"{}"))
        return self.answers[-1]


class Listed(Plan):
    """A plan of these candidates, none of which is passed over."""

    def __init__(self, candidates: list[Candidate]) -> None:
        super().__init__(candidates[0])
        self._rest = candidates[1:]
        self.elsewhere: list[bool] = []

    def more(self, now: float) -> bool:
        return bool(self._rest)

    def another(self, *, elsewhere: bool, now: float) -> Candidate | None:
        assert now >= 1000
        self.elsewhere.append(elsewhere)
        return self._rest.pop(0) if self._rest else None


def candidate(place: str, health: Health, body: Any = b"{}", *, trusted: bool = True, model: str = "m") -> Candidate:
    """`place`: provider and credential, as `a.main`."""
    provider, _, credential = place.partition(".")
    return Candidate(
        provider,
        model,
        credential,
        "POST",
        "https://p/v1",
        b"",
        [],
        body,
        Fixed(),
        health=health,
        caller="c",
        trusted=trusted,
        bad_key=BadKey({"error.details.reason": "BAD_KEY"}, {"error.details.reason": "BAD_KEY"}),
        shown=((b"x-arouter-attempts", b"1"), (b"x-arouter-provider", provider.encode())),
    )


class Scene:
    """The attempts of one exchange with candidates at these places."""

    def __init__(
        self,
        words: str,
        places: str = "a b c",
        *,
        trusted: bool = True,
        body: Any = b"{}",
        first: Health | None = None,
        model: str = "m",
        retries: Retries | None = None,
        **policy: Any,
    ) -> None:
        """`first`: the health of the first credential; `retries`: those of the exchanges before, and not a `policy`."""
        self.clock = Clock()
        self.stopped = False
        self.script = Script(words, self.clock)
        self.healths = [Health(0) for _ in places.split()]
        self.healths[0] = first or self.healths[0]
        candidates = [
            candidate(place, health, body, trusted=trusted, model=model)
            for place, health in zip(places.split(), self.healths, strict=True)
        ]
        self.plan = Listed(candidates)
        self.retries = retries or Retries(AttemptSettings(**policy), lambda: self.stopped)
        self.attempts = Attempts(self.plan, self.script, self.retries, self.clock, self._sleep)
        self.slept: list[float] = []

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def ask(self) -> str:
        """The status that the caller sees, or the cause of none."""
        try:
            return str((await self.attempts.first_answer([])).status)
        except UpstreamError as exc:
            return exc.cause


class Row(NamedTuple):
    """`words`: what the upstreams answer in turn. `seen`: by the caller. `asked`: the providers."""

    words: str
    seen: str
    asked: str
    policy: dict[str, Any] = {}  # noqa: RUF012  # never changed
    places: str = "a b c"


TABLE = [
    Row("200", "200", "a"),
    Row("400", "400", "a"),
    Row("404", "404", "a"),
    # Nothing was asked: the next one is.
    Row("connect_refused 200", "200", "a b"),
    Row("dns certificate 200", "200", "a b c"),
    Row("connect_refused dns tls", "tls", "a b c"),
    Row("credential 200", "200", "a b"),
    Row("request 200", "request", "a"),
    # Answers that the policy names.
    Row("429 200", "200", "a b"),
    Row("500 529 200", "200", "a b c"),
    Row("503 connect_refused 429/3", "429", "a b c"),
    Row("429 400", "400", "a b"),
    Row("408 200", "408", "a"),
    Row("408 200", "200", "a b", {"retry_on": "408"}),
    Row("500 200", "500", "a", {"retry_on": "429"}),
    Row("connect_refused 200", "connect_refused", "a", {"retry_on": ""}),
    # They may have been paid for.
    Row("first_byte_timeout 200", "first_byte_timeout", "a"),
    Row("first_byte_timeout 200", "200", "a b", {"retry_on": "timeout"}),
    Row("reset 200", "reset", "a"),
    Row("reset 200", "200", "a b", {"retry_on": "broken"}),
    # A credential that is refused, whatever the policy says.
    Row("401 200", "200", "a a", {"retry_on": ""}, "a.main a.spare"),
    Row("403 200", "200", "a a", {"retry_on": ""}, "a.main a.spare"),
    Row("401 401", "401", "a a", {}, "a.main a.spare"),
    Row("401", "401", "a", {}, "a"),
    Row("402 200", "200", "a b"),
    Row("400! 200", "200", "a a", {"retry_on": "", "budget": 0}, "a.main a.spare"),
    Row("400! 400", "400", "a a", {}, "a.main a.spare"),
    Row("400!", "400", "a", {}, "a"),
    # A connection that the provider was closing: once more on a new one, and not by policy.
    Row("closed_early~ 200", "200", "a a!", {"retry_on": ""}),
    Row("closed_early~ 500 200", "200", "a a! b"),
    Row("closed_early~ connect_refused 200", "200", "a a! b"),
    # Bounds.
    Row("500 500 500 500 500", "500", "a a a a a", {}, "a a a a a a a"),
    Row("500 500 500", "500", "a a", {"most": 2}, "a a a"),
    Row("500 200", "500", "a", {"budget": 0}),
    Row("401 200", "200", "a b", {"budget": 0}),
    Row("403 200", "403", "a", {"budget": 0}),
    # The only candidate is waited for where the policy says so.
    Row("429/0 200", "200", "a a", {"wait": 0.1}, "a"),
    Row("429/1 200", "429", "a", {}, "a"),
    Row("429/9 200", "429", "a", {"wait": 5}, "a"),
    Row("429 200", "429", "a", {}, "a"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.words} {row.policy}")
async def test_what_follows(row: Row) -> None:
    scene = Scene(row.words, row.places, **row.policy)
    assert await scene.ask() == row.seen
    assert " ".join(scene.script.asked) == row.asked
    assert len(scene.attempts.made) == len(scene.script.asked)
    assert all(answer.closed for answer in scene.script.answers if str(answer.status) != row.seen)
    assert not any(answer.closed for answer in scene.script.answers[-1:] if str(answer.status) == row.seen)


async def test_the_only_candidate_is_waited_for_as_long_as_it_asks() -> None:
    scene = Scene("429/4 503 500 200", "a", wait=5)
    assert await scene.ask() == "200"
    assert scene.slept == [4, 1, 2]


async def test_every_attempt_is_told() -> None:
    scene = Scene("429/3 first_byte_timeout 504 200", "a.x b c.y d", retry_on="429,timeout,5xx")
    assert await scene.ask() == "200"
    assert [(one.provider, one.credential, one.status, one.cause, one.maybe_paid) for one in scene.attempts.made] == [
        ("a", "x", 429, "rate_limited", False),
        ("b", "", None, "first_byte_timeout", True),
        ("c", "y", 504, "error", True),
        ("d", "", 200, "", False),
    ]
    assert scene.attempts.candidate.provider == "d"
    assert list(scene.attempts.shown) == [(b"x-arouter-attempts", b"4"), (b"x-arouter-provider", b"d")]
    assert scene.plan.elsewhere == [False, True, True]
    assert [health.state for health in scene.healths] == [State.COOLING, State.HEALTHY, State.HEALTHY, State.HEALTHY]
    assert [health.failures for health in scene.healths] == [1, 1, 1, 0]


async def test_what_becomes_of_a_credential_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "services.gateway.attempts")
    health = Health(0)
    for number, words in enumerate(("401 200", "401 200", "200 200")):
        scene = Scene(words, "a.main a.spare", first=health)
        scene.clock.now += 10 * number
        await scene.ask()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "provider a: credential 'main' is out (401)"),
        ("INFO", "provider a: credential 'main' is healthy"),
    ]


async def test_a_400_that_says_that_the_key_is_not_known_puts_it_out(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene("400! 200", "a.main a.spare")
    await scene.ask()
    assert [health.state for health in scene.healths] == [State.OUT, State.HEALTHY]
    assert [(one.status, one.cause) for one in scene.attempts.made] == [(400, "refused"), (200, "")]
    assert [record.getMessage() for record in caplog.records] == ["provider a: credential 'main' is out (400)"]
    other = Scene("400! 200", "a.main a.spare", trusted=False)
    assert (await other.ask(), other.healths[0].state) == ("400", State.HEALTHY)


async def test_a_client_that_leaves_while_an_answer_is_looked_at_closes_it() -> None:
    class Slow(Given):
        async def beginning(self, most: int, seconds: float) -> bytes:
            await asyncio.get_running_loop().create_future()
            return b""

    scene = Scene("400 200", "a.x a.y")
    scene.script.kind = Slow
    task = asyncio.ensure_future(scene.ask())
    while not scene.script.answers:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scene.script.answers[0].closed
    assert [one.cause for one in scene.attempts.made] == ["cancelled"]
    assert scene.healths[0].failures == 0


async def test_a_401_that_is_about_what_was_asked_does_not_put_a_credential_out() -> None:
    scene = Scene("401! 200", "a.x a.y")
    assert await scene.ask() == "200"
    assert [health.state for health in scene.healths] == [State.HEALTHY, State.HEALTHY]
    assert [(one.status, one.cause) for one in scene.attempts.made] == [(401, "refused"), (200, "")]
    assert await Scene("401! 200", "a.x a.y", budget=0).ask() == "401", "it has its place in the budget"


@pytest.mark.parametrize(("words", "places", "unmade"), [("500 200", "a b", 1), ("500", "a", 0), ("404", "a b", 0)])
async def test_attempts_without_budget_are_counted_where_there_was_a_candidate(
    words: str, places: str, unmade: int
) -> None:
    scene = Scene(words, places, budget=0)
    await scene.ask()
    assert scene.retries.unmade == unmade


async def test_an_upload_has_one_attempt() -> None:
    class Gone:
        def drop_body(self) -> None: ...

    upload = Upload(b"x", Gone(), None, None)  # type: ignore[arg-type]  # nothing is read of it
    scene = Scene("500 200", body=upload)
    assert await scene.ask() == "500"


@pytest.mark.parametrize("why", ["alone", "stopped"])
async def test_no_attempt_begins_for_nobody_or_in_a_drain(why: str) -> None:
    scene = Scene("500 200")
    scene.stopped = why == "stopped"
    scene.attempts.alone = why == "alone"
    assert await scene.ask() == "500"


async def test_a_client_that_leaves_ends_the_attempts_and_frees_the_one_that_decides() -> None:
    scene = Scene("401 never", "a.x a.y")
    [_, second] = scene.healths
    for _ in range(3):
        second.begin(990)
        second.end(Verdict.FAILED, 990, 990)
    task = asyncio.ensure_future(scene.ask())
    while len(scene.script.asked) < 2:
        await asyncio.sleep(0)
    assert not second.usable(1100), "it is the attempt that decides"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert second.usable(1100)
    assert [one.cause for one in scene.attempts.made] == ["refused", "cancelled"]


async def test_a_credential_is_set_aside_for_a_model_where_another_one_of_its_provider_serves_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = Health(0)
    await Scene("403 403", "a.x a.y", first=health).ask()
    await Scene("403 200", "a.x b.y", first=health).ask()
    await Scene("403 200", "a.x a.y", first=health, model="").ask()
    assert health.serves("m", 1002)
    assert health.serves("", 1002)
    for _ in range(9):  # one caller alone
        await Scene("403 200", "a.x a.y", first=health).ask()
    assert not health.serves("m", 1002)
    assert health.serves("other", 1002)
    assert health.state is State.HEALTHY
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [("ERROR", "provider a: credential 'x' refuses 'm' (403), which another one serves")]


async def test_refusals_do_not_use_up_the_budget_of_failures() -> None:
    """A caller may ask for what is forbidden as often as it likes."""
    retries = Retries(AttemptSettings())
    seen = [await Scene("403 403", "a.x a.y", retries=retries).ask() for _ in range(99)]
    assert (set(seen), retries.unmade) == ({"403"}, 90)
    assert [await Scene("500 200", retries=retries).ask() for _ in range(9)] == ["200"] * 9


@pytest.mark.parametrize(("trusted", "state"), [(True, State.OUT), (False, State.HEALTHY)])
async def test_a_401_that_the_caller_may_have_caused_does_not_put_a_credential_out(trusted: bool, state: State) -> None:
    scene = Scene("401 401", "a.x a.y", trusted=trusted)
    assert await scene.ask() == "401"
    assert [health.state for health in scene.healths] == [state, state]


@pytest.mark.parametrize(
    ("rest", "left"),
    [
        ([], 0),
        ([b"x" * 10_000, None], 0),
        ([b"x" * 40_000, b"x" * 40_000, b"x", None], 2),
        ([b"x", UpstreamBroken("")], 0),
    ],
)
async def test_a_short_answer_is_read_to_its_end_and_a_long_one_is_not(
    rest: list[bytes | Exception | None], left: int
) -> None:
    """What remains of an answer that is not passed on must not hold the next attempt up."""
    scene = Scene("500 200")
    scene.script.rest = rest
    assert await scene.ask() == "200"
    failed = scene.script.answers[0]
    assert (failed.closed, failed.words.qsize()) == (True, left)
