"""The snippets of the streaming guide, as programs that run."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from services.demo.scenario import Scenario
from services.demo.script import words
from shared.runtime.settings import own_environment
from tests.support.system import System

ROOT = Path(__file__).parents[2]
STORY = "".join(words(Scenario())).strip()
# What a snippet prints where that is not the story.
_SHOWS = {
    "curl": "data: [DONE]",
    "Usage at the end of a stream": "12",
    "Cancelling": "",
    "Errors": "refused: 401",
}


@dataclass(frozen=True, slots=True)
class Snippet:
    """One program of the guide."""

    heading: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.heading[:24]}-{self.language}"

    def aimed_at(self, system: System) -> str:
        """Its text with the system's address and key."""
        return self.text.replace("https://llm.example.com", system.url).replace("lr_live_your_key", system.key)

    def check(self, command: list[str], folder: Path) -> None:
        """Run it by this command; AssertionError where it fails, or does not print what it should."""
        done = subprocess.run(
            command,
            cwd=folder,
            env=own_environment({"NO_PROXY": "127.0.0.1"}),
            capture_output=True,
            text=True,
            timeout=1200,  # Go compiles its standard library first, the first time
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert _SHOWS.get(self.heading, STORY) in done.stdout


def snippets(*languages: str, page: str = "streaming.md") -> list[Snippet]:
    """The programs of a page in these languages, in order; by default in every language."""
    found = []
    heading = ""
    guide = (ROOT / "docs" / page).read_text()
    for match in re.finditer(r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        elif match[2] != "text":  # which is no program
            found.append(Snippet(heading, match[2], match[3]))
    return [snippet for snippet in found if not languages or snippet.language in languages]
