"""``twofold chat`` before a router that asks for an API key."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from twofold_cli.chat import RefusedError, chat
from twofold_cli.processes import ProcessId
from twofold_cli.state import ClusterState, StateDirectory


class _Router(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        question = self.rfile.read(int(self.headers["content-length"]))
        knows = self.headers["authorization"] == "Bearer tf-right"
        word = b"Paris" if b"France" in question else b"Rome"
        body = b'data: {"choices":[{"delta":{"content":"%b."}}]}\n\ndata: [DONE]\n\n' % word
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
        chat(state, "France?", key="tf-right", max_tokens=5, console=console)

    assert "Paris." in captured.get()


def test_who_has_no_key_is_told_where_it_is_taken_from(state: ClusterState) -> None:
    with pytest.raises(RefusedError, match=r"no such key; .* \$TWOFOLD_API_KEY or --api-key-file"):
        chat(state, "Where?", key=None, max_tokens=5, console=Console())
    with pytest.raises(RefusedError, match=r"no such key$"):
        chat(state, "Where?", key="tf-wrong", max_tokens=5, console=Console())


@pytest.mark.parametrize(
    ("arguments", "piped", "says", "code"),
    [
        ((), "And of Italy?\n", "Rome.", 0),
        ((), "", "Paris.", 0),
        (("Of Italy?",), "Of France?", "Rome.", 0),
        (("",), "Of France?", "twofold: the question is empty\n", 2),
    ],
)
def test_the_command_asks_what_is_piped_into_it(
    state: ClusterState,
    tmp_path: Path,
    arguments: tuple[str, ...],
    piped: str,
    says: str,
    code: int,
) -> None:
    directory = StateDirectory(tmp_path)
    environment = {"TWOFOLD_STATE_DIR": str(tmp_path), "TWOFOLD_API_KEY": "tf-right"}
    command = [sys.executable, "-m", "twofold_cli", "chat", *arguments]
    with directory.locked():
        directory.write(state)
        ended = subprocess.run(
            command,
            input=piped,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )

    assert ended.stdout.startswith(says)
    assert ended.returncode == code
