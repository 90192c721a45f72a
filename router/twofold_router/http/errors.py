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


class StoppedError(BrokenError):
    """A stream came to what its relay was to stop at; nobody reads on."""

    def __init__(self, rest: bytes) -> None:
        super().__init__("the worker ended the stream with an error")
        self.rest = rest
        """What came with it, from there on; it was not passed on."""


class AnswerTooLargeError(HttpError):
    """An answer that must be held is larger than the limit."""
