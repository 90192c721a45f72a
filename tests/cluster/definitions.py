"""A way for kubectl to the server of custom resources, which does not say what groups it has."""

import http.server
import json
import ssl
import threading
import urllib.error
import urllib.request
from typing import Any, Self

_VERSION = {"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"}
GROUP = {"name": "apiextensions.k8s.io", "versions": [_VERSION], "preferredVersion": _VERSION}
DISCOVERY: dict[str, dict[str, Any]] = {
    "/api": {"kind": "APIVersions", "versions": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [GROUP]},
}
"""What the API server in front of it would answer."""

PASSED_ON = ("Accept", "Content-Type")


class Entry:
    """Between enter and exit passes on what it is asked, as the user of *token*."""

    def __init__(self, server: str, token: str) -> None:
        unverified = ssl._create_unverified_context()

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                found = DISCOVERY.get(self.path.partition("?")[0])
                if found is not None:
                    self.send(200, "application/json", json.dumps(found).encode())
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
                request = urllib.request.Request(
                    server + self.path,
                    body or None,
                    {**headers, "Authorization": f"Bearer {token}"},
                    method=self.command,
                )
                try:
                    told = urllib.request.urlopen(request, timeout=60, context=unverified)
                except urllib.error.HTTPError as error:
                    told = error
                with told:
                    self.send(told.status, told.headers["Content-Type"], told.read())

            def send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            do_GET = do_PATCH = do_POST = do_PUT = answer  # noqa: N815 as http.server calls them

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
