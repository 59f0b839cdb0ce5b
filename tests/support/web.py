"""httpx with a timeout of a minute, and without this machine's proxies."""

from __future__ import annotations

from functools import partial

import httpx

_SECONDS = 60.0

get = partial(httpx.get, timeout=_SECONDS, trust_env=False)
head = partial(httpx.head, timeout=_SECONDS, trust_env=False)
options = partial(httpx.options, timeout=_SECONDS, trust_env=False)
post = partial(httpx.post, timeout=_SECONDS, trust_env=False)
request = partial(httpx.request, timeout=_SECONDS, trust_env=False)
stream = partial(httpx.stream, timeout=_SECONDS, trust_env=False)
client = partial(httpx.Client, timeout=_SECONDS, trust_env=False)
async_client = partial(httpx.AsyncClient, timeout=_SECONDS, trust_env=False)
