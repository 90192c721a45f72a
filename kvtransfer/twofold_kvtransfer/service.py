"""A rank's inspection over gRPC."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from twofold_cluster.errors import TwofoldError
from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_cluster.rpc import kvtransfer_pb2_grpc as rpc
from twofold_kvtransfer.inspecting import Inspection
from twofold_kvtransfer.lease import LeaseSnapshot, LeaseState
from twofold_kvtransfer.leases import InvalidPinError, TooMuchPinnedError, UnknownLeaseError
from twofold_kvtransfer.links import LinkSnapshot
from twofold_kvtransfer.settings import host_and_port
from twofold_kvtransfer.side_channel import ReaderSnapshot
from twofold_kvtransfer.sources import MAX_NAME_LENGTH, split_engine_id

MAX_REQUEST_BYTES = 16 * 2**10
MAX_CONCURRENT_CALLS = 16
"""People and their tools ask here; what is beyond is refused."""

_STATES = {
    LeaseState.PROMISED: pb.LEASE_STATE_PROMISED,
    LeaseState.HELD: pb.LEASE_STATE_HELD,
    LeaseState.ENDING: pb.LEASE_STATE_ENDING,
}


class ServiceError(TwofoldError):
    """The service cannot listen."""


class KvTransferService(rpc.KvTransferServicer):
    """Translates; called in the loop that owns what *inspection* reads."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection

    async def Peers(  # noqa: N802  gRPC's name
        self, request: pb.PeersRequest, context: Any
    ) -> pb.PeersReply:
        identity, peers = self._inspection.identity, self._inspection.peers()
        return pb.PeersReply(
            worker=identity.worker,
            incarnation=identity.incarnation,
            rank=identity.rank,
            transport=identity.transport,
            links=[_link(link, peers.lease_counts.get(link.engine_id, 0)) for link in peers.links],
            readers=[_reader(reader) for reader in peers.readers],
        )

    async def Leases(  # noqa: N802
        self, request: pb.LeasesRequest, context: Any
    ) -> pb.LeasesReply:
        identity, leases = self._inspection.identity, self._inspection.leases()
        return pb.LeasesReply(
            worker=identity.worker,
            incarnation=identity.incarnation,
            rank=identity.rank,
            promised_count=leases.counts.promised,
            held_count=leases.counts.held,
            pinned_count=leases.pinned_count,
            leases=[_lease(lease) for lease in leases.oldest],
        )

    async def Pin(  # noqa: N802
        self, request: pb.PinLeaseRequest, context: Any
    ) -> pb.PinLeaseReply:
        await _check_name(request.request_id, context)
        try:
            self._inspection.pin(request.request_id, request.seconds)
        except InvalidPinError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TooMuchPinnedError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except UnknownLeaseError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        return pb.PinLeaseReply()

    async def Release(  # noqa: N802
        self, request: pb.ReleaseRequest, context: Any
    ) -> pb.ReleaseReply:
        await _check_name(request.request_id, context)
        try:
            self._inspection.release(request.request_id)
        except UnknownLeaseError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        return pb.ReleaseReply()


def bind(host: str, port: int, *, max_request_bytes: int = MAX_REQUEST_BYTES) -> "grpc.aio.Server":
    """Return a server that will listen there.

    Raises:
        ServiceError: the port is taken.
    """
    options = (
        ("grpc.max_receive_message_length", max_request_bytes),
        ("grpc.so_reuseport", 0),  # two services on one port are a mistake to be told of
    )
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS)
    address = host_and_port(host, port)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise ServiceError(f"no inspection at {address}: {error}") from error
    return server


@asynccontextmanager
async def serving(server: "grpc.aio.Server", inspection: Inspection) -> AsyncIterator[None]:
    """Answer until the end of the block, which ends calls under way."""
    rpc.add_KvTransferServicer_to_server(KvTransferService(inspection), server)
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)


async def _check_name(request_id: str, context: Any) -> None:
    if not 0 < len(request_id) <= MAX_NAME_LENGTH:
        message = f"request_id must have 1 to {MAX_NAME_LENGTH} characters"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)


def _link(link: LinkSnapshot, lease_count: int) -> pb.Link:
    worker, incarnation = split_engine_id(link.engine_id)
    return pb.Link(
        worker=worker,
        incarnation=incarnation,
        address=link.address,
        open_seconds=link.open_seconds,
        transfers_done=link.traffic.done_count,
        transfers_failed=link.traffic.failed_count,
        read_bytes=link.traffic.read_bytes,
        read_seconds=link.traffic.read_seconds,
        bytes_per_second=link.traffic.bytes_per_second,
        lease_count=lease_count,
    )


def _reader(snapshot: ReaderSnapshot) -> pb.Reader:
    return pb.Reader(
        worker=snapshot.reader.worker,
        incarnation=snapshot.reader.incarnation,
        rank=snapshot.reader.rank,
        connected_seconds=snapshot.connected_seconds,
    )


def _lease(lease: LeaseSnapshot) -> pb.Lease:
    return pb.Lease(
        request_id=lease.request_id,
        state=_STATES[lease.state],
        left_seconds=lease.left_seconds,
        age_seconds=lease.age_seconds,
        readers=[
            pb.LeaseReader(worker=reader.worker, incarnation=reader.incarnation, rank=reader.rank)
            for reader in lease.readers
        ],
        pinned_seconds=lease.pinned_seconds,
    )
