"""The prefix cache of an engine of several ranks, shown to them by the scheduler's process."""

import asyncio
import logging
import socket

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.loop_thread import LoopThread
from twofold_kvtransfer.shelf import Shelf
from twofold_kvtransfer.side_channel import MAX_SLOW_ANSWERS, SlowAnswers, answer_all
from twofold_kvtransfer.side_channel.messages import Answer, ProtocolError, Unnumbered
from twofold_kvtransfer.viewing import LocalView

MAX_CONNECTIONS = 128
"""A rank has one; no engine has as many ranks on a machine."""

_RANK = Reader("", "")
"""Who asks does not matter: nothing is leased here, and no block is."""

_log = logging.getLogger(__name__)


class ShelfServerError(TwofoldError):
    """There is no socket, or no thread, to show a shelf at."""


class ShelfServer:
    """Owns the thread, its event loop, and a socket of this machine.

    The socket is in the kernel's abstract namespace, with a name that the kernel has chosen, and
    gone with this process however that ends. Like the side channel, which tells the same, it asks
    for no password. If the thread ends, the ranks show nothing any more; the engine goes on.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._view = LocalView(lambda: shelf)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread: LoopThread[asyncio.Event] = LoopThread("kv-shelf", self._serve)
        self._talks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where the ranks find it."""
        name: bytes = self._socket.getsockname()
        return name.decode()

    def start(self) -> None:
        """Raises:
        ShelfServerError: the socket or the thread cannot be had.
        """
        try:
            self._socket.bind("")
            self._thread.start()
        except Exception as error:
            self.close()
            raise ShelfServerError(f"the prefix cache cannot be shown: {error}") from error

    def close(self) -> None:
        """End the thread; ranks that look then see nothing."""
        self._thread.call(asyncio.Event.set)
        if self._thread.join():
            self._socket.close()

    async def _serve(self) -> None:
        stopped = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                talk = tasks.create_task(self._talk(reader, writer))
                self._talks.add(talk)
                talk.add_done_callback(self._talks.discard)

            server = await asyncio.start_unix_server(accept, sock=self._socket)
            self._thread.note_serving(stopped)
            try:
                await stopped.wait()
            finally:
                server.close()
            for talk in self._talks:
                talk.cancel()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one rank until it leaves."""
        try:
            if len(self._talks) > MAX_CONNECTIONS:
                _log.warning("%d ask for the prefix cache at a time", len(self._talks))
                return
            slow = SlowAnswers(_no_lease, None, self._view, max_count=MAX_SLOW_ANSWERS)
            await answer_all(reader, writer, _RANK, slow, _no_answer)
        except* (ProtocolError, OSError) as group:
            _log.warning("connection of a rank ended: %s", group.exceptions[0])
        finally:
            writer.close()


def _no_lease(request_id: str, reader: Reader) -> None:
    """Nothing is leased here."""


def _no_answer(question: Unnumbered, reader: Reader) -> Answer:
    raise ProtocolError(f"a {type(question).__name__} is not for the prefix cache")
