"""``twofold chat`` before a router that asks for an API key."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.console import Console

from twofold_cli.chat import RefusedError, chat
from twofold_cli.processes import ProcessId
from twofold_cli.state import ClusterState


class _Router(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        knows = self.headers["authorization"] == "Bearer tf-right"
        body = b'data: {"choices":[{"delta":{"content":"Paris."}}]}\n\ndata: [DONE]\n\n'
        if not knows:
            body = b'{"error":{"message":"no such key"}}'
        self.send_response(200 if knows else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def state() -> Iterator[ClusterState]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Router) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield ClusterState(
            supervisor=ProcessId(1, 2.0),
            mark="abc",
            service="local",
            model="m",
            served_name="m",
            host="127.0.0.1",
            port=server.server_port,
            redis_url="",
            grpc_address="",
            started_at=0.0,
        )
        server.shutdown()
        thread.join()


def test_a_question_carries_the_users_key(state: ClusterState) -> None:
    console = Console()
    with console.capture() as captured:
        chat(state, "Where?", key="tf-right", max_tokens=5, console=console)

    assert "Paris." in captured.get()


def test_who_has_no_key_is_told_where_it_is_taken_from(state: ClusterState) -> None:
    with pytest.raises(RefusedError, match=r"no such key; .* \$TWOFOLD_API_KEY or --api-key-file"):
        chat(state, "Where?", key=None, max_tokens=5, console=Console())
    with pytest.raises(RefusedError, match=r"no such key$"):
        chat(state, "Where?", key="tf-wrong", max_tokens=5, console=Console())
