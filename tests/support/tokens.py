"""The clouds' token servers on loopback: Google's token endpoint and metadata server, AWS's credentials of containers,
Azure's managed identity."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


class TokenServer:
    """Each answer has a number; `lasts` in seconds."""

    def __init__(self, lasts: int = 3600) -> None:
        self.asked: list[str] = []
        self.lasts = lasts
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.place = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.place}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str) -> dict[str, Any] | str:
        """JSON, or text, as the service behind a path answers."""
        self.asked.append(path)
        number, ends = len(self.asked), int(time.time()) + self.lasts
        expiry = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        keys = {"AccessKeyId": f"AKIA{number}", "SecretAccessKey": "secret"}
        if path == "/":  # AWS's token service
            given = "".join(f"<{name}>{value}</{name}>" for name, value in keys.items())
            given += f"<SessionToken>session</SessionToken><Expiration>{expiry}</Expiration>"
            result = f"<AssumeRoleWithWebIdentityResult><Credentials>{given}</Credentials>"
            result += "</AssumeRoleWithWebIdentityResult>"
            return f"<AssumeRoleWithWebIdentityResponse>{result}</AssumeRoleWithWebIdentityResponse>"
        if path.startswith("/latest") and not path.endswith("/role"):  # AWS's instance metadata
            return "metadata-token" if path.endswith("/token") else "role"
        if path.startswith(("/aws", "/latest")):
            return {**keys, "Code": "Success", "Token": "session", "Expiration": expiry}
        if path.startswith("/azure"):
            return {"access_token": f"azure-{number}", "expires_on": str(ends), "token_type": "Bearer"}
        if path.startswith("/computeMetadata") and "token" not in path:
            return {"email": "tests@demo", "scopes": [], "aliases": ["default"]}
        issued = {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
        return {"access_token": f"google-{number}", "expires_in": self.lasts, "token_type": "Bearer", **issued}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = server.answer(self.path)
                body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("metadata-flavor", "Google")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PUT = do_GET  # noqa: N815  # http.server's names

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        return Handler


def service_account(folder: Path, token_url: str) -> Path:
    """A file with the key of a service account."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    account = {
        "type": "service_account",
        "project_id": "demo",
        "private_key": key.private_bytes(serialization.Encoding.PEM, kind, plain).decode(),
        "private_key_id": "1",
        "client_email": "tests@demo.iam.gserviceaccount.com",
        "token_uri": token_url,
    }
    path = folder / "account.json"
    path.write_text(json.dumps(account))
    return path
