"""Webhooks on a real Redis and to a real receiver: nothing is lost, everything is bounded, nobody waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from services.meter.settle import Ledger, Settlement
from services.sinks.posting import Poster
from services.sinks.webhooks import follower
from services.sinks.webhooks.follower import DELAYS, Deliveries, Outgoing
from services.sinks.webhooks.queue import NoSuchMessage, Queue, known
from services.sinks.webhooks.settings import WebhookSettings
from shared.access import keys
from shared.books import followers, quarantine
from shared.books.follow import Follower
from shared.contract import names
from shared.contract.events import EventType
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import StreamEntry
from shared.contract.webhooks import Message
from shared.runtime.errors import Overtaken, SinkUnavailable
from shared.runtime.store import Store
from tests.support.entries import entry
from tests.support.receiver import Receiver, receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_700_000_000.0
BOOT = new_boot()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def webhook(receiver: Receiver, name: str = "mine", **given: Any) -> WebhookSettings:
    return WebhookSettings(**{"url": f"{receiver.url}/hook?key=to-ken", "name": name, "secret": SECRET, **given})


def message(n: int = 0) -> Message:
    return Message(f"evt_{n}", EventType.KEY_CREATED, n, b'{"n":%d}' % n)


@asynccontextmanager
async def outgoing(redis: Store, receiver: Receiver) -> AsyncIterator[Outgoing]:
    found = Outgoing(Queue(redis, "mine"), webhook(receiver), now=lambda: NOW, jitter=lambda: 0.5)
    yield found
    await found.close()


async def due_again(redis: Store, queue: Queue) -> float:
    """Seconds until the only message is due; it is made due now."""
    due: float
    [(id, due)] = await redis.zrange(names.webhook_due(queue.name), 0, -1, withscores=True)
    seconds, micros = await redis.time()
    await redis.zadd(names.webhook_due(queue.name), {id: 0})
    return float(due / 1000 - int(seconds) - int(micros) / 1e6)


async def book(redis: Store, n: int) -> str:
    id = ExchangeId(BOOT, 0, n)
    await Ledger(redis).settle([Settlement(id, entry(id), [])])
    return str(id)


async def test_a_message_is_sent_once_and_verifies(redis: Store, receiver: Receiver) -> None:
    async with outgoing(redis, receiver) as sending:
        assert await sending.queue.put([message(1), message(2), message(1)]) == 2
        assert await sending.deliver() == 2
        assert await sending.deliver() == 0
    assert sorted(one.headers["webhook-id"] for one in receiver.got) == ["evt_1", "evt_2"]
    for one in receiver.got:
        signed = Webhook(SECRET).sign(one.headers["webhook-id"], datetime.fromtimestamp(NOW, UTC), one.body.decode())
        assert one.headers["webhook-signature"] == signed
        assert (one.path, one.headers["webhook-timestamp"]) == ("/hook?key=to-ken", str(int(NOW)))
    state = await sending.queue.state()
    assert (state.waiting, state.sent, state.dead) == (0, 2, [])


async def test_a_message_is_tried_again_later_and_later_and_then_given_up(
    redis: Store, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [500]
    async with outgoing(redis, receiver) as sending:
        await sending.queue.put([message()])
        for delay in DELAYS:
            assert await sending.deliver() == 1
            assert await due_again(redis, sending.queue) == pytest.approx(delay, abs=2)
        assert await sending.deliver() == 1
        assert await sending.deliver() == 0
        state = await sending.queue.state()
        [(_, letter)] = state.dead
        assert (letter.attempts, letter.error, state.waiting) == (len(DELAYS) + 1, "500", 0)
        assert {one.headers["webhook-id"] for one in receiver.got} == {"evt_0"}
        receiver.answers = [200]
        with pytest.raises(NoSuchMessage, match="'evt_1'"):
            await sending.queue.resend(["evt_1"])
        assert await sending.queue.resend() == 1
        assert await sending.deliver() == 1
        assert (await sending.queue.state()).dead == []
    assert receiver.got[-1].headers["webhook-id"] == "evt_0", "it is the same message"
    assert "to-ken" not in caplog.text


@pytest.mark.parametrize(
    ("status", "headers", "delay"),
    [
        (503, {"retry-after": "120"}, 120),
        (429, {"retry-after": "86400"}, 3600),
        (503, {"retry-after": "1"}, DELAYS[0]),
        (302, {"location": "http://127.0.0.1:9/"}, DELAYS[0]),
        (400, {}, DELAYS[0]),
    ],
)
async def test_a_receiver_is_left_alone_for_as_long_as_it_asks(
    redis: Store, receiver: Receiver, status: int, headers: dict[str, str], delay: float
) -> None:
    receiver.answers, receiver.headers = [status], headers
    async with outgoing(redis, receiver) as sending:
        await sending.queue.put([message()])
        await sending.deliver()
        assert await due_again(redis, sending.queue) == pytest.approx(delay, abs=2)
        assert (await sending.queue.state()).failing == str(status)
    assert len(receiver.got) == 1


async def test_a_receiver_that_is_gone_for_good_is_not_tried_again(redis: Store, receiver: Receiver) -> None:
    receiver.answers = [410]
    async with outgoing(redis, receiver) as sending:
        await sending.queue.put([message()])
        await sending.deliver()
        assert [letter.error for _, letter in (await sending.queue.state()).dead] == ["410"]


async def test_one_that_does_not_answer_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.silent.set()
    poster = Poster(f"{receiver.url}/to-ken", seconds=0.2)
    with pytest.raises(SinkUnavailable, match=r"^no answer within 0.2 s$"):
        await poster.post(b"{}", {})
    await poster.close()
    for odd in ("http://127.0.0.1:99999/to-ken", "http://xn--zzzz--/to-ken"):  # the second one looks like a host
        with pytest.raises(SinkUnavailable) as nowhere:
            await Poster(odd).post(b"", {})
        assert "to-ken" not in str(nowhere.value)
    refused = Poster("http://127.0.0.1:1/to-ken")
    with pytest.raises(SinkUnavailable, match=r"^ConnectError$"):
        await refused.post(b"{}", {})
    await refused.close()


async def test_what_a_process_dies_with_is_taken_by_another(redis: Store) -> None:
    queue = Queue(redis, "mine")
    await queue.put([message()])
    assert await queue.take(8) == [message()]
    assert await queue.take(8) == [], "it is on its way"
    await due_again(redis, queue)
    assert await Queue(redis, "mine").take(8) == [message()]
    await queue.sent(message())
    await queue.again(message(), 0)  # by the one that was only slow
    assert await queue.take(8) == []


async def test_a_queue_is_bounded_and_says_what_it_lost(redis: Store) -> None:
    queue = Queue(redis, "mine", most_waiting=3, most_dead=2)
    await queue.put([message(n) for n in range(4)])
    await queue.put([message(n) for n in range(3, 7)])
    state = await queue.state()
    assert (state.waiting, [letter.id for _, letter in state.dead], state.lost) == (3, ["evt_5", "evt_6"], 2)
    assert {letter.error for _, letter in state.dead} == {""}, "there was no room"
    await queue.dead(message(0))
    state = await queue.state()
    assert (state.waiting, [letter.id for _, letter in state.dead], state.lost) == (2, ["evt_6", "evt_0"], 3)
    assert await redis.hlen(names.webhook_messages("mine")) == 4  # type: ignore[misc]


async def test_nothing_is_left_of_a_webhook_that_is_forgotten(redis: Store) -> None:
    queue = Queue(redis, "mine", most_waiting=1)
    await queue.register()
    await queue.put([message(n) for n in range(3)])
    await queue.sent(message(0))
    assert await known(redis) == ["mine"]
    await queue.forget()
    assert await redis.keys() == []


async def test_the_ledger_is_told_from_the_present_on_whatever_becomes_of_a_receiver(redis: Store) -> None:
    await book(redis, 0)
    dead = WebhookSettings(url="http://127.0.0.1:1", name="dead", secret=SECRET)  # type: ignore[arg-type]
    rare = WebhookSettings(url="http://127.0.0.1:1", name="rare", secret=SECRET, events=("key.created",))  # type: ignore[arg-type]
    sink = follower.sink(redis, [dead, rare])
    await followers.register(redis, sink.name)
    following = Follower(redis, sink, back_ms=60_000)
    assert await following.round([0]) == 0, "what is over is not told"
    wanted = [await book(redis, n) for n in (1, 2)]
    assert await following.round([0]) == 2
    taken = await Queue(redis, "dead").take(8)
    assert sorted(id for one in taken for id in wanted if id.encode() in one.body) == sorted(wanted)
    assert await Queue(redis, "rare").take(8) == []
    again = Follower(redis, follower.sink(redis, [dead, rare]), back_ms=60_000)
    assert await again.round([0]) == 0
    await book(redis, 3)
    await again.round([0])
    with pytest.raises(Overtaken):
        await book(redis, 4)
        await following.round([0])


async def test_events_reach_every_webhook_that_wants_them_once(redis: Store, receiver: Receiver) -> None:
    await keys.create(redis, b"a pepper of the tests", "before")
    settings = [webhook(receiver, "keys", events=["key.created", "key.changed"]), webhook(receiver, "all")]
    deliveries = [Deliveries(redis, settings) for _ in range(2)]
    assert [await one.read_events() for one in deliveries] == [0, 0]
    _, record = await keys.create(redis, b"a pepper of the tests", "me")
    await keys.update(redis, record.hash, {"disabled": True})
    held = StreamEntry(b"1-0", {b"x": b"01K.0.1", b"s": b"0", b"r": b"?"})
    for _ in range(2):  # a meter that does it again
        await quarantine.hold(redis, 0, [held], "not JSON: 'my diary'")
    assert [await one.read_events() for one in deliveries] == [3, 0]
    got = {name: await Queue(redis, name).take(8) for name in ("keys", "all")}
    types = {name: sorted(one.type for one in found) for name, found in got.items()}
    both = ["key.changed", "key.created"]
    assert types == {"keys": both, "all": ["exchange.quarantined", *both]}
    assert not any(b"diary" in one.body for one in got["all"])
    changed = next(one for one in got["keys"] if one.type == "key.changed")
    assert b'"changed":["disabled"]' in changed.body


async def test_a_receiver_that_hangs_holds_no_other(redis: Store, receiver: Receiver) -> None:
    with receiving() as hanging:
        hanging.silent.set()
        stopping = asyncio.Event()
        running = Deliveries(redis, [webhook(hanging, "hangs"), webhook(receiver, "fine")])
        task = asyncio.get_running_loop().create_task(running.run(stopping))
        for name in ("hangs", "fine"):
            await Queue(redis, name).put([message(n) for n in range(20)])
        await _until(lambda: len(receiver.got) == 20 and len(hanging.got) == 8)
        stopping.set()
        hanging.ending.set()  # its connections break, and nothing is waited for any longer
        await task
        assert (await Queue(redis, "hangs").state()).waiting == 20
        assert (await Queue(redis, "fine").state()).sent == 20


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)
