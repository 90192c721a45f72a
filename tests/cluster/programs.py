"""What the operator has pods run, as processes beside the tests.

The arguments are those that the operator wrote. What is rewritten is where they listen, since all
share one address here, and what ``python`` is.
"""

import os
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twofold_operator.planning import names

from .control_plane import free_ports, tied

END_SECONDS = 120.0
ASK_SECONDS = 5.0
LOOPBACK = "127.0.0.1"
Manifest = dict[str, Any]
SecretKey = Callable[[str, str], str]
"""Returns what a Secret holds under a key."""


class Program:
    """The process of one container, which listens on *port* of *address*."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", address: str, port: int, path: str | None
    ) -> None:
        self._process = process
        self.address = address
        self.port = port
        self._path = path

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def is_ready(self) -> bool:
        """Ask as the readiness probe does: a path of HTTP, or whether somebody listens."""
        if self.has_ended:
            return False
        try:
            if self._path is None:
                socket.create_connection((self.address, self.port), ASK_SECONDS).close()
                return True
            with urllib.request.urlopen(self.url + self._path, timeout=ASK_SECONDS):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def terminate(self) -> None:
        self._process.terminate()

    def wait_or_kill(self) -> None:
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Programs:
    """Starts programs, whose logs are in *directory*, and sees them off."""

    def __init__(self, directory: Path, secret: SecretKey) -> None:
        self._directory = directory
        self._secret = secret
        self._ending: list[threading.Thread] = []

    def start(
        self, name: str, container: Manifest, path: str | None, address: str = LOOPBACK
    ) -> Program:
        """Start what *container* says; it is ready when *path* answers, or when it listens."""
        (port,) = free_ports(1)
        words = [sys.executable if word == "python" else word for word in container["command"]]
        words += [_here(word, address, port) for word in container["args"]]
        if container["name"] == "pools":
            words.append(f"--log-dir={self._directory / 'workers'}")
        environment = {each["name"]: self._value(each) for each in container["env"]}
        with (self._directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                tied(words),
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return Program(process, address, port, path)

    def end(self, program: Program, ended: Callable[[], object] = lambda: None) -> None:
        """Send SIGTERM, and give it the time that its pod has, without waiting here."""
        program.terminate()

        def see_off() -> None:
            program.wait_or_kill()
            ended()

        thread = threading.Thread(target=see_off)
        thread.start()
        self._ending.append(thread)

    def close(self) -> None:
        """Wait for all that end."""
        for thread in self._ending:
            thread.join()

    def _value(self, variable: Manifest) -> str:
        if "value" in variable:
            # Of a volume of the pod's own.
            return re.sub("^/scratch", str(self._directory), variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        return self._secret(reference["name"], reference["key"])


def _here(word: str, address: str, port: int) -> str:
    """Return an argument as it must be where pods have no address of their own."""
    word = re.sub(rf"0\.0\.0\.0:{names.POOLS_PORT}$", f"{address}:{port}", word)
    word = re.sub(rf"^--port={names.ROUTER_PORT}$", f"--port={port}", word)
    return f"--host={address}" if word == "--host=" else word
