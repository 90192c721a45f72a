"""The answers that this layer gives itself, to requests that no handler sees."""

import enum
from collections.abc import Callable

from twofold_router.http.errors import HttpError
from twofold_router.http.headers import HeaderPairs, Headers


class Refusal(enum.Enum):
    """Why a request is refused; the value is the status."""

    BAD_REQUEST = 400
    TOO_SLOW = 408
    BODY_TOO_LARGE = 413
    EXPECTATION_FAILED = 417
    HEADER_TOO_LARGE = 431
    INTERNAL = 500
    NOT_IMPLEMENTED = 501
    TOO_MANY_CONNECTIONS = 503
    VERSION_NOT_SUPPORTED = 505


class RefusedError(HttpError):
    """A request that is answered with *kind*, after which its connection is closed.

    ``path`` and ``headers`` are the request's, as far as it was read.
    """

    def __init__(self, kind: Refusal, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.path = ""
        self.headers: Headers = {}


RefusalAnswer = Callable[[RefusedError], tuple[HeaderPairs, bytes]]
"""Makes the header fields and the body of the answer."""
