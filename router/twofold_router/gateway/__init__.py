"""HTTP in, HTTP to the workers, and the life of a request between them."""

from twofold_router.gateway.admitting import Admitting
from twofold_router.gateway.dispatcher import Dispatcher
from twofold_router.gateway.listening import CannotListenError, listen, url_of
from twofold_router.gateway.server import Gateway, open_gateway

__all__ = [
    "Admitting",
    "CannotListenError",
    "Dispatcher",
    "Gateway",
    "listen",
    "open_gateway",
    "url_of",
]
