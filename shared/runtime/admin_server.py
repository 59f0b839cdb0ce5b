"""The admin server of a process: /metrics, /healthz and /readyz on a port of their own, for Prometheus and Kubernetes.

A thread serves it, so that it answers while the event loop is busy, and can say that the loop hangs (decision 22).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

log = logging.getLogger(__name__)

Probe = Callable[[], list[str]]
"""The reasons against; an empty list is a yes."""


@contextmanager
def watched(host: str, port: int, registry: CollectorRegistry, *, healthy: Probe, ready: Probe) -> Iterator[None]:
    """Serve while the block runs. Nothing is served where `port` is 0, or is taken: that must not stop the process."""
    try:
        server = make_server(host, port, _app(registry, healthy, ready), _Server, _Silent) if port else None
    except OSError as exc:
        log.error("no metrics and probes: cannot listen on %s:%d: %s", host, port, exc.strerror)  # noqa: TRY400
        server = None
    if server is None:
        yield
        return
    thread = threading.Thread(target=server.serve_forever, name="admin server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _app(registry: CollectorRegistry, healthy: Probe, ready: Probe) -> Callable[..., Iterable[bytes]]:
    metrics = make_wsgi_app(registry)
    probes = {"/healthz": healthy, "/readyz": ready}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)  # type: ignore[no-any-return]
        probe = probes.get(path)
        reasons = probe() if probe else ["the paths here are /metrics, /healthz and /readyz"]
        status = "404 Not Found" if probe is None else "503 Service Unavailable" if reasons else "200 OK"
        start_response(status, [("content-type", "application/json")])
        return [json.dumps({"ok": not reasons, "reasons": reasons}).encode()]

    return app


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without the name lookup of HTTPServer, which may hang where DNS does
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Silent(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a probe comes every few seconds."""
