"""Who may begin an exchange: a table of keys and requests; and the step that mints an id and makes its open durable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from services.gateway.admission import Admission, Asked, Permit, limited_models
from services.gateway.capture.journal import Journal
from services.gateway.capture.tap import Tap
from services.gateway.client.flags import Flags
from services.gateway.client.received import Received
from services.gateway.limiting.limiter import Limiter
from services.gateway.routing.configured import upstreams
from services.gateway.routing.plans import plan
from services.gateway.routing.routes import choose, family_of, match
from services.gateway.settings import GatewaySettings
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord
from shared.contract.dialects import Dialect, Family
from shared.contract.ids import ExchangeIds, new_boot
from shared.contract.tail import Fields, Open
from shared.runtime.errors import JournalFailed, Refused

UPSTREAMS = upstreams(
    GatewaySettings(
        providers={"openai": {"api_key": "sk-x"}, "groq": {"api_key": "sk-y"}},  # type: ignore[dict-item]
        routes={"fast": {"candidates": ["openai/gpt-4o", "groq/llama"]}},  # type: ignore[dict-item]
    )
)
CHAT, MODELS, FORMS = "/v1/chat/completions", "/v1/models", "/v1/audio/transcriptions"
BOM = b"\xef\xbb\xbf"
NO_LIMITS = Limiter(cast("Any", None), lambda: "", 1, None)
OPEN = Open("k", Dialect.OPENAI_CHAT, "openai", "gpt-4o", 1_700_000_000_000, True, "v1/chat/completions")


class Writer:
    """Takes records, and remembers them."""

    full = False

    def __init__(self) -> None:
        self.taken: list[tuple[int, Fields]] = []

    def put(self, shard: int, fields: Fields) -> None:
        self.taken.append((shard, fields))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path, new_boot(), limit=1000, keep=60)
    yield made
    made.close(complete=True)


def tap_of(journal: Journal, unkept: list[str] | None = None) -> Tap:
    told = None if unkept is None else lambda: unkept.append("unkept")
    return Tap(ExchangeIds(new_boot(), 2), cast("Any", Writer()), journal, unkept=told)


def asked(method: str, path: str, model: str, body: bytes, boundary: bytes | None = None) -> Asked:
    matched = match(method, path, family_of(path, {}, b""), UPSTREAMS)
    return Asked(method, matched, (choose(matched, model, UPSTREAMS),), Received(body, body, boundary=boundary))


def key(**fields: Any) -> KeyRecord:
    return KeyRecord("hash", "name", "label", 0, **fields)


class Row(NamedTuple):
    """A key, a request, and the code it is refused with; "" where it is admitted."""

    key: KeyRecord
    code: str
    model: str = "gpt-4o"
    path: str = CHAT
    method: str = "POST"
    body: bytes = b'{"model": "gpt-4o"}'
    boundary: bytes | None = None


def form(*models: str) -> bytes:
    parts = [b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF']
    parts += [b'Content-Disposition: form-data; name="model"\r\n\r\n' + model.encode() for model in models]
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


TABLE = {
    "no lists": Row(key(), ""),
    "management": Row(key(kind=Kind.MANAGEMENT), "management_key"),
    "its provider": Row(key(allowed_providers=("openai",)), ""),
    "another provider": Row(key(allowed_providers=("groq",)), "provider_not_allowed"),
    "another provider, by prefix": Row(key(allowed_providers=("openai",)), "provider_not_allowed", "groq/llama"),
    "no provider at all": Row(key(allowed_providers=()), "provider_not_allowed"),
    "its model": Row(key(allowed_models=("gpt-4o",)), ""),
    "its models": Row(key(allowed_models=("gpt-*",)), ""),
    "its model, by provider": Row(key(allowed_models=("openai/gpt-4o",)), ""),
    "another model": Row(key(allowed_models=("gpt-5",)), "model_not_allowed"),
    "two models in one body": Row(
        key(allowed_models=("gpt-4o",)), "model_not_allowed", body=b'{"model": "gpt-5", "model": "gpt-4o"}'
    ),
    "its model, and a list of others": Row(
        key(allowed_models=("gpt-4o",)), "model_not_allowed", body=b'{"model": "gpt-4o", "models": ["gpt-5"]}'
    ),
    "its model, with a byte order mark": Row(key(allowed_models=("gpt-4o",)), "", body=BOM + b'{"model": "gpt-4o"}'),
    "its model, in no JSON": Row(
        key(allowed_models=("gpt-4o",)), "model_not_allowed", body=b'{\'model\': "gpt-4o", "model": "gpt-4o"}'
    ),
    "its model, in a form": Row(key(allowed_models=("gpt-4o",)), "", path=FORMS, body=form("gpt-4o"), boundary=b"b"),
    "two models in a form": Row(
        key(allowed_models=("gpt-4o",)), "model_not_allowed", path=FORMS, body=form("gpt-4o", "x"), boundary=b"b"
    ),
    "no model at all": Row(key(allowed_models=("gpt-4o",)), "model_not_allowed", "", FORMS, body=form(), boundary=b"b"),
    "a list of models is free": Row(key(allowed_models=("gpt-4o",)), "", "", MODELS, "GET", b""),
    "but not of every provider": Row(key(allowed_providers=("groq",)), "provider_not_allowed", "", MODELS, "GET", b""),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_lists_decide(row: Row, journal: Journal) -> None:
    admission = Admission(cast("Any", None), tap_of(journal), NO_LIMITS)
    request = asked(row.method, row.path, row.model, row.body, row.boundary)
    if not row.code:
        assert admission.admit(row.key, request).key is row.key
        return
    with pytest.raises(Refused) as refused:
        admission.admit(row.key, request)
    assert (refused.value.status, refused.value.code, refused.value.headers) == (403, row.code, [])


LISTED = b'{"model": "gpt-4o", "models": ["groq/llama"], "route": "fallback"}'
# A key, what it asks for, and the models that are left for it; a string is the code that it is refused with.
SEVERAL: dict[str, tuple[KeyRecord, bytes, list[str] | str]] = {
    "no lists": (key(), b'{"model": "fast"}', ["gpt-4o", "llama"]),
    "its name": (key(allowed_models=("fast",)), b'{"model": "fast"}', ["gpt-4o", "llama"]),
    "the beginning of its name": (key(allowed_models=("fa*",)), b'{"model": "fast"}', ["gpt-4o", "llama"]),
    "one candidate": (key(allowed_models=("groq/llama",)), b'{"model": "fast"}', ["llama"]),
    "one candidate, without its provider": (key(allowed_models=("gpt-4o",)), b'{"model": "fast"}', ["gpt-4o"]),
    "another model": (key(allowed_models=("gpt-5",)), b'{"model": "fast"}', "model_not_allowed"),
    "one provider": (key(allowed_providers=("groq",)), b'{"model": "fast"}', ["llama"]),
    "its name at one provider": (
        key(allowed_models=("fast",), allowed_providers=("openai",)),
        b'{"model": "fast"}',
        ["gpt-4o"],
    ),
    "another provider": (key(allowed_providers=("azure",)), b'{"model": "fast"}', "provider_not_allowed"),
    "the name does not stand for its models elsewhere": (
        key(allowed_models=("fast",)),
        b'{"model": "gpt-4o"}',
        "model_not_allowed",
    ),
    "a list": (key(), LISTED, ["gpt-4o", "llama"]),
    "a list of which one is allowed": (key(allowed_models=("groq/*",)), LISTED, ["llama"]),
    "a list of which all are allowed": (key(allowed_models=("gpt-4o", "llama")), LISTED, ["gpt-4o", "llama"]),
    "a list of which none is": (key(allowed_models=("gpt-5",)), LISTED, "model_not_allowed"),
    "two lists": (key(allowed_models=("gpt-4o",)), LISTED[:-1] + b', "Models": ["gpt-5"]}', "model_not_allowed"),
    "a list that is not for the gateway": (
        key(allowed_models=("gpt-4o", "llama")),
        LISTED.replace(b"fallback", b"x"),
        "model_not_allowed",
    ),
}


@pytest.mark.parametrize(("key", "body", "expected"), SEVERAL.values(), ids=SEVERAL)
def test_lists_hold_for_every_candidate(
    key: KeyRecord, body: bytes, expected: list[str] | str, journal: Journal
) -> None:
    matched = match("POST", CHAT, Family.OPENAI, UPSTREAMS)
    received = Received(body, body)
    routes = plan(matched, received.flags(), UPSTREAMS, key.hash, lists=True)
    request = Asked("POST", matched, routes, received)
    admission = Admission(cast("Any", None), tap_of(journal), NO_LIMITS)
    if isinstance(expected, str):
        with pytest.raises(Refused) as refused:
            admission.admit(key, request)
        assert (refused.value.status, refused.value.code) == (403, expected)
        return
    permit = admission.admit(key, request)
    assert [route.model for route in permit.routes] == expected
    assert (permit.routes is routes) == (len(expected) == len(routes))


def test_a_name_that_cannot_be_booked_is_refused(journal: Journal) -> None:
    admission = Admission(cast("Any", None), tap_of(journal), NO_LIMITS)
    assert admission.admit(key(), asked("POST", CHAT, "m" * 256, b""))
    with pytest.raises(Refused) as refused:
        admission.admit(key(), asked("POST", CHAT, "m" * 257, b""))
    assert refused.value.status == 400


def test_lists_come_before_the_journal(journal: Journal) -> None:
    """A key that may not call a model gets 403 even where the journal is full."""
    journal.open("A.0.0", b"x" * 1000)
    admission = Admission(cast("Any", None), tap_of(journal), NO_LIMITS)
    with pytest.raises(Refused) as refused:
        admission.admit(key(allowed_models=()), asked("POST", CHAT, "gpt-4o", b""))
    assert refused.value.status == 403
    with pytest.raises(Refused) as refused:
        admission.admit(key(), asked("POST", CHAT, "gpt-4o", b""))
    assert (refused.value.status, refused.value.headers) == (503, [(b"retry-after", b"5")])


def test_an_id_that_was_not_used_is_given_back(journal: Journal) -> None:
    """Ids stay dense, whatever the journal does: a hole would be an exchange that was lost."""
    tap = tap_of(journal)
    permit = Permit(key(), tap, ())
    first = permit.open(OPEN)
    journal.open("A.0.0", b"x" * 1000)  # full
    with pytest.raises(Refused) as refused:
        permit.open(OPEN)
    assert (refused.value.status, refused.value.code) == (503, "usage_not_recorded")
    assert isinstance(refused.value.__cause__, JournalFailed)
    assert tap.ids.opened() == {first.id.boot: {0: 1, 1: 0}}


def test_where_serving_goes_first_it_is_opened_all_the_same(journal: Journal) -> None:
    unkept: list[str] = []
    tap = tap_of(journal, unkept)
    journal.open("A.0.0", b"x" * 1000)
    permit = Admission(cast("Any", None), tap, NO_LIMITS).admit(key(), asked("POST", CHAT, "gpt-4o", b""))
    opened = permit.open(OPEN)
    assert (unkept, opened.id.n, len(tap)) == (["unkept"], 0, 1)


def test_refusals_that_pass_say_when_to_come_back() -> None:
    assert [Refused(status, "x").headers for status in (429, 503)] == [[(b"retry-after", b"1")]] * 2
    assert Refused(429, "x", retry_after=30).headers == [(b"retry-after", b"30")]
    assert [Refused(status, "x").headers for status in (400, 401, 403, 404, 413, 502, 504)] == [[]] * 7


def test_a_list_of_models_in_a_request_is_under_the_limits_of_all_of_them() -> None:
    """Its writer may put one first that fails. The candidates of a named route are the operator's choice."""
    matched = match("POST", CHAT, Family.OPENAI, UPSTREAMS)
    listed = Flags(model="none", models=("gpt-4o", "groq/llama"))
    found = limited_models(plan(matched, listed, UPSTREAMS, "k", lists=True))
    assert found == [("openai", "none"), ("openai", "gpt-4o"), ("groq", "llama")]
    assert limited_models(plan(matched, Flags(model="fast"), UPSTREAMS, "k", lists=True)) == [("openai", "gpt-4o")]
