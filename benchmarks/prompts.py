"""Bodies of requests with prompts of a given length, made without cost while others measure."""

import math
from random import Random

BYTES_PER_TOKEN = 4
"""What English text has, about."""

LINE_BYTES = 64
"""Text is cut at lines only, so that no cut goes through an escape."""
POOL_LINES = 1 << 17
MARK = "%016x "
"""A number that no other prompt has stands before what is not shared, so that a router expects
no more in a cache than there is."""
SHARED_PREFIX_COUNT = 8

_LETTERS = "etaoinshrdlucmfwypvbgk"


class Prompts:
    """Different bodies of one length.

    A body's text is a slice of a pool, so it is ready without being made: two texts begin in the
    same way only if it is with one of a few shared prefixes of half the length.
    """

    def __init__(
        self, random: Random, *, model: str, prompt_tokens: int, shared_share: float, fields: str
    ) -> None:
        """
        *fields*: JSON fields to put before the messages, with a comma after each.
        *shared_share*: how many of the prompts begin with a shared prefix.
        """
        self._random = random
        self._shared_share = shared_share
        self._pool = memoryview(make_text(random, POOL_LINES))
        self._line_count = math.ceil(prompt_tokens * BYTES_PER_TOKEN / LINE_BYTES)
        self._start = (
            f'{{"model":"{model}",{fields}"messages":[{{"role":"user","content":"'.encode()
        )
        self._end = b'"}]}'

    @property
    def body_bytes(self) -> int:
        text_bytes = len(MARK % 0) + self._line_count * LINE_BYTES
        return len(self._start) + text_bytes + len(self._end)

    def next_body(self) -> list[bytes | memoryview]:
        """Return the next body in parts."""
        if self._random.random() >= self._shared_share:
            return [self._start, self._mark(), self._any(self._line_count), self._end]
        shared_lines = self._line_count // 2
        place = self._random.randrange(SHARED_PREFIX_COUNT) * shared_lines
        rest = self._any(self._line_count - shared_lines)
        return [self._start, self._lines(place, shared_lines), self._mark(), rest, self._end]

    def _mark(self) -> bytes:
        return (MARK % self._random.getrandbits(64)).encode()

    def _any(self, line_count: int) -> memoryview:
        return self._lines(self._random.randrange(POOL_LINES - line_count), line_count)

    def _lines(self, first: int, count: int) -> memoryview:
        return self._pool[first * LINE_BYTES : (first + count) * LINE_BYTES]


def make_text(random: Random, line_count: int) -> bytes:
    """Make lines of LINE_BYTES out of words, each ended by an escaped newline as in JSON."""
    words = ["".join(random.choices(_LETTERS, k=random.randint(1, 9))) for _ in range(5000)]
    newline = "\\n"
    room = LINE_BYTES - len(newline)
    text = " ".join(random.choices(words, k=line_count * room // 4))
    lines = (text[start : start + room] for start in range(0, line_count * room, room))
    return "".join(line + newline for line in lines).encode()
