"""What a rank sees of its engine's prefix cache, which is in the scheduler's process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from twofold_kvtransfer.side_channel import Channel, ChannelError, Patience
from twofold_kvtransfer.viewing import STEP_LIMIT_SECONDS, Ids, NoViewError

PATIENCE = Patience()


class RemoteView:
    """Asks the :class:`ShelfServer` of the engine, over one connection that is opened when somebody
    looks for the first time, and anew after it was lost."""

    def __init__(self, address: Callable[[], str | None]) -> None:
        """*address* returns None until the scheduler has told it, with the engine's first step:
        before that the cache is empty."""
        self._address = address
        self._channel: Channel | None = None
        self._one_opens = asyncio.Lock()

    async def look(self, names: Sequence[bytes]) -> tuple[Ids, Ids]:
        async with self._asking(STEP_LIMIT_SECONDS) as channel:
            return ((), ()) if channel is None else await channel.look(names)

    async def unchanged(self, names: Sequence[bytes], blocks: Ids, versions: Ids) -> bool:
        async with self._asking(0.0) as channel:
            if channel is None:
                return False
            answer = await channel.recheck(names, blocks, versions, digest=False)
            return answer is not None

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            async with channel:
                pass

    @asynccontextmanager
    async def _asking(self, making_seconds: float) -> AsyncIterator[Channel | None]:
        """Wait for an answer that takes *making_seconds* at most to be made; None: there is nobody
        to ask yet."""
        try:
            async with asyncio.timeout(making_seconds + PATIENCE.answer_seconds):
                yield await self._open()
        except ChannelError as error:
            raise NoViewError(str(error)) from error
        except TimeoutError as error:
            raise NoViewError("the scheduler's process does not answer") from error

    async def _open(self) -> Channel | None:
        address = self._address()
        if address is None:
            return None
        async with self._one_opens:
            if self._channel is None or self._channel.is_lost:
                await self.close()
                self._channel = await Channel.connect_local(address, PATIENCE)
            return self._channel
