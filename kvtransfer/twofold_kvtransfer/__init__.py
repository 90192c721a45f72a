"""Moving cache blocks between workers; today through vLLM's NixlConnector."""

from twofold_kvtransfer.connector import TransferSettings, connector_config

__all__ = ["TransferSettings", "connector_config"]
