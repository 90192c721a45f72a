import json
from pathlib import Path

import pytest
from benchmarks.audit import AuditLog


def _line(verb: str, stage: str = "ResponseComplete", agent: str = "kopf/1.0") -> str:
    event = {"verb": verb, "stage": stage, "userAgent": agent, "objectRef": {"resource": "pods"}}
    return f"{json.dumps(event)}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def test_a_watch_counts_when_it_begins(path: Path) -> None:
    path.write_text(_line("watch", "ResponseStarted") + _line("watch") + _line("watch"))

    assert AuditLog(path).asked() == {("watch", "pods"): 1}


def test_others_requests_do_not_count(path: Path) -> None:
    ours = _line("list", agent="Python/3.11 aiohttp/3.13")
    path.write_text(ours + _line("list", agent="python-httpx/0.28") + _line("get", agent="etcd"))

    assert AuditLog(path).asked() == {("list", "pods"): 1}


def test_what_was_asked_before_does_not_count(path: Path) -> None:
    path.write_text(_line("get"))
    log = AuditLog(path)
    since = log.size_bytes()
    with path.open("a") as more:
        more.write(_line("patch"))

    assert log.asked(since) == {("patch", "pods"): 1}
