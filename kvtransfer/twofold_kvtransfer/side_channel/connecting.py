"""Streams to those that are asked."""

import asyncio
from collections.abc import Awaitable

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.side_channel.frames import notice_end

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ChannelError(TwofoldError):
    """The peer cannot be reached, refuses this reader, or has gone."""


async def stream_to(host: str, port: int, seconds: float) -> Stream:
    """Connect to another engine's process, within *seconds*.

    Raises:
        ChannelError: nobody listens there.
    """
    stream = await _opened(asyncio.open_connection(host, port), f"{host}:{port}", seconds)
    notice_end(stream[1])
    return stream


async def local_stream_to(address: str, seconds: float) -> Stream:
    """Connect to another process of this machine, within *seconds*.

    Raises:
        ChannelError: nobody listens there.
    """
    return await _opened(asyncio.open_unix_connection(address), repr(address), seconds)


async def _opened(opening: Awaitable[Stream], name: str, seconds: float) -> Stream:
    try:
        async with asyncio.timeout(seconds):
            return await opening
    # A name that cannot be resolved, or a port beyond all, is a ValueError or an OverflowError.
    except (OSError, ValueError, OverflowError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else str(error)
        raise ChannelError(f"no connection to {name}: {reason}") from error
