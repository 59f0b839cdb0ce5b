"""The documents say what the code does."""

from __future__ import annotations

import re
from dataclasses import fields

from services.cli import settings_doc
from services.demo.outages import DOORS
from services.demo.scenario import Scenario
from shared.contract.tail import Outcome
from tests.faults.faults import FAULTS
from tests.support.our_files import ROOT, our_files


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_settings_page_is_up_to_date() -> None:
    assert read("docs/settings.md") == settings_doc.render(), "run: .venv/bin/python -m services.cli.settings_doc"


def test_every_directive_and_outcome_is_documented() -> None:
    page = read("docs/demo-provider.md")
    for field in fields(Scenario):
        assert field.name.replace("_", "-") in page
    for directive in (*DOORS, "credential=", "seconds="):
        assert f"| {directive}" in page
    for outcome in set(Outcome) - {Outcome.GATEWAY_LOST}:
        assert outcome in read("docs/relay.md")


def test_the_readme_has_the_numbers_of_the_pages_behind_it() -> None:
    readme = " ".join(read("README.md").split())
    assert f"breaks {len(FAULTS)} things under load" in readme
    rows = read("docs/performance.md").partition("200 streams, 50 events/s each")[2].splitlines()[1:4]
    for row in rows:
        cost = re.findall(r"event: ([\d.]+)", row)[0]
        assert f"{cost} µs" in readme, row


def test_every_document_is_linked_from_the_readme() -> None:
    linked = re.findall(r"\]\(([^)#]+)[^)]*\)", read("README.md"))
    assert len(set(linked)) > 20
    pages = [page.relative_to(ROOT) for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]]
    missing = {str(page) for page in pages if page.name != "README.md"} - set(linked)
    assert not missing, "add a line to README.md"


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_decisions_are_short() -> None:
    for record in (ROOT / "docs/decisions").glob("*.md"):
        lines = record.read_text().strip().splitlines()
        assert re.match(r"# \d+\. .", lines[0])
        assert len(lines) == 5


def test_each_decision_has_a_number_of_its_own() -> None:
    records = sorted((ROOT / "docs/decisions").glob("*.md"))
    numbers = [int(record.name[:4]) for record in records]
    assert numbers == list(range(1, len(records) + 1))
    assert numbers == [int(record.read_text()[2:].partition(".")[0]) for record in records]


def test_decisions_that_are_named_exist() -> None:
    numbers = {int(record.name[:4]) for record in (ROOT / "docs/decisions").glob("*.md")}
    sources = our_files(("services", "shared", "tests", "docs"), (".py", ".lua", ".md"))
    texts = [path.read_text() for path in sources]
    named = {int(number) for text in texts for number in re.findall(r"\bdecisions? (\d+)", text)}
    assert len(named) > 5
    assert named <= numbers


def test_named_modules_exist() -> None:
    names = {path.name for path in our_files(("services", "shared"), (".py", ".lua"))}
    for name in re.findall(r"`([a-z_]+\.(?:py|lua))`", read("docs/architecture.md")):
        assert name in names
