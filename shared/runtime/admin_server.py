"""The admin server of a process: /metrics, /healthz and /readyz on a port of their own, for Prometheus and Kubernetes.

A thread serves it, so that it answers while the event loop is busy, and can say that the loop hangs (decision 22).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socket import AF_INET, socket
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from prometheus_client import CollectorRegistry, make_wsgi_app

from shared.runtime.sockets import bound

log = logging.getLogger(__name__)

_STOP_SECONDS = 5.0  # a name server may take longer to say where to listen

Probe = Callable[[], list[str]]
"""The reasons against; an empty list is a yes."""


@contextmanager
def watched(
    host: str,
    port: int,
    registry: CollectorRegistry,
    *,
    healthy: Probe,
    ready: Probe,
    again: float = 5.0,
    listener: socket | None = None,
) -> Iterator[None]:
    """Serve while the block runs; nothing where `port` is 0. A port that is taken does not stop the process: it is
    tried again, every `again` seconds. `listener`: a bound socket, in place of host and port."""
    if not port and listener is None:
        yield
        return
    serving = _Serving(host, port, _app(registry, healthy, ready), again, listener)
    serving.start()
    try:
        yield
    finally:
        serving.stop()


class _Serving(threading.Thread):
    """Serves as soon as the port is free, until `stop`."""

    def __init__(
        self, host: str, port: int, app: WSGIApplication, again: float, listener: socket | None = None
    ) -> None:
        super().__init__(name="admin server", daemon=True)
        self._address = host, port
        self._app = app
        self._again = again
        self._listener = listener
        self._server: WSGIServer | None = None
        self._lock = threading.Lock()  # held to begin, and to end
        self._stopped = threading.Event()

    def run(self) -> None:
        waited = False
        while not self._stopped.is_set():
            try:
                server = _Server(*self._address, self._app, self._listener)
            except OSError as exc:
                if not waited:
                    log.error("no metrics and probes yet: cannot listen on %s:%d: %s", *self._address, exc.strerror)  # noqa: TRY400
                waited = True
                self._stopped.wait(self._again)
                continue
            if waited:
                log.info("metrics and probes are served on %s:%d now", *self._address)
            with server:
                self._serve(server)

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
        if self._server is not None:
            self._server.shutdown()
        self.join(_STOP_SECONDS)

    def _serve(self, server: WSGIServer) -> None:
        with self._lock:
            if self._stopped.is_set():
                return
            self._server = server
        server.serve_forever()


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
        headers = [("content-type", "application/json")]
        if status.startswith("503"):
            headers.append(("retry-after", "1"))
        start_response(status, headers)
        return [json.dumps({"ok": not reasons, "reasons": reasons}).encode()]

    return app


class _Server(ThreadingMixIn, WSGIServer):
    """A server on one address of a host. OSError where it cannot listen."""

    daemon_threads = True

    def __init__(self, host: str, port: int, app: WSGIApplication, listener: socket | None = None) -> None:
        # A name may have addresses of both families; the probes of a machine's own use IPv4.
        found = [listener] if listener is not None else bound(host, port)
        first, *others = sorted(found, key=lambda one: one.family != AF_INET)
        for one in others:
            one.close()
        TCPServer.__init__(self, (host, port), _Silent, bind_and_activate=False)
        self.socket.close()
        self.socket = first
        # Without the name lookup of HTTPServer, which may hang where DNS does.
        self.server_address = first.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()
        self.set_app(app)
        try:
            self.server_activate()
        except OSError:
            self.server_close()
            raise


class _Silent(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a probe comes every few seconds."""
