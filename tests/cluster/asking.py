"""Who asks a service something."""

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from .standins import Entrance

CHAT_SECONDS = 90.0
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Door:
    """Where a service is entered, and how one is let in."""

    url: Callable[[], str]
    """Returns what stands before ``/v1``, and is asked before each request."""
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    """None: whoever answers is trusted."""

    @classmethod
    def of_service(cls, entrance: Entrance, namespace: str, service: str) -> Self:
        """Return the API server's way to a ready pod behind the port ``http`` of a Service.

        The names of a cluster, and its pods' addresses, are of no use outside of it.
        """
        path = f"/api/v1/namespaces/{namespace}/services/{service}:http/proxy"
        return cls(lambda: entrance.server + path, entrance.headers, entrance.tls)

    def chat(self, question: str, **more: Any) -> httpx.Response:
        """Ask for a few words of the model ``sim``."""
        messages = [{"role": "user", "content": question}]
        return httpx.post(
            f"{self.url()}/v1/chat/completions",
            json={"model": "sim", "messages": messages, "max_tokens": 4, **more},
            headers=dict(self.headers),
            verify=self.tls or False,
            timeout=CHAT_SECONDS,
        )


class Asking:
    """Somebody who asks the same all the time."""

    def __init__(self, door: Door, question: str) -> None:
        self._door = door
        self._question = question
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.statuses: list[int] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            self.statuses.append(self._door.chat(self._question).status_code)


def events(answer: httpx.Response) -> list[str]:
    """Return the data of a stream's events (server-sent events)."""
    return [
        line.removeprefix("data: ")
        for line in answer.text.splitlines()
        if line.startswith("data: ")
    ]
