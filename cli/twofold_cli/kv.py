"""Ask the engines of the running cluster what blocks they keep, and whom they read from."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import msgspec
from google.protobuf.descriptor import FieldDescriptor

from twofold_cli.following import LOOPBACK_OPTIONS
from twofold_cli.state import ClusterState, StateDirectory, running_cluster
from twofold_cli.status import EXIT_DEGRADED, EXIT_READY, read_announced
from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_cluster.rpc.kvtransfer_pb2_grpc import KvTransferStub
from twofold_cluster.worker import Worker
from twofold_engine.prefixes.addresses import rank_address

ANSWER_LIMIT_SECONDS = 3.0

Reply = pb.PeersReply | pb.LeasesReply
Question = Callable[[Any], Awaitable[Reply]]
"""Puts a question to a stub."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one rank of a worker says, or why it says nothing."""

    worker_id: str
    rank: int = 0
    reply: Reply | None = None
    problem: str = ""
    """Empty with a reply."""
    is_expected: bool = False
    """A worker with another connector is none to worry about."""


async def ask_peers(stub: Any) -> Reply:
    reply: pb.PeersReply = await stub.Peers(pb.PeersRequest(), timeout=ANSWER_LIMIT_SECONDS)
    return reply


async def ask_leases(stub: Any) -> Reply:
    reply: pb.LeasesReply = await stub.Leases(pb.LeasesRequest(), timeout=ANSWER_LIMIT_SECONDS)
    return reply


def ask_cluster(directory: StateDirectory, question: Question) -> list[Answer]:
    """Put *question* to each rank of each worker, all at once.

    Raises:
        NotRunningError: there is no cluster.
    """
    return asyncio.run(_ask(running_cluster(directory), question))


async def ask_workers(
    worker_ids: list[str], announced: Mapping[str, Worker] | None, question: Question
) -> list[Answer]:
    """Put *question* to *worker_ids*, and to the workers *announced*; None: that is not known."""
    if announced is None:
        return [Answer(name, problem="Redis does not say where it is") for name in worker_ids]
    answers: list[Awaitable[Answer]] = []
    for name in sorted({*worker_ids, *announced}):
        worker = announced.get(name)
        if worker is None:
            answers.append(_said(Answer(name, problem="it is not ready")))
        elif not worker.kv_transfer:
            problem = "another connector than twofold"
            answers.append(_said(Answer(name, problem=problem, is_expected=True)))
        else:
            ranks = range(worker.engine.tensor_parallel)
            answers += [_ask_rank(worker, rank, question) for rank in ranks]
    return list(await asyncio.gather(*answers))


def exit_code(answers: list[Answer]) -> int:
    complete = all(answer.reply is not None or answer.is_expected for answer in answers)
    return EXIT_READY if complete else EXIT_DEGRADED


def as_json(answers: list[Answer]) -> str:
    """Return the answers for machines; ``problem`` is null where there is an answer."""
    workers = [
        {
            "worker": answer.worker_id,
            "rank": answer.rank,
            "problem": answer.problem or None,
            **({} if answer.reply is None else to_builtins(answer.reply)),
        }
        for answer in answers
    ]
    return msgspec.json.encode({"workers": workers}).decode()


def to_builtins(message: Any) -> dict[str, Any]:
    """Return *message* as JSON has it: numbers as numbers, absent fields as None, enums by name."""
    return {
        field.name: _value(message, field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
    }


def _value(message: Any, field: FieldDescriptor, value: Any) -> Any:
    if field.is_repeated:
        return [to_builtins(item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    if field.enum_type is not None:
        return state_name(value)
    return value


def state_name(state: int) -> str:
    """Return a lease's state in a word; a number, if it is a later version's."""
    named = pb.LeaseState.DESCRIPTOR.values_by_number.get(state)
    return str(state) if named is None else named.name.removeprefix("LEASE_STATE_").lower()


async def _ask(state: ClusterState, question: Question) -> list[Answer]:
    names = [worker.worker_id for worker in state.workers]
    return await ask_workers(names, await read_announced(state), question)


async def _said(answer: Answer) -> Answer:
    return answer


async def _ask_rank(worker: Worker, rank: int, question: Question) -> Answer:
    address = rank_address(worker, rank)
    try:
        async with grpc.aio.insecure_channel(address, options=LOOPBACK_OPTIONS) as channel:
            reply = await question(KvTransferStub(channel))
    except grpc.aio.AioRpcError as error:
        problem = f"no answer from {address}: {error.details() or error.code().name}"
        return Answer(worker.worker_id, rank, problem=problem)
    if (reply.worker, reply.incarnation) != (worker.worker_id, worker.incarnation):
        problem = f"{reply.worker}:{reply.incarnation} answers at {address}"
        return Answer(worker.worker_id, rank, problem=problem)
    return Answer(worker.worker_id, rank, reply)
