"""What a controller has learned of codecs and of links."""

from dataclasses import dataclass, field

from twofold_kvtransfer.codecs.averages import SteadyAverage
from twofold_kvtransfer.codecs.costs import CodecCost
from twofold_kvtransfer.codecs.names import CodecName

LEAST_SECONDS = 1e-9
"""What a clock that saw no time pass is taken to mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a transfer really took, all of it on clocks of one machine each."""

    payload_bytes: int
    move_seconds: float | None
    """In which payload was on its way, latency included, waits for coding not. None: it does not
    tell how fast the link is."""
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    is_link_bound: bool = True
    """Whether the transfer waited for its link. If for its codec, the link takes *move_seconds* at
    the most, and may be faster than anything that was seen of it."""


class Factors:
    """By how much coding takes longer than assumed; a guess, until it was measured."""

    def __init__(self, encode: float, decode: float) -> None:
        self.encode = SteadyAverage(encode, guessed=True)
        self.decode = SteadyAverage(decode, guessed=True)


class LearnedCost:
    """A codec's cost, each part of it times a factor that is learned."""

    def __init__(self, cost: CodecCost, busy: Factors) -> None:
        """*busy* is of all codecs: what this one is taken for until it was measured."""
        self._cost = cost
        self._busy = busy
        self._own: Factors | None = None
        self.payload_share = SteadyAverage(cost.payload_share)

    def encode_seconds(self, size_bytes: int, *, idle: bool = False) -> float:
        factor = 1.0 if idle else self._factors.encode.upper
        return factor * self._expected(size_bytes, self._cost.encode_seconds_per_byte)

    def decode_seconds(self, size_bytes: int, *, idle: bool = False) -> float:
        factor = 1.0 if idle else self._factors.decode.upper
        return factor * self._expected(size_bytes, self._cost.decode_seconds_per_byte)

    def learn(self, size_bytes: int, measured: Measured) -> None:
        self.payload_share.add(max(1, measured.payload_bytes) / size_bytes)
        encoding = self._expected(size_bytes, self._cost.encode_seconds_per_byte)
        decoding = self._expected(size_bytes, self._cost.decode_seconds_per_byte)
        # A codec without a cost, ``none``, has none to learn: what its side copies is moving.
        if not encoding or not decoding:
            return
        if self._own is None:
            self._own = Factors(self._busy.encode.value, self._busy.decode.value)
        for factors in (self._own, self._busy):
            factors.encode.add(max(measured.encode_seconds, LEAST_SECONDS) / encoding)
            factors.decode.add(max(measured.decode_seconds, LEAST_SECONDS) / decoding)

    @property
    def _factors(self) -> Factors:
        return self._own or self._busy

    def _expected(self, size_bytes: int, seconds_per_byte: float) -> float:
        return self._cost.fixed_seconds + size_bytes * seconds_per_byte


@dataclass(slots=True)
class LearnedLink:
    bytes_per_second: SteadyAverage
    choices: int = 0
    measured_at: dict[CodecName, int] = field(default_factory=dict)
    """When each codec was last measured, in choices."""
    last: dict[int, CodecName] = field(default_factory=dict)
    """The last choice, by the magnitude of the size: its number of bits."""
    largest_bytes: int = 0
    """Of the cache, in a transfer that has told how fast the link is."""
    is_doubted: bool = False
    """Whether it may have become faster: the last transfer did not wait for it."""
    none_from: int = 0
    """The choice from which on ``none`` may be tried for that, again."""
    vain_tries: int = 0
    """Of ``none`` for that, since it was last the best."""

    def learn(
        self, codec: CodecName, size_bytes: int, latency_seconds: float, measured: Measured
    ) -> None:
        self.measured_at[codec] = self.choices
        is_bound = measured.is_link_bound
        if is_bound:
            self.largest_bytes = max(self.largest_bytes, size_bytes)
        if measured.move_seconds is not None:
            moving = measured.move_seconds - latency_seconds
            # What latency took most of says nothing of the bandwidth.
            if moving > latency_seconds or not latency_seconds:
                if is_bound and self.is_doubted:
                    self.bytes_per_second.doubt()
                payload_bytes = max(1, measured.payload_bytes)
                self.bytes_per_second.add(payload_bytes / max(moving, LEAST_SECONDS))
        self.is_doubted = not is_bound
