"""What a request asks of the demo provider: directives in an `x-demo` header, or behind `demo-` in the model name or in
front of the path.

`x-demo: tokens=20, pace=5, cut`, the model `demo-cut` or `demo-tokens=20+no-usage`, or the base URL
`http://127.0.0.1:8090/demo-status=529/v1`. Times are in milliseconds. The misbehaviours `cut`, `truncate`, `reset`,
`error` and `stall` strike `after` events, half of them by default.

| directive | the provider |
|---|---|
| tokens=N | answers with N tokens (12) |
| pace=MS | waits between events (0) |
| seed=N | varies the text |
| say=N | answers with the N-th of eight English sentences, one word a token, instead of words that break parsers |
| tools | calls a tool instead of answering with text |
| bytewise | writes byte by byte |
| split=N | writes in pieces of 1 to N bytes, cut anywhere |
| huge=N | puts N bytes of text into one event |
| no-usage | reports no usage |
| gzip, deflate, br, zstd | compresses the body |
| close-delimited | sends neither length nor chunks; the end of the connection ends the body |
| hang=MS | waits before the headers (for ever) |
| refuse | closes the connection instead of answering |
| status=N | answers with this error, in the dialect's form |
| retry-after=S | says so many seconds in `retry-after` (0 with a 429) |
| after=N | lets N events pass before it misbehaves |
| work=MS | needs so long for a response in the background (200) |
| stall=MS | is silent in the middle of the body (for ever) |
| error | sends the dialect's error event, then ends the body properly |
| truncate | ends the body properly, but in the middle |
| cut | closes the connection in the middle of the body |
| reset | resets the connection in the middle of the body |
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from services.demo import sentences

FOR_EVER_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """The directives of one request."""

    tokens: int = 12
    pace: int = 0
    seed: int = 0
    say: int = 0
    tools: bool = False
    bytewise: bool = False
    split: int = 0
    huge: int = 0
    no_usage: bool = False
    gzip: bool = False
    deflate: bool = False
    br: bool = False
    zstd: bool = False
    close_delimited: bool = False
    hang: int = 0
    refuse: bool = False
    status: int = 200
    retry_after: int | None = None
    after: int | None = None
    stall: int = 0
    work: int = 200
    error: bool = False
    truncate: bool = False
    cut: bool = False
    reset: bool = False

    @property
    def encoding(self) -> str:
        """The content encoding asked for, "" for none."""
        return next((name for name in ("gzip", "deflate", "br", "zstd") if getattr(self, name)), "")

    @property
    def breaks(self) -> bool:
        """Whether the body does not get to its end."""
        return self.error or self.truncate or self.cut or self.reset


_TYPES = {field.name: field.type for field in fields(Scenario)}
_PREFIX = "demo-"


def parse(header: str, *names: str, outage: str = "") -> Scenario:
    """The scenario of a request. What comes later counts: the names that may begin with `demo-`, then an outage.

    Unknown directives raise ValueError: a test that asks for nothing must not pass."""
    directives = header.split(",")
    for name in names:
        if name.startswith(_PREFIX):
            directives += name.removeprefix(_PREFIX).split("+")
    directives = [part.strip() for part in [*directives, *outage.split(",")] if part.strip()]
    values: dict[str, int | bool] = {}
    for directive in directives:
        name, equals, value = directive.partition("=")
        field = name.replace("-", "_")
        if field not in _TYPES:
            raise ValueError(f"unknown directive {name!r}")
        if _TYPES[field] == "bool":
            values[field] = True
        else:
            values[field] = int(value) if equals else FOR_EVER_MS
    if values.get("say"):
        values.setdefault("tokens", sentences.tokens(int(values["say"])))
    return Scenario(**values)  # type: ignore[arg-type]  # the values are those of the fields
