import dataclasses
from typing import Any

import pytest
from tests.unit.kvtransfer.parallel_configs import FOUR, Parallel

from twofold_kvtransfer import ConnectorSettings, TransferSettings, connector_config
from twofold_kvtransfer.settings import (
    CompressionName,
    InvalidTransferSettingsError,
    service_address,
    side_channel_address,
)

OWN = ConnectorSettings(host="10.0.0.1", port=5600, service_port=5601)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (TransferSettings("w:1", connector="twofold", own=OWN), "10.0.0.1:5601"),
        (
            TransferSettings("w:1", connector="twofold", own=dataclasses.replace(OWN, host="::1")),
            "[::1]:5601",
        ),
        (
            TransferSettings(
                "w:1", connector="twofold", own=dataclasses.replace(OWN, service_port=None)
            ),
            "",
        ),
        (TransferSettings("w:1", connector="nixl"), ""),
    ],
)
def test_an_engine_tells_of_its_peers_where_its_connector_was_told_to(
    settings: TransferSettings, address: str
) -> None:
    config = connector_config(settings)

    assert service_address(config["kv_connector_extra_config"]) == address


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (TransferSettings("w:1", connector="twofold", own=OWN), "10.0.0.1:5600"),
        (
            TransferSettings("w:1", connector="twofold", own=dataclasses.replace(OWN, host="::1")),
            "[::1]:5600",
        ),
        (TransferSettings("w:1", connector="nixl"), ""),
    ],
)
def test_peers_ask_for_blocks_at_the_side_channel_of_our_connector_only(
    settings: TransferSettings, address: str
) -> None:
    own = connector_config(settings)["kv_connector_extra_config"]

    assert side_channel_address(own, Parallel(), caches_prefixes=True) == address
    assert side_channel_address(own, Parallel(), caches_prefixes=False) == ""


@pytest.mark.parametrize(
    ("parallel", "compression", "announces"),
    [
        (Parallel(), "off", True),
        (Parallel(), "lossless", True),
        (Parallel(), "int8", False),
        (FOUR, "off", True),
        (FOUR, "int8", False),
        (dataclasses.replace(FOUR, world_size=8), "off", False),
    ],
)
def test_an_engine_whose_ranks_see_no_cache_or_with_lossy_blocks_shares_no_prefixes(
    parallel: Parallel, compression: CompressionName, announces: bool
) -> None:
    own = dataclasses.replace(OWN, transport="tcp", compression=compression)
    config = connector_config(TransferSettings("w:1", connector="twofold", own=own))

    own_config = config["kv_connector_extra_config"]
    address = side_channel_address(own_config, parallel, caches_prefixes=True)
    assert bool(address) == announces


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(InvalidTransferSettingsError, match=f"10.0.0.1:{port}"):
        dataclasses.replace(OWN, service_port=port)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compression": "zip", "transport": "tcp"}, "compression is zip"),
        ({"compression": "int8"}, "compression int8 needs transport tcp, not nixl"),
        ({"link_bytes_per_second": 0.0}, "link_bytes_per_second"),
    ],
)
def test_compression_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTransferSettingsError, match=words):
        dataclasses.replace(OWN, **changes)


def test_compression_reaches_the_connector() -> None:
    own = dataclasses.replace(OWN, transport="tcp", compression="int4")

    config = connector_config(TransferSettings("w:1", connector="twofold", own=own))

    assert ConnectorSettings.from_config(config["kv_connector_extra_config"]) == own


@pytest.mark.parametrize(
    ("size_bytes", "seconds"), [(0, 30.0), (3_750_000_000, 90.0), (10**12, 600.0)]
)
def test_a_long_prompt_may_take_longer_but_no_longer_than_its_lease(
    size_bytes: int, seconds: float
) -> None:
    assert OWN.read_seconds(size_bytes) == seconds


@pytest.mark.parametrize(
    "name",
    ["lease_seconds", "read_limit_seconds", "least_bytes_per_second", "keep_limit_seconds"],
)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_time_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidTransferSettingsError, match=f"{name} must be more than 0"):
        ConnectorSettings.from_config({"host": "10.0.0.1", "port": 5600, name: value})


def test_what_arrives_is_compared_unless_it_is_left_out() -> None:
    config = {"host": "10.0.0.1", "port": 5600}

    assert ConnectorSettings.from_config(config).verify
    assert not ConnectorSettings.from_config(config | {"verify": False}).verify
