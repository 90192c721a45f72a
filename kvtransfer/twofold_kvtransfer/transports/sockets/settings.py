"""What settings of these transports must be."""

import ipaddress
from typing import Annotated

from msgspec import Meta

from twofold_cluster.errors import TwofoldError

Port = Annotated[int, Meta(ge=1, le=65535)]
"""Of a peer, as it says."""


class InvalidSocketSettingsError(TwofoldError):
    """A setting that cannot work; the message names it."""


def check_address(host: str, port: int) -> None:
    """Raises:
    InvalidSocketSettingsError: it cannot be listened on, or peers could not reach it.
    """
    if not host or _is_any(host):
        raise InvalidSocketSettingsError(f"host cannot be {host!r}")
    if not 0 <= port < 65536:
        raise InvalidSocketSettingsError(f"port cannot be {port!r}")


def check_above_zero(settings: object, *names: str) -> None:
    """Raises:
    InvalidSocketSettingsError: one of those *names* is not.
    """
    for name in names:
        value = getattr(settings, name)
        if not value > 0:
            raise InvalidSocketSettingsError(f"{name} cannot be {value!r}")


def _is_any(host: str) -> bool:
    """Whether *host* means all addresses: good to listen on, useless to tell to a peer."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
