"""The bounds of both sides. Every wait and every buffer of this layer has one of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one client, and all of them, may take."""

    header_bytes: int = 32 * 1024
    """Request line and header fields together; trailers again. Keys and trace context fit well."""

    header_count: int = 100
    """Header fields: a bound on work, as each costs more than its bytes."""

    body_bytes: int = 32 * 1024 * 1024
    """A prompt of a million tokens is 5 MiB; images come as base64."""

    header_seconds: float = 10.0
    """From the first byte of a request to the end of its header."""

    body_seconds: float = 60.0
    """From the end of the header to the end of the body."""

    idle_seconds: float = 75.0
    """Of a kept connection: above the 60 s that load balancers commonly keep theirs, so that it is
    they who close, and no request meets that moment."""

    write_seconds: float = 30.0
    """For a client whose buffer is full: to take some of it, and so much again for the next."""

    linger_seconds: float = 2.0
    """After a last answer, for the client to read it and close."""

    linger_bytes: int = 8 * 1024 * 1024
    """Discarded meanwhile: what the client has sent before it reads that it was refused. A body
    that is answered without being read is discarded whole, within its own limits: many clients
    send all of it before they read."""

    refused_bytes: int = 128 * 1024 * 1024
    """Discarded of a body that is too large, within the time that a body may take: many clients
    have images too many, and read that only when they have sent all. To reset them sooner tells
    them nothing; who wants to send for nothing can do so with bodies that are not too large."""

    pipelined_count: int = 16
    """Requests read ahead of the one being answered; then reading pauses."""

    connection_count: int = 10_000
    """At once; who comes after is answered 503. Below the usual limit of open files, twice, as
    each may have a connection to a worker."""

    accept_backlog_count: int = 1024
    """Connections that the kernel holds until they are accepted: a burst of clients."""

    write_buffer_bytes: int = 64 * 1024
    """Of an answer that its client does not read; then the worker is not read either."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What a worker may take, and how long its connections are kept."""

    connect_seconds: float = 5.0
    """To resolve the name and to connect."""

    idle_seconds: float = 3.0
    """Below the five seconds after which vLLM's server closes an idle connection: a request must
    not meet that moment (VLLM_HTTP_TIMEOUT_KEEP_ALIVE)."""

    idle_connections_per_origin: int = 1024
    """Kept for reuse: as many as a worker has requests at once, or they are made anew each time."""

    header_bytes: int = 64 * 1024
    """Status line and header fields of an answer, interim answers included."""

    read_ahead_bytes: int = 256 * 1024
    """Of a body that nobody has asked for yet; then reading pauses. One read of uvloop."""
