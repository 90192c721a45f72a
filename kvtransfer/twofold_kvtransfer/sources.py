"""Where the blocks of one request can be fetched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import msgspec

from twofold_cluster.errors import TwofoldError

MAX_NAME_LENGTH = 1024
"""Of a request, an engine or a host, in characters; ours have some fifty."""


class InvalidSourceError(TwofoldError):
    """``kv_transfer_params`` that do not say where the blocks are."""


class Peer(Protocol):
    """An engine that blocks can be read from; what :class:`Source` says of it."""

    @property
    def engine_id(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def tensor_parallel(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Source:
    """The blocks of *request_id*, in one incarnation of one engine."""

    engine_id: str
    """Worker and incarnation, as ``worker:incarnation``."""
    request_id: str
    host: str
    port: int
    """Of the side channel of its first rank; those of the others follow."""
    tensor_parallel: int
    blocks: tuple[int, ...]
    """In the order of the prompt."""


def split_engine_id(engine_id: str) -> tuple[str, str]:
    """Return worker and incarnation."""
    worker, _, incarnation = engine_id.rpartition(":")
    return (worker, incarnation) if worker else (incarnation, "")


def to_params(source: Source, token_count: int) -> dict[str, Any]:
    """Return the ``kv_transfer_params`` that name *source*, in the words of vLLM's NixlConnector.

    So a gateway need not know which connector runs.
    """
    return {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_block_ids": [list(source.blocks)],
        "remote_engine_id": source.engine_id,
        "remote_request_id": source.request_id,
        "remote_host": source.host,
        "remote_port": source.port,
        "tp_size": source.tensor_parallel,
        "remote_num_tokens": token_count,
    }


def from_params(params: Mapping[str, Any]) -> Source:
    """Read what :func:`to_params` wrote.

    Raises:
        InvalidSourceError: something is missing, of another type, or out of bounds.
    """
    try:
        read = msgspec.convert(params, _Params)
    except msgspec.ValidationError as error:
        raise InvalidSourceError(f"kv_transfer_params: {error}") from error
    if len(read.remote_block_ids) != 1:
        raise InvalidSourceError(f"blocks of {len(read.remote_block_ids)} cache groups, not of one")
    names = (read.remote_engine_id, read.remote_request_id, read.remote_host)
    if not all(name.isprintable() for name in names):
        raise InvalidSourceError("kv_transfer_params: a name with unprintable characters")
    return Source(
        engine_id=read.remote_engine_id,
        request_id=read.remote_request_id,
        host=read.remote_host,
        port=read.remote_port,
        tensor_parallel=read.tp_size,
        blocks=tuple(read.remote_block_ids[0]),
    )


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
Port = Annotated[int, msgspec.Meta(ge=1, lt=2**16)]


class _Params(msgspec.Struct):
    """They come through a client, so nothing is taken for granted."""

    remote_block_ids: list[list[Annotated[int, msgspec.Meta(ge=0)]]]
    remote_engine_id: Name
    remote_request_id: Name
    remote_host: Name
    remote_port: Port
    tp_size: Annotated[int, msgspec.Meta(ge=1)] = 1
