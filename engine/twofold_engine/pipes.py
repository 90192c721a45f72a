"""The pipes of a child process, read as they come."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

MAX_LINE_BYTES = 2**20


@contextlib.asynccontextmanager
async def reading(fd: int) -> AsyncIterator[asyncio.StreamReader]:
    """Read the pipe *fd*, and close it in the end."""
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
    )
    try:
        yield reader
    finally:
        transport.close()


async def read_line(stream: asyncio.StreamReader) -> bytes:
    """Read a line; of one that the buffer does not hold, only its end."""
    try:
        return await stream.readline()
    except ValueError:
        return await stream.read(2**16)
