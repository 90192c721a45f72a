"""Moving cache blocks between workers: vLLM's NixlConnector, or our own."""

from twofold_kvtransfer.settings import (
    ConnectorSettings,
    TransferSettings,
    connector_config,
    service_address,
)

__all__ = ["ConnectorSettings", "TransferSettings", "connector_config", "service_address"]
