"""Paths at the root beside the calls of models: what an SDK with its documented base URL asks for. Pure.

One row each. They go to the default provider of their family (decision 4), or to the one that the model's prefix names.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from shared.contract.dialects import Family

READ = frozenset({"GET", "HEAD"})
CHANGE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
ANY = READ | CHANGE


class Root(NamedTuple):
    """Paths behind the version segment. `?` stands for one segment, and a last `*` for any number, also none."""

    family: Family
    path: str
    methods: frozenset[str] = ANY
    by_header: bool = False  # only where the request shows the family's headers: another family has this path, too


_O, _A, _G = Family.OPENAI, Family.ANTHROPIC, Family.GEMINI
ROOTS: tuple[Root, ...] = (
    Root(_A, "messages/batches/*"),
    Root(_A, "files/*", by_header=True),
    Root(_A, "skills/*", by_header=True),
    Root(_A, "models/*", READ, by_header=True),
    Root(_O, "models/*", READ | {"DELETE"}),
    Root(_O, "chat/completions/*", READ | {"DELETE"}),
    Root(_O, "chat/completions/?", frozenset({"POST"})),
    Root(_O, "responses/?/*"),
    Root(_O, "conversations/*"),
    Root(_O, "images/*"),
    Root(_O, "audio/*"),
    Root(_O, "videos/*"),
    Root(_O, "moderations"),
    Root(_O, "files/*"),
    Root(_O, "uploads/*"),
    Root(_O, "batches/*"),
    Root(_O, "vector_stores/*"),
    Root(_O, "fine_tuning/*"),
    Root(_O, "evals/*"),
    Root(_O, "containers/*"),
    Root(_O, "skills/*"),
    Root(_O, "assistants/*"),
    Root(_O, "threads/*"),
    Root(_O, "realtime/*"),
)
# Behind v1beta and the other versions of Gemini's API, and behind /upload/ and such a version.
GEMINI_ROOTS: tuple[Root, ...] = (
    Root(_G, "models/*", READ),
    Root(_G, "files/*"),
    Root(_G, "cachedContents/*"),
    Root(_G, "batches/*"),
    Root(_G, "fileSearchStores/*"),
    Root(_G, "tunedModels/*"),
    Root(_G, "corpora/*"),
    Root(_G, "operations/*"),
    Root(_G, "interactions/?/*"),
)


def root_of(method: str, rest: str, version: str, family: Family) -> Root | None:
    """The row of a path behind a version; None where there is none.

    `family`: as the request's headers show it.
    """
    google = version != "v1" or family is Family.GEMINI
    for root in (*GEMINI_ROOTS, *ROOTS) if google else ROOTS:
        if method in root.methods and (not root.by_header or root.family is family) and _fits(root.path, rest):
            return root
    return None


@cache
def _pattern(path: str) -> re.Pattern[str]:
    whole = re.escape(path.removesuffix("/*")).replace(r"\?", "[^/]+")
    # Upper and lower case are the same, as they are to some servers.
    return re.compile(whole + "(?:/.+)?" if path.endswith("/*") else whole, re.IGNORECASE)


def _fits(path: str, rest: str) -> bool:
    return _pattern(path).fullmatch(rest) is not None
