"""What an API server was asked, as its audit log tells."""

import json
from collections import Counter
from pathlib import Path

OPERATOR_AGENTS = ("kopf/", "Python/")
"""How the operator's two clients call themselves: that of its watches, and its own (aiohttp)."""

Asked = Counter[tuple[str, str]]
"""Requests by verb and resource."""


class AuditLog:
    """Of all requests, those of the operator; a watch is one as often as it is begun."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def asked(self, since: int = 0) -> Asked:
        """Return what was asked after the first *since* bytes of the log."""
        found: Asked = Counter()
        with self._path.open("rb") as log:
            log.seek(since)
            for line in log:
                event = json.loads(line)
                # A watch is logged when it begins, and again when it ends.
                stage = "ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"
                is_operator = event.get("userAgent", "").startswith(OPERATOR_AGENTS)
                if is_operator and event["stage"] == stage:
                    resource = event.get("objectRef", {}).get("resource", "")
                    found[event["verb"], resource] += 1
        return found

    def size_bytes(self) -> int:
        return self._path.stat().st_size
