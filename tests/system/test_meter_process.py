"""The meter's process: arq hosts it, and a Redis that goes away ends neither."""

from __future__ import annotations

import contextlib
from pathlib import Path

import redis

from services.cli.processes import free_port
from shared.runtime import embedded
from shared.runtime.settings import Settings
from tests.support import web
from tests.support.requests import ASKS
from tests.support.system import System

CHAT = ASKS["chat"]


def shut_down(client: redis.Redis) -> None:
    with contextlib.suppress(redis.ConnectionError):
        client.shutdown()


def ask(system: System) -> str:
    response = web.post(system.url + CHAT.path, headers=CHAT.headers(system.key), json=CHAT.body)
    assert response.status_code == 200, response.text
    return response.headers["x-generation-id"]


def test_stopping_arq_stops_metering(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        system.settled([ask(system)])
        system.stop(system.meter)
        assert system.meter.returncode == 0
        id = ask(system)
        system.until(system.backlog)
        assert id not in system.ledger()
        system.meter = system.start_meter()
        system.settled([id])


def test_a_redis_that_is_away_is_lag_and_no_loss(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        system.settled([ask(system)])
        client = redis.Redis.from_url(system.redis_url)
        for _ in range(2):
            shut_down(client)
            meanwhile = ask(system)  # a key that was seen lately goes on; nobody can tell what another one is
            stranger = system.key[:-1] + ("a" if system.key[-1] != "a" else "b")
            refused = web.post(system.url + CHAT.path, headers=CHAT.headers(stranger), json=CHAT.body)
            assert refused.status_code == 503
            with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)):
                system.until(lambda: web.get(f"{system.url}/readyz").status_code == 200)
                system.settled([meanwhile, ask(system)])
                assert system.meter.poll() is None
                assert system.gateway.poll() is None
            # The system itself still uses the server, so that it goes on.
            system.until(client.ping)
        client.close()


def test_a_running_stream_outlives_redis(tmp_path: Path) -> None:
    stream = ASKS["chat stream"]
    with System(tmp_path) as system:
        client = redis.Redis.from_url(system.redis_url)
        with web.stream(
            "POST",
            system.url + stream.path,
            headers=stream.headers(system.key, "tokens=100, pace=30"),
            json=stream.body,
        ) as response:
            parts = response.iter_raw()
            body = next(parts)
            shut_down(client)
            body += b"".join(parts)
        assert body.endswith(b"data: [DONE]\n\n")
        with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)):
            id = response.headers["x-generation-id"]
            entry = system.settled([id])[id]
            assert (entry["outcome"], entry["output_tokens"], entry["lost_bytes"]) == ("completed", 100, 0)
            client.close()


def test_sigterm_is_answered_while_redis_is_away(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        client = redis.Redis.from_url(system.redis_url)
        shut_down(client)
        client.close()
        system.stop(system.meter)
        assert system.meter.returncode == 0


def test_arqs_redis_may_be_away_from_the_start(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        system.stop(system.meter)
        system.extra["AROUTER_ARQ_REDIS_URL"] = f"redis://127.0.0.1:{free_port(0)}/0"
        system.meter = system.start_meter()
        system.settled([ask(system)])
        system.stop(system.meter)
        assert system.meter.returncode == 0
