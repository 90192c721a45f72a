"""What goes wrong in a request to the engine, in vLLM's words and shape."""

import msgspec

from twofold_cluster.errors import TwofoldError


class EngineFaultError(TwofoldError):
    """An answer that is an error: ``{"error": {"message", "type", "param", "code"}}``.

    vLLM's ``code`` is the status as a number, its ``type`` a name of its own.
    """

    status = 500
    type = "InternalServerError"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def body(self) -> bytes:
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.status,
        }
        return msgspec.json.encode({"error": error})


class BadRequestError(EngineFaultError):
    """The request can never be served."""

    status = 400
    type = "BadRequestError"


class InvalidBodyError(BadRequestError):
    """The body is none of the API: refused before anything is asked of the engine.

    ``param`` is the way to the field, as ``body.stream_options.include_usage``.
    """

    type = "Bad Request"


class UnparsedBodyError(InvalidBodyError):
    """The body is no text, or too deep: vLLM's web framework answers itself, in its own shape."""

    def body(self) -> bytes:
        return msgspec.json.encode({"detail": self.message})


class UnknownModelError(EngineFaultError):
    """The engine serves no model of this name."""

    status = 404
    type = "NotFoundError"


class UnavailableError(EngineFaultError):
    """The engine does not take the request now."""

    status = 503
    type = "ServiceUnavailableError"


class LoadFailedError(EngineFaultError):
    """The blocks could not be had from the engine that was to lend them."""

    def __init__(self) -> None:
        super().__init__("Internal server error")
