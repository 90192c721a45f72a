"""The chunks of a transfer over a line, seen from each of its four ends.

For a read, the opener says GO for a chunk when it has a buffer free for it, and the accepter
answers with the checksum of what it then sends. For a write, the opener's GO has the checksum, and
after the last chunk the accepter tells how it went. STOP takes the place of a GO that nobody needs
any more; then the transfer is over for both.
"""

from collections import deque
from dataclasses import dataclass

from twofold_kvtransfer.blocks import BlockIds
from twofold_kvtransfer.transports.sockets.conversation import answer, expect
from twofold_kvtransfer.transports.sockets.failing import Failure
from twofold_kvtransfer.transports.sockets.wire import Request, Verdict
from twofold_kvtransfer.transports.two_sided.control import Step
from twofold_kvtransfer.transports.two_sided.line import Line
from twofold_kvtransfer.transports.two_sided.port import SLOT_COUNT, Cells, Pending
from twofold_kvtransfer.transports.two_sided.transfer import TwoSidedTransfer


@dataclass(frozen=True, slots=True)
class Course:
    """What moves over *line*, chunk by chunk; *seed* ties the checksums to their request.

    A peer may ask for billions of cells, so a chunk is worked out when its turn comes.
    """

    line: Line
    ids: BlockIds
    part: tuple[int, int]
    """Of each block: offset and length, bytes."""
    numbers: range
    """Of all cells."""
    run_cells: int
    """Of a chunk; the last may have fewer."""
    seed: int | None
    """None where nothing is checked."""

    @property
    def chunk_count(self) -> int:
        return -(-len(self.numbers) // self.run_cells)

    def chunk(self, number: int) -> Cells:
        first = number * self.run_cells
        return Cells(self.ids, self.part, self.numbers[first : first + self.run_cells])

    def sum_of(self, number: int) -> int:
        """Return the checksum of chunk *number*, which is in its buffer."""
        if self.seed is None:
            return 0
        size_bytes = self.chunk(number).size_bytes
        return self.line.communicator.checksum(number % SLOT_COUNT, size_bytes, self.seed + number)

    def load(self, number: int) -> None:
        self.line.communicator.load(number % SLOT_COUNT, self.chunk(number))

    def unload(self, number: int) -> None:
        self.line.communicator.unload(number % SLOT_COUNT, self.chunk(number))

    def send(self, number: int) -> Pending:
        size_bytes = self.chunk(number).size_bytes
        return self.line.communicator.send(number % SLOT_COUNT, size_bytes)

    def receive(self, number: int) -> Pending:
        size_bytes = self.chunk(number).size_bytes
        return self.line.communicator.receive(number % SLOT_COUNT, size_bytes)


def course(
    line: Line, request: Request, digest: int, ids: BlockIds, part: tuple[int, int]
) -> Course:
    """Return that of *request*, for the side whose blocks are *ids* and of them *part*."""
    seed = digest if request.checksum else None
    return Course(line, ids, part, request.cells, request.run_cells, seed)


def read(course: Course, transfer: TwoSidedTransfer) -> None:
    """Receive the chunks, as long as *transfer* wants them.

    Raises:
        TransferError: the line has failed.
    """
    control = course.line.control
    receiving: Pending | None = _ask(course, 0)
    number = 0
    while receiving is not None:
        following = None
        if number + 1 < course.chunk_count:
            if transfer.is_wanted:
                following = _ask(course, number + 1)
            else:
                control.tell(Step.STOP)
        _, checksum = control.hear()
        receiving.wait()
        _take_in(course, number, checksum, transfer)
        receiving = following
        number += 1
    transfer.finish()


def write(course: Course, transfer: TwoSidedTransfer) -> None:
    """Send the chunks, as long as *transfer* wants them.

    Raises:
        TransferError: the line has failed, or the peer received something else.
    """
    control = course.line.control
    sending: deque[Pending] = deque()
    for number in range(course.chunk_count):
        _free_a_slot(sending)
        if not transfer.hold():
            control.tell(Step.STOP)
            _finish(sending)
            return
        try:
            course.load(number)
        finally:
            transfer.let_go()
        control.tell(Step.GO, course.sum_of(number))
        sending.append(course.send(number))
    _finish(sending)
    expect(control.connection, Verdict.OK)
    transfer.finish()


def serve_read(course: Course) -> None:
    """Send the chunks that the peer asks for.

    Raises:
        TransferError: the line has failed.
    """
    control = course.line.control
    sending: deque[Pending] = deque()
    for number in range(course.chunk_count):
        step, _ = control.hear()
        if step is Step.STOP:
            break
        _free_a_slot(sending)
        course.load(number)
        control.tell(Step.GO, course.sum_of(number))
        sending.append(course.send(number))
    _finish(sending)


def serve_write(course: Course) -> None:
    """Receive the chunks that the peer sends, and tell whether they were what was sent.

    Raises:
        TransferError: the line has failed.
    """
    control = course.line.control
    intact = True
    for number in range(course.chunk_count):
        step, checksum = control.hear()
        if step is Step.STOP:
            return
        course.receive(number).wait()
        intact = intact and course.sum_of(number) == checksum
        if intact:
            course.unload(number)
    answer(control.connection, Verdict.OK if intact else Verdict.CHECKSUM)


def _ask(course: Course, number: int) -> Pending:
    course.line.control.tell(Step.GO)
    return course.receive(number)


def _take_in(course: Course, number: int, checksum: int, transfer: TwoSidedTransfer) -> None:
    if course.sum_of(number) != checksum:
        transfer.fail(Failure.CHECKSUM, f"{Failure.CHECKSUM}: what arrived is not what was sent")
    elif transfer.hold():
        try:
            course.unload(number)
        finally:
            transfer.let_go()


def _free_a_slot(sending: deque[Pending]) -> None:
    if len(sending) == SLOT_COUNT:
        sending.popleft().wait()


def _finish(sending: deque[Pending]) -> None:
    while sending:
        sending.popleft().wait()
