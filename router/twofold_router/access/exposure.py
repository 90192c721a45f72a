"""Whether a router may listen where it is told to."""

import ipaddress
from pathlib import Path

from twofold_router.access.errors import InvalidAccessError


def check_exposure(host: str, keys_file: Path | None, *, insecure: bool) -> None:
    """Refuse to serve without keys where other machines could connect.

    Raises:
        InvalidAccessError: *host* is not surely a loopback address, there is no *keys_file*, and
            nobody said *insecure*.
    """
    if keys_file is None and not insecure and not is_loopback(host):
        raise InvalidAccessError(
            f"host is {host!r}, which other machines may reach, and there are no API keys: "
            "give --keys-file FILE, listen on 127.0.0.1, or say --insecure"
        )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach *host*, as far as that is sure."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # an unknown name, or nothing, which is every address
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)
