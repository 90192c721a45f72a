"""The gRPC server of a pool manager, with the health service that Kubernetes probes."""

import grpc

KEEPALIVE_SECONDS = 10
"""A caller that watches may ask this often whether the connection still lives."""

_OPTIONS = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 1000 // 2),
    ("grpc.so_reuseport", 0),  # two managers on one address is a mistake to be told of
)

# grpc.health.v1.HealthCheckResponse{status: SERVING}
_SERVING = b"\x08\x01"


def new_server() -> "grpc.aio.Server":
    """Return a server that answers ``grpc.health.v1.Health/Check``, and takes more services."""
    server = grpc.aio.server(options=_OPTIONS)
    check: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_check)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),)
    )
    return server


async def _check(request: bytes, context: object) -> bytes:
    return _SERVING
