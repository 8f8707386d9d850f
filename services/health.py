"""Whether a container lives and is ready, over TLS, as the manifests probe it.

The certificate is made when the process starts and is known to nobody: probes and the load balancer encrypt
and do not ask who answers. What is served says nothing that a stranger must not know.
"""

from __future__ import annotations

import json
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from qis.adapters.self_signed import self_signed


@contextmanager
def serving(address: str, port: int, ready: Callable[[], bool]) -> Iterator[int]:
    """Answer ``/health`` (the process answers) and ``/ready`` (it does its work) while the block runs.

    Yields:
        The port, for who asked for any with 0.
    """
    server = ThreadingHTTPServer((address, port), _handler(ready))
    server.daemon_threads = True
    server.socket = _certified().wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(ready: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Two paths; everything else is not found."""

        timeout = 5
        """Of seconds; who connects and says nothing is sent away."""

        def do_GET(self) -> None:
            known = {"/health": lambda: True, "/ready": ready}
            asked = known.get(self.path)
            status = 404 if asked is None else 200 if asked() else 503
            body = json.dumps({"status": {200: "ok", 404: "not found", 503: "not ready"}[status]}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come each few seconds and are not worth a line."""

    return Handler


def _certified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.TemporaryDirectory() as folder:  # the standard library reads keys from files only
        path = Path(folder) / "key.pem"
        path.touch(mode=0o600)
        path.write_bytes(b"".join(self_signed("qis", days=3650)))
        context.load_cert_chain(path)
    return context
