"""Faults of the followers that post to receivers, and of these: webhooks, and a collector of OpenTelemetry."""

from __future__ import annotations

import json
import time
from functools import partial

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.sinks.otlp.spans import place
from shared.contract import names
from shared.contract.events import EventType, event_id
from tests.faults.harness import Broken, Expectation, Unmet
from tests.support.receiver import Posted, Receiver, receiving
from tests.support.system import SHARDS

_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_FOLLOWERS = ("webhook", "otlp")


def receivers_away(system: Broken) -> Expectation:
    """Receivers answer errors and then nothing at all, and kill -9 of those who post to them: every revision arrives,
    perhaps more than once, and always under the same id."""
    receiver = system.enter(receiving())
    webhook = {"url": f"{receiver.url}/hook", "secret": _SECRET, "events": [EventType.EXCHANGE_BOOKED]}
    system.extra["AROUTER_WEBHOOKS"] = json.dumps([webhook])
    system.extra["AROUTER_OTLP_ENDPOINT"] = receiver.url
    followers = {name: system.start_follower(name) for name in _FOLLOWERS}
    for name in _FOLLOWERS:  # from here on they miss nothing
        system.until(partial(_begun, system, name))
    with system.load():
        for trouble in range(4):
            time.sleep(system.rng.uniform(1.0, 2.0))
            receiver.answers = [503 if trouble % 2 else 200]
            for name, follower in followers.items():
                system.kill(follower)
                followers[name] = system.start_follower(name)
        receiver.silent.set()
        time.sleep(3)
        receiver.silent.clear()
        receiver.answers = [200]
    system.until(lambda: _booked(system) and not _missing(system, receiver))
    _nothing_else(system, receiver)
    return Expectation()


def _begun(system: Broken, name: str) -> bool:
    """Whether a follower has begun with every shard."""
    return all(system.redis.exists(names.follow(shard, name)) for shard in range(SHARDS))


def _booked(system: Broken) -> list[tuple[str, int]]:
    """Every exchange and revision of the ledger."""
    return [
        (fields[b"x"].decode(), int(fields[b"revision"]))
        for shard in range(SHARDS)
        for _, fields in system.redis.xrange(names.ledger(shard))  # type: ignore[union-attr]
    ]


def _messages(got: list[Posted]) -> set[str]:
    return {one.headers["webhook-id"] for one in got if one.path == "/hook"}


def _spans(got: list[Posted]) -> set[bytes]:
    requests = [ExportTraceServiceRequest.FromString(one.body) for one in got if one.path == "/v1/traces"]
    return {
        span.span_id
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def _missing(system: Broken, receiver: Receiver) -> int:
    """How many messages and spans have not arrived."""
    got, booked = list(receiver.taken), _booked(system)
    messages = {event_id(EventType.EXCHANGE_BOOKED, f"{id} {revision}") for id, revision in booked}
    spans = {place(id, "").span for id, _ in booked}
    return len(messages - _messages(got)) + len(spans - _spans(got))


def _nothing_else(system: Broken, receiver: Receiver) -> None:
    """Unmet where something arrived under an id of its own."""
    got, booked = list(receiver.taken), _booked(system)
    messages = _messages(got) - {event_id(EventType.EXCHANGE_BOOKED, f"{id} {revision}") for id, revision in booked}
    spans = _spans(got) - {place(id, "").span for id, _ in booked}
    if messages or spans:
        raise Unmet(f"{len(messages)} messages and {len(spans)} spans are of nothing that is booked")
