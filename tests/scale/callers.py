"""Clients that run without a pause."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support import web
from tests.support.requests import ASKS, Ask

_CLIENTS = 8
_NAMES = [name for name in ASKS if name != "embeddings"]


class Callers:
    """The ids of answered exchanges, and the errors that the clients saw."""

    def __init__(self, url: str, key: str) -> None:
        self.answered: set[str] = set()
        self.errors: list[str] = []
        self._url = url
        self._key = key
        self._stopping = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run the clients while the block runs, each on connections of its own."""
        threads = [threading.Thread(target=self._call, args=(number,), daemon=True) for number in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(90)

    def _call(self, number: int) -> None:
        rng = random.Random(number)
        with web.client() as client:
            for turn in itertools.count():
                if self._stopping.is_set():
                    return
                name = rng.choice(_NAMES)
                directives = f"tokens={rng.randint(5, 60)}, pace={rng.choice([0, 5, 40])}, seed={turn}"
                self._ask(client, name, ASKS[name], directives)

    def _ask(self, client: httpx.Client, name: str, ask: Ask, directives: str) -> None:
        try:
            answer = client.post(self._url + ask.path, headers=ask.headers(self._key, directives), json=ask.body)
        except httpx.HTTPError as exc:
            self.errors.append(f"{name}: {type(exc).__name__}: {exc}")
            return
        if answer.status_code == 200:
            self.answered.add(answer.headers["x-generation-id"])
        else:
            self.errors.append(f"{name}: HTTP {answer.status_code}: {answer.text[:100]}")
