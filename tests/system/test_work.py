"""Work that ends elsewhere through real processes, with OpenAI's SDK: a response in the background."""

from __future__ import annotations

import json
from typing import Any

import openai

from tests.support.system import System

Fetched = tuple[str, Any]  # exchange id and response


def client(system: System, key: str, **directives: int) -> openai.OpenAI:
    headers = {"x-demo": ", ".join(f"{name}={value}" for name, value in directives.items())}
    return openai.OpenAI(base_url=f"{system.url}/v1", api_key=key, max_retries=0, default_headers=headers)


def begin(asking: openai.OpenAI) -> Fetched:
    raw = asking.responses.with_raw_response.create(model="gpt-4o", input="Write a long novel.", background=True)
    return raw.headers["x-generation-id"], raw.parse()


def fetch(asking: openai.OpenAI, id: str) -> Fetched:
    raw = asking.responses.with_raw_response.retrieve(id)
    return raw.headers["x-generation-id"], raw.parse()


def test_a_background_response_is_booked_once_on_the_key_that_began_it(system: System) -> None:
    other = json.loads(system.command("keys", "create", "--name", "fetches", "--json"))
    with client(system, system.key, tokens=33, work=500) as beginning, client(system, other["key"]) as fetching:
        begun, response = begin(beginning)
        assert response.status == "queued"
        polls: list[Fetched] = []

        def ended() -> bool:
            polls.append(fetch(fetching, response.id))
            return bool(polls[-1][1].status == "completed")

        system.until(ended)
        again, _ = fetch(fetching, response.id)
    usage = polls[-1][1].usage
    assert usage is not None
    looked, result = [id for id, _ in polls[:-1]], polls[-1][0]
    book = system.settled([begun, *looked, result, again])
    start = book[begun]
    assert (start["input_tokens"], start["marks"]) == (None, ["open_work", "unpriced"])
    assert {book[id]["total_tokens"] for id in looked} <= {0}
    # The two fetches may be metered in either order: one of them books.
    [holder] = [id for id in (result, again) if "work_booked" not in book[id].get("marks", [])]
    [later] = {result, again} - {holder}
    assert (book[holder]["input_tokens"], book[holder]["output_tokens"]) == (usage.input_tokens, 33)
    assert (book[holder]["key"], book[holder]["model"], book[holder]["service_tier"]) == (
        start["key"],
        "gpt-4o",
        "flex",
    )
    assert (book[holder]["fetched_by"], book[holder]["work_begun_by"]) == (other["hash"], begun)
    assert (book[later]["total_tokens"], book[later]["work_booked_by"]) == (0, holder)
    assert book[later]["key"] == other["hash"] != start["key"]
    assert sum(book[id]["total_tokens"] or 0 for id in book) == usage.total_tokens


def test_work_that_nobody_has_fetched_is_listed(system: System) -> None:
    with client(system, system.key, work=600_000) as asking:
        begun, response = begin(asking)
        fetch(asking, response.id)
    system.settled([begun])
    [row] = [row for row in json.loads(system.command("work", "--json")) if row["id"] == response.id]
    assert (row["exchange_id"], row["provider"], row["kind"], row["model"]) == (begun, "openai", "response", "gpt-4o")
    assert response.id in system.command("work", "--provider", "openai", "--key", row["key"][:12])
    assert response.id not in system.command("work", "--provider", "anthropic")
