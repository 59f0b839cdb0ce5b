"""The lines of a cost, and another price for what is booked, through real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.processes import ProcessFailed
from shared.contract import names
from tests.support import web
from tests.support.requests import ASKS
from tests.support.system import System


@pytest.fixture
def own(tmp_path: Path) -> Iterator[System]:
    with System(tmp_path) as system:
        yield system


def test_a_cost_is_explained_and_booked_anew(own: System, tmp_path: Path) -> None:
    key = own.command("keys", "create", "--name", "explained").strip()
    answer = web.post(own.url + ASKS["chat"].path, headers=ASKS["chat"].headers(key), json=ASKS["chat"].body)
    id = answer.headers["x-generation-id"]
    [booked] = own.settled([id]).values()
    said = own.command("prices", "explain", id)
    assert "booked: $" in said
    assert "by tests-1: openai *" in said
    assert "booked anew" not in said
    file = tmp_path / "other.toml"
    file.write_text(
        'format = 2\nversion = "other"\n[[prices]]\nprovider = "openai"\nmodel = "*"\ninput = 1\noutput = 2\n'
    )
    own.extra["AROUTER_PRICES"] = str(file)
    assert "`arouter prices apply` books it anew" in own.command("prices", "explain", id)
    since = "2020-01-01"
    assert "would change, by other" in own.command("prices", "apply", "--since", since, "--dry-run")
    assert "have another price now, by other" in own.command("prices", "apply", "--since", since)
    again = own.command("prices", "apply", "--since", since)
    assert again.startswith("0 of ")
    last = json.loads(own.command("ledger", "show", id).splitlines()[-1])
    cost = 1000 * booked["input_tokens"] + 2000 * booked["output_tokens"]
    assert (last["cost_nanousd"], last["price_version"], last["revision"]) == (cost, "other", 2)
    assert "no differences" in own.command("audit")
    with pytest.raises(ProcessFailed, match="not in the ledger"):
        own.command("prices", "explain", id.rpartition(".")[0] + ".99999")
    damaged = own.redis.xadd(names.ledger(0), {"x": "y"})
    assert isinstance(damaged, bytes)
    said = own.command("prices", "apply", "--since", since, expected=(1,))
    assert (
        said.splitlines()[-1] == f"1 of the ledger's entries cannot be read, and keep their price: {damaged.decode()}"
    )
