from typing import Any

import pytest

from twofold_kvtransfer.transports.sockets.settings import InvalidSocketSettingsError
from twofold_kvtransfer.transports.tcp import TcpSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""),
        ("host", "0.0.0.0"),
        ("host", "::"),
        ("port", -1),
        ("port", 65536),
        ("streams_per_pair", 0),
        ("connect_seconds", 0),
        ("idle_seconds", -1.0),
        ("max_transfers_per_pair", 0),
        ("max_accepted_streams", 0),
        ("bytes_per_second", 0.0),
    ],
)
def test_a_setting_that_cannot_work_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidSocketSettingsError, match=name):
        TcpSettings(**{name: value})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.2.3.4", "worker-1.pool"])
def test_a_host_is_an_address_or_a_name(host: str) -> None:
    assert TcpSettings(host=host).host == host
