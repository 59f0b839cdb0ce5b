"""Who is served with which credential."""

from __future__ import annotations

from services.gateway.attempts import Candidate
from services.gateway.credential_health import Health, Verdict
from services.gateway.planning import plan_of
from services.gateway.routing.authenticators import Fixed
from services.gateway.routing.pools import Credential, Pool
from services.gateway.routing.routes import Route
from services.gateway.routing.upstreams import Paths, Upstream
from shared.contract.dialects import Family

CALLERS = [f"caller-{number}" for number in range(40)]


def pool(upstream: str = "openai", **weights: float) -> Pool:
    return Pool(
        upstream,
        [
            Credential(name, dict.fromkeys(Family, Fixed()), Health(0), weight)
            for name, weight in (weights or {"": 1}).items()
        ],
    )


def first(pool: Pool) -> dict[str, str]:
    """The credential of each caller."""
    return {caller: pool.of(caller)[0].name for caller in CALLERS}


def test_a_caller_stays_with_its_credential() -> None:
    one, again = pool(a=1, b=1, c=1), pool(c=1, a=1, b=1)
    assert first(one) == first(one) == first(again)
    assert set(first(one).values()) == {"a", "b", "c"}
    assert {one.name for one in one.of("x")} == {"a", "b", "c"}


def test_other_upstreams_have_another_order() -> None:
    assert first(pool("openai", a=1, b=1)) != first(pool("azure", a=1, b=1))


def test_a_credential_that_comes_or_goes_moves_only_its_own_callers() -> None:
    two, three = first(pool(a=1, b=1)), first(pool(a=1, b=1, c=1))
    moved = {caller for caller in CALLERS if two[caller] != three[caller]}
    assert moved == {caller for caller in CALLERS if three[caller] == "c"}
    assert moved


def test_a_credential_without_weight_is_the_last() -> None:
    spare = pool(spare=0, a=0.001, other=0)
    for caller in CALLERS:
        assert spare.of(caller)[0].name == "a"
    assert {spare.of(caller)[1].name for caller in CALLERS} == {"spare", "other"}


def test_a_caller_is_remembered_and_forgotten() -> None:
    several = pool(a=1, b=1)
    assert several.of("x") is several.of("x")
    expected = several.of("x")
    for number in range(5000):
        several.of(str(number))
    assert several.of("x") == expected


def route(upstream: str, given: Pool, model: str = "m") -> Route:
    there = Upstream(
        provider=upstream,
        base_url="",
        endpoints={},
        pool=given,
        dialects=frozenset(),
        ask_usage=False,
        read_on=False,
        decode_requests=False,
        paths=Paths(""),
    )
    return Route(there, "", model, renamed=False)


def candidate(route: Route, credential: Credential) -> Candidate:
    return Candidate(route.upstream.provider, route.model, credential.name, "POST", "", b"", [], b"", Fixed())


class Walk:
    """The candidates of a plan, as they are asked for."""

    def __init__(self, *routes: Route) -> None:
        self.made: list[str] = []
        self.plan = plan_of(routes, "caller", self._make, lambda: 100.0)

    def _make(self, route: Route, credential: Credential) -> Candidate:
        self.made.append(f"{route.upstream.provider}/{credential.name}")
        return candidate(route, credential)

    def go(self, *, elsewhere: bool = False) -> list[str]:
        while self.plan.another(elsewhere=elsewhere, now=100.0) is not None:
            pass
        return self.made


def put(credential: Credential, verdict: Verdict) -> None:
    for _ in range(3):
        credential.health.end(verdict, 99, 99)


def test_candidates_are_made_when_their_turn_comes() -> None:
    walk = Walk(route("openai", pool()), route("azure", pool("azure", x=1)))
    assert walk.made == ["openai/"]
    assert walk.go() == ["openai/", "azure/x"]
    single = Walk(route("openai", pool()))
    assert single.go() == ["openai/"]


def test_routes_go_before_credentials_and_an_outage_goes_elsewhere() -> None:
    def made(*, elsewhere: bool) -> list[str]:
        return Walk(route("one", pool("one", a=2, b=0)), route("two", pool("two", c=1))).go(elsewhere=elsewhere)

    assert made(elsewhere=False) == ["one/a", "one/b", "two/c"]
    assert made(elsewhere=True) == ["one/a", "two/c", "one/b"]


def test_what_cools_or_is_out_is_passed_over() -> None:
    several = pool("one", a=1, b=0)
    put(several.first, Verdict.FAILED)
    assert Walk(route("one", several), route("two", pool("two", c=1))).go() == ["one/b", "two/c"]


def test_what_is_set_aside_for_a_model_is_passed_over_for_that_model() -> None:
    several = pool("one", a=1, b=0)
    several.first.health.outdone("m", 99)
    assert Walk(route("one", several)).go() == ["one/b"]
    assert Walk(route("one", several, model="other")).go() == ["one/a", "one/b"]
    put(several.of("caller")[1], Verdict.FAILED)
    assert Walk(route("one", several)).go() == ["one/b"], "what refuses it is the last resort"


def test_where_none_is_usable_the_first_that_is_not_out_is_asked_alone() -> None:
    several = pool("one", a=1, b=0)
    a, b = several.of("caller")
    put(a, Verdict.REFUSED)
    put(b, Verdict.FAILED)
    assert Walk(route("one", several)).go() == ["one/b"]
    put(b, Verdict.REFUSED)
    assert Walk(route("one", several)).go() == ["one/a"]
