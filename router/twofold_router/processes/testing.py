"""A gateway process and the placement process without processes: messages arrive when told to."""

from collections import deque
from collections.abc import Callable

import msgspec

from twofold_router.gateway import Dispatcher
from twofold_router.processes.clerk import Clerk
from twofold_router.processes.link import Handlers, decoder_of
from twofold_router.processes.messages import Message
from twofold_router.processes.remote_desk import RemoteDesk


class Direction:
    """What is under way to one of the two, encoded, in order."""

    def __init__(self) -> None:
        self._under_way: deque[bytes] = deque()
        self._handlers: Handlers = {}
        self._decode: Callable[[bytes], Message] = msgspec.msgpack.decode

    def arrive_at(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._decode = decoder_of(handlers)

    def send(self, message: Message) -> None:
        self._under_way.append(msgspec.msgpack.encode(message))

    def deliver(self, count: int) -> None:
        """Have the next *count* messages arrive, or as many as there are."""
        for _ in range(min(count, len(self._under_way))):
            message = self._decode(self._under_way.popleft())
            self._handlers[type(message)](message)

    def drop(self) -> None:
        self._under_way.clear()

    def __len__(self) -> int:
        return len(self._under_way)


class MemoryProcess:
    """One gateway process' desk, with its clerk at *dispatcher*."""

    def __init__(self, process: int, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self.to_placement, self.to_gateway = Direction(), Direction()
        self.desk = RemoteDesk(process, self.to_placement.send, clock=clock)
        self.clerk = Clerk(dispatcher, self.to_gateway.send)
        self.to_placement.arrive_at(self.clerk.handlers())
        self.to_gateway.arrive_at(self.desk.handlers())
        self.clerk.welcome()

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        while self.to_placement or self.to_gateway:
            self.to_placement.deliver(1)
            self.to_gateway.deliver(1)

    def die(self) -> None:
        """End: what is under way from it still arrives."""
        self.to_placement.deliver(len(self.to_placement))
        self.clerk.close()
        self.to_gateway.drop()
