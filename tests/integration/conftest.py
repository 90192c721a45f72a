"""What several integration tests stand on."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from twofold_cli.installation import find_valkey

START_SECONDS = 10.0


class Valkey:
    """A real server with a port of its own, where it may be killed and started again, empty."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server and wait until it listens."""
        assert self._process is None
        flags = {
            "--bind": "127.0.0.1",
            "--port": str(self._port),
            "--save": "",
            "--appendonly": "no",
            "--dir": str(self._directory),
            "--logfile": "valkey.log",
        }
        binary = find_valkey()
        assert binary is not None, "scripts/install dev"
        self._process = subprocess.Popen(
            [binary, *(word for flag in flags.items() for word in flag)]
        )
        self._wait_until_it_listens(self._process)

    def kill(self) -> None:
        """End the server as a crash would: nothing is saved, no connection is closed politely."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Start an empty server where the one before was, killing that first if need be."""
        self.close()
        self.start()

    def close(self) -> None:
        if self._process is not None:
            self.kill()

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up_at:
            assert process.poll() is None, (self._directory / "valkey.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise TimeoutError(f"Valkey does not listen on port {self._port}")


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
