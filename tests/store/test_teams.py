"""Teams on a real Redis."""

from __future__ import annotations

import pytest

from shared.access import keys, teams
from shared.access.keyring import KeyRing
from shared.access.teams import BadTeamName, NoSuchTeam, TeamExists
from shared.contract import names
from shared.runtime.settings import Settings
from shared.runtime.store import Store

PEPPER = b"a pepper of the tests"
SETTINGS = Settings.model_validate({"key_pepper": PEPPER.decode()})


async def test_teams_are_made_once_found_changed_and_listed_in_their_order(redis: Store) -> None:
    made = [await teams.create(redis, name, label) for name, label in (("zeta", "Z"), ("alpha", ""), ("m.n_o-1", ""))]
    assert await teams.find_all(redis) == made
    assert await teams.page(redis, 1, 1) == [made[1]]
    assert await teams.find(redis, "zeta") == made[0]
    changed = await teams.update(redis, "zeta", {"label": "Zeta"})
    assert (changed.name, changed.label, changed.created_at) == ("zeta", "Zeta", made[0].created_at)
    assert changed.updated_at
    assert (await teams.update(redis, "zeta", {"label": ""})).label == ""
    with pytest.raises(TeamExists, match="zeta"):
        await teams.create(redis, "zeta", "another")
    assert (await teams.find(redis, "zeta")).label == ""


async def test_a_team_that_does_not_exist_is_neither_found_nor_made_by_a_change(redis: Store) -> None:
    with pytest.raises(NoSuchTeam, match="nobody"):
        await teams.find(redis, "nobody")
    with pytest.raises(NoSuchTeam):
        await teams.update(redis, "nobody", {"label": "x"})
    assert await redis.exists(names.team("nobody")) == 0


@pytest.mark.parametrize("name", ["", "a b", "-a", ".a", "a,b", "a{b}", "=a", "é", "a" * 65, "a\n", "a/b"])
async def test_names_that_would_be_misread_elsewhere_are_refused(redis: Store, name: str) -> None:
    with pytest.raises(BadTeamName):
        await teams.create(redis, name)
    assert await teams.find_all(redis) == []


async def test_a_team_whose_maker_died_half_way_is_listed_once_it_is_made_again(redis: Store) -> None:
    await redis.hset(names.team("half"), "created_at", "5")  # type: ignore[misc]
    assert await teams.find_all(redis) == []
    with pytest.raises(TeamExists):
        await teams.create(redis, "half")
    assert [team.name for team in await teams.find_all(redis)] == ["half"]


async def test_a_key_belongs_to_one_team_or_to_none_and_the_keyring_notices(redis: Store) -> None:
    now = 0.0
    ring = KeyRing(redis, SETTINGS, monotonic=lambda: now)
    key, record = await keys.create(redis, PEPPER, "me", team="red")
    assert (await ring.authenticate(key)).team == "red"
    for team in ("blue", None):
        await keys.update(redis, record.hash, {"team": team})
        now += 1.0
        assert (await ring.authenticate(key)).team == team
