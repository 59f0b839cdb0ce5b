"""A demo provider in a process of its own, whose outages a test orders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.cli.processes import Processes, free_port
from tests.support import web


class DemoProvider:
    """Listens on loopback until `processes` end. `arguments`: those of `arouter provider` beside what is set here."""

    def __init__(self, processes: Processes, folder: Path, name: str, *arguments: str) -> None:
        self.name = name
        self.emit_log = folder / f"{name}.jsonl"
        port, control = free_port(0), free_port(0)
        scheme = "https" if "--certificate" in arguments else "http"
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.control = f"http://127.0.0.1:{control}/fail"
        ports = ("--port", str(port), "--control", str(control))
        processes.start("provider", *ports, "--name", name, "--log", str(self.emit_log), *arguments)
        processes.wait_for(self.control)

    def fail(self, directives: str) -> None:
        """Begin an outage."""
        answer = web.post(self.control, content=directives)
        assert answer.status_code == 200, answer.text

    def recover(self) -> None:
        """End every outage."""
        answer = web.request("DELETE", self.control)
        assert answer.json() == {"outages": []}

    def emitted(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        whole = self.emit_log.read_text().rpartition("\n")[0]  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines()]
