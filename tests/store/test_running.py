"""What running processes say of themselves, in a real Redis."""

from __future__ import annotations

from shared.books import boots, running
from shared.books.boots import BootState
from shared.contract import names
from shared.contract.provider_state import ProviderState
from shared.contract.running import GatewayState, Reloaded, Result, Service, encode
from shared.runtime.store import Store

BOOT, OTHER = "A" * 26, "B" * 26
STATE = GatewayState("host", 1, "digest", providers=(ProviderState("openai", ("openai_chat",)),))


async def test_a_heartbeat_takes_the_state_along_and_brings_back_the_number(redis: Store) -> None:
    opened = {BOOT: {0: 1}}
    heard = await boots.heartbeat(redis, opened, BootState.LIVE, {BOOT: encode(STATE)})
    assert heard == (False, 0, 0, ())
    assert await running.gateways(redis) == {BOOT: STATE}
    assert await running.ask_reload(redis) == 1
    assert await boots.heartbeat(redis, opened, BootState.LIVE, {BOOT: b""}) == (True, 1, 0, ())  # nothing is new
    assert await running.gateways(redis) == {BOOT: STATE}
    assert 0 < await redis.pttl(names.gateway(BOOT)) <= names.BOOT_TTL_MS
    await boots.heartbeat(redis, opened, BootState.LEFT)
    assert await running.gateways(redis) == {}
    assert not await redis.exists(names.gateway(BOOT))


async def test_who_is_asked_and_who_has_answered(redis: Store) -> None:
    assert await running.processes(redis) == {}
    for boot, state in ((BOOT, BootState.LIVE), (OTHER, BootState.LIVE), (OTHER, BootState.LEFT)):
        await boots.heartbeat(redis, {boot: {}}, state)
    now_ms = int((await redis.time())[0]) * 1000
    await redis.zadd(names.METERS, {"M": now_ms, "gone": now_ms - names.METER_TTL_MS - 2000})
    assert await running.processes(redis) == {BOOT: Service.GATEWAY, "M": Service.METER}
    number = await running.ask_reload(redis)
    assert number == await running.last_reload(redis) == 1
    assert await running.reloaded(redis, number) == {}
    answer = Reloaded(Service.METER, Result.REFUSED, "host", "it is wrong")
    await running.note_reload(redis, number, "M", answer)
    assert await running.reloaded(redis, number) == {"M": answer}
    assert await running.reloaded(redis, number + 1) == {}
    assert 0 < await redis.ttl(names.reloaded(number)) <= names.RELOADED_TTL_S


async def test_what_a_later_version_says_is_passed_over(redis: Store) -> None:
    await boots.heartbeat(redis, {BOOT: {}}, BootState.LIVE, {BOOT: b'{"loaded": "otherwise"}'})
    await boots.heartbeat(redis, {OTHER: {}}, BootState.LIVE)  # of an earlier one
    assert await running.gateways(redis) == {}
