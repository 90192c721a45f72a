"""A connection to itself, as far as what moves over one needs it."""


class Loop:
    """What is sent waits in ``data`` until it is received."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.pauses: list[float] = []

    def send(self, buffers: list[memoryview]) -> None:
        self.data += b"".join(buffers)

    def receive(self, buffers: list[memoryview]) -> None:
        for buffer in buffers:
            buffer[:] = self.data[: len(buffer)]
            del self.data[: len(buffer)]

    def receive_bytes(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.receive([memoryview(buffer)])
        return bytes(buffer)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
