import pytest

from twofold_engine.kv_events import reachable


@pytest.mark.parametrize(
    ("endpoint", "host", "address"),
    [
        ("tcp://10.0.0.1:4711", "pod", "tcp://10.0.0.1:4711"),
        ("tcp://*:5557", "10.0.0.1", "tcp://10.0.0.1:5557"),
        ("tcp://*:5557", "fd00::1", "tcp://[fd00::1]:5557"),
        (None, "10.0.0.1", ""),
    ],
)
def test_others_find_the_events_at_the_host_of_the_worker(
    endpoint: str | None, host: str, address: str
) -> None:
    assert reachable(endpoint, host) == address
