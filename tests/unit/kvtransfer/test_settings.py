import dataclasses

import pytest

from twofold_kvtransfer import ConnectorSettings, TransferSettings, connector_config
from twofold_kvtransfer.settings import InvalidTransferSettingsError, service_address

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


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(InvalidTransferSettingsError, match=f"10.0.0.1:{port}"):
        dataclasses.replace(OWN, service_port=port)
