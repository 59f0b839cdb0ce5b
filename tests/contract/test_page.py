"""docs/contract.md names every key and every field, and none that is gone."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from shared.access.keys import KeyRecord
from shared.access.teams import TeamRecord
from shared.contract import names
from shared.contract.booked import BOOKED, Provisional
from shared.contract.entry import Entry
from shared.contract.events import Event
from shared.contract.frames import Cut, Fragment, JournaledHead, JournaledRecord, SealedFragment
from shared.contract.messages import SocketMessage
from shared.contract.provider_state import CredentialState, ProviderState
from shared.contract.running import GatewayState, Reloaded, RunningExchange, RunningExchanges
from shared.contract.tail import Attempt, End, Head, Open, Outcome, Packed, Seal, Segment
from shared.contract.version import CURRENT
from shared.contract.webhooks import Message
from shared.contract.work import WorkStart

PAGE = (Path(__file__).parents[2] / "docs/contract.md").read_text()
STRUCTS = [Open, Segment, Head, Packed, Seal, End, Attempt, SocketMessage, Entry, WorkStart]
STRUCTS += [JournaledRecord, JournaledHead, Fragment, Cut, SealedFragment]
STRUCTS += [Event, Message, GatewayState, ProviderState, CredentialState, RunningExchanges, RunningExchange, Reloaded]
SECTIONS = {
    **{struct.__name__: struct.__struct_fields__ for struct in STRUCTS},
    "BOOKED": BOOKED,
    "Provisional": Provisional._fields,
    "KeyRecord": tuple(inspect.signature(KeyRecord).parameters),
    "TeamRecord": tuple(inspect.signature(TeamRecord).parameters),
}


def section(title: str) -> str:
    [text] = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.mark.parametrize("title", SECTIONS)
def test_every_field_is_named_in_its_place(title: str) -> None:
    assert re.findall(r"^\| `(\w+)` \|", section(title), re.MULTILINE) == list(SECTIONS[title])


def test_every_key_is_named_as_it_is_spelled() -> None:
    places = {"shard": "N", "boot": "BOOT", "key_hash": "HASH", "day_utc": "YYYYMMDD", "hour_utc": "YYYYMMDDHH"}
    places |= {"provider": "PROVIDER", "id": "ID", "name": "NAME", "number": "NUMBER", "scope": "SCOPE"}
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section("Keys in Redis"), re.MULTILINE))
    spelled = {name: value for name, value in vars(names).items() if isinstance(value, str) and value.startswith("ar:")}
    for name, make in inspect.getmembers(names, inspect.isfunction):
        given = [places.get(one, 5) for one in inspect.signature(make).parameters]
        spelled[name] = make(*given) if name != "entries" else "ar:{N}:entries:BOOT:BUCKET"
    assert rows == spelled


def test_every_other_name_is_there_too() -> None:
    others = [name for name, value in vars(names).items() if name.isupper() and not str(value).startswith("ar:")]
    assert {"GROUP", "FINAL_TTL_S", "FIELD_SEPARATOR"} <= set(others)
    assert [name for name in others if f"`{name}`" not in PAGE and not name.startswith("_")] == []


def test_outcomes_and_version_are_those_of_now() -> None:
    assert [outcome for outcome in Outcome if outcome not in section("End")] == []
    assert f"now **{CURRENT}**" in PAGE
