"""Several workers behind one port: requests reach all of them, one that dies costs nothing that is booked, and signals
and metrics are those of one gateway."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as metrics

from services.cli.processes import free_port, stop
from tests.support import web
from tests.support.requests import ASKS
from tests.support.system import System

_SECONDS = 60.0  # on a machine that is busy with other things


class Several(System):
    """A system whose gateway is two workers and their parent."""

    def _begin(self) -> None:
        self.admin = f"http://127.0.0.1:{free_port(0)}"
        self.extra |= {"AROUTER_METRICS_PORT": self.admin.rpartition(":")[2]}
        super()._begin()
        self.processes.wait_for(f"{self.admin}/readyz")

    def start_gateway(self, url: str):  # type: ignore[no-untyped-def]
        port = url.rpartition(":")[2]
        return self.processes.start("gateway", "--port", port, "--workers", "2", environment=self.environment)

    def workers(self) -> dict[int, int]:
        """The process id of each worker, by its number."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = re.search(r"^PPid:\s+(\d+)$", (folder / "status").read_text(), re.MULTILINE)
                command = (folder / "cmdline").read_text().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent is not None and int(parent[1]) == self.gateway.pid and "--worker" in command:
                found[int(command[command.index("--worker") + 1].partition(",")[0])] = int(folder.name)
        return found

    def samples(self, name: str) -> dict[str, float]:
        """The values of a metric by worker."""
        found: dict[str, float] = {}
        page = web.get(f"{self.admin}/metrics").text
        for metric in metrics(page):
            for sample in metric.samples:
                if sample.name == name:
                    found[sample.labels["worker"]] = found.get(sample.labels["worker"], 0) + sample.value
        return found


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    with Several(tmp_path_factory.mktemp("several")) as running:
        yield running


def ask(system: Several, name: str = "chat", directives: str = "") -> str:
    """One exchange on a connection of its own; its id."""
    one = ASKS[name]
    answer = web.post(system.url + one.path, headers=one.headers(system.key, directives), json=one.body)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-generation-id"]


def test_requests_reach_both_and_metrics_tell_them_apart(system: Several) -> None:
    ids = [ask(system) for _ in range(40)]
    assert len({id.partition(".")[0] for id in ids}) == 2
    by_worker = system.samples("arouter_exchanges_total")
    assert set(by_worker) == {"1", "2"}
    assert sum(by_worker.values()) == len(ids)
    assert system.samples("arouter_worker_up") == {"1": 1.0, "2": 1.0}
    assert len(system.settled(ids)) == len(ids)


def test_the_metrics_are_one_valid_page(system: Several) -> None:
    ask(system)
    plain = web.get(f"{system.admin}/metrics")
    names = re.findall(r"^# TYPE (\S+) ", plain.text, re.MULTILINE)
    assert len(names) == len(set(names)), "the samples of a metric are together"
    assert plain.text.count('worker="1"') == plain.text.count('worker="2"')
    other = web.get(f"{system.admin}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert other.text.endswith("# EOF\n")
    strict = open_metrics(other.text)  # type: ignore[no-untyped-call]  # it has no types
    families = [metric.name for metric in strict]
    assert len(families) == len(set(families)) > 20


def test_a_worker_that_is_killed_costs_nothing_that_is_booked(system: Several) -> None:
    over = threading.Event()
    whole: list[str] = []
    lost: list[str] = []

    def call() -> None:
        one = ASKS["chat stream"]
        while not over.is_set():
            try:
                with web.stream(
                    "POST", system.url + one.path, headers=one.headers(system.key, "tokens=20, pace=20"), json=one.body
                ) as answer:
                    id = answer.headers["x-generation-id"]
                    lost.append(id)
                    answer.read()
                    lost.remove(id)
                    whole.append(id)
            except httpx.TransportError:
                time.sleep(0.05)

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    try:
        system.until(lambda: len(whole) > 10)
        before = system.workers()
        os.kill(before[1], signal.SIGKILL)
        system.until(lambda: system.workers().get(1) not in (None, before[1]))
        system.until(lambda: web.get(f"{system.admin}/readyz").status_code == 200)
        seen = len(whole)
        system.until(lambda: len(whole) > seen + 10)
    finally:
        over.set()
        for caller in callers:
            caller.join(_SECONDS)
    assert system.samples("arouter_worker_restarts_total") == {"1": 1.0, "2": 0.0}
    assert system.workers()[2] == before[2]
    book = system.settled([*whole, *lost])  # the orphaned journal is adopted by whoever looks first
    assert {book[id]["outcome"] for id in whole} == {"completed"}
    assert {book[id]["outcome"] for id in lost} <= {"gateway_lost"}
    assert len(book) == len(whole) + len(lost)
    emitted = system.emitted()
    assert [id for id in whole if book[id]["output_tokens"] != emitted[id]["usage"]["output_tokens"]] == []
    system.command("audit")


def test_what_runs_is_listed_of_every_worker(system: Several) -> None:
    one = ASKS["chat stream"]
    with ExitStack() as open_:
        headers = one.headers(system.key, "tokens=90000, pace=50")
        ids: list[str] = []
        while len({id.partition(".")[0] for id in ids}) < 2:
            answer = open_.enter_context(web.stream("POST", system.url + one.path, headers=headers, json=one.body))
            ids.append(answer.headers["x-generation-id"])

        def listed() -> bool:
            return {json.loads(line)["id"] for line in system.command("ps", "--json").splitlines()} >= set(ids)

        system.until(listed)


def test_sighup_reaches_every_worker(system: Several) -> None:
    assert set(system.samples("arouter_configuration_loaded_seconds")) == {"1", "2"}
    before = system.samples("arouter_configuration_reloads_total")
    os.kill(system.gateway.pid, signal.SIGHUP)

    def reloaded() -> bool:
        now = system.samples("arouter_configuration_reloads_total")
        return all(now.get(worker, 0) > before.get(worker, 0) for worker in "12")

    system.until(reloaded)
    said = system.command("reload").splitlines()
    assert [line.split()[0] for line in said] == ["gateway", "gateway", "meter"]


def test_sigterm_drains_both_and_leaves_nothing_behind(system: Several) -> None:
    ids: list[str] = []
    callers = [
        threading.Thread(target=lambda: ids.append(ask(system, "chat stream", "tokens=60, pace=30"))) for _ in range(12)
    ]
    for caller in callers:
        caller.start()
    system.until(lambda: sum(system.samples("arouter_open_streams").values()) == len(callers))
    pids = list(system.workers().values())
    system.stop(system.gateway)
    assert system.gateway.returncode == 0
    for caller in callers:
        caller.join(_SECONDS)
    assert {one["outcome"] for one in system.settled(ids).values()} == {"completed"}
    assert len(ids) == len(callers)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_workers_end_with_a_parent_that_is_killed(system: Several) -> None:
    system.gateway = system.start_gateway(system.url)
    system.processes.wait_for(f"{system.admin}/readyz")
    pids = list(system.workers().values())
    assert len(pids) == 2
    system.kill(system.gateway)
    system.until(lambda: [pid for pid in pids if Path(f"/proc/{pid}").exists()] == [])


def test_what_stops_one_gateway_stops_all_workers(system: Several) -> None:
    system.extra["AROUTER_JOURNAL_DIR"] = "/proc/none"
    gateway = system.start_gateway(f"http://127.0.0.1:{free_port(0)}")
    system.processes.forget(gateway)
    try:
        assert gateway.wait(_SECONDS) == 1
    finally:
        stop(gateway)
        del system.extra["AROUTER_JOURNAL_DIR"]
