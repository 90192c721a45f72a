"""What goes wrong between this process and a client or a worker, by what the caller does then."""

from twofold_cluster.errors import TwofoldError


class HttpError(TwofoldError):
    """The root of this layer's errors."""


class ClientGoneError(HttpError):
    """The client has closed its connection; nobody reads what is written."""


class UnreachableError(HttpError):
    """No connection to the worker: it has not seen the request."""


class BrokenError(HttpError):
    """The connection broke: nobody knows how far the worker went."""


class AnswerTooLargeError(HttpError):
    """An answer that must be held is larger than the limit."""
